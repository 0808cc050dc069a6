"""The alpha plane, coded losslessly as a PNG or WebP image. FORMAT.md section 8."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from caecodec.errors import CodecError, FormatError, first_line
from caecodec.image.picture import Pixels

_PNG_MAGIC = b"\x89PNG"
_WEBP_MAX_SIDE = 16_383


def with_alpha(color: Pixels, alpha: Pixels | None) -> Image.Image:
    """Return an image of colour (H, W) or (H, W, 3), with alpha (H, W) if there is any."""
    return Image.fromarray(color if alpha is None else np.dstack((color, alpha)))


def encode_alpha(alpha: Pixels) -> bytes:
    """Code an alpha plane (H, W) losslessly, as WebP or PNG, whichever is smaller."""
    plane = Image.fromarray(alpha)
    candidates = [_saved(plane, "PNG", optimize=True)]
    if max(alpha.shape) <= _WEBP_MAX_SIDE:
        candidates.append(_saved(plane, "WEBP", lossless=True, quality=100, method=4))
    return min(candidates, key=len)


def decode_alpha(data: bytes, width: int, height: int) -> Pixels:
    """Inverse of `encode_alpha`.

    Raises:
        FormatError: it is not an 8-bit gray PNG or WebP image of this size.
    """
    try:
        kind = PngImageFile if data.startswith(_PNG_MAGIC) else WebPImageFile
        with kind(io.BytesIO(data)) as plane:  # Image.open has a limit; the size is checked here
            return _one_channel(plane, width, height)
    except CodecError:
        raise
    except Exception as error:  # on damage, Pillow's parsers raise anything
        raise FormatError(
            f"the alpha box is not a PNG or WebP image: {first_line(error)}"
        ) from error


def _one_channel(plane: ImageFile.ImageFile, width: int, height: int) -> Pixels:
    """Return 8-bit gray or, as WebP has no gray, one of three equal channels."""
    if plane.size != (width, height):
        raise FormatError(f"alpha is {plane.width} x {plane.height}, expected {width} x {height}")
    raw_modes = {str(tile[3]) for tile in plane.tile} if plane.format == "PNG" else set()
    if plane.format == "PNG" and plane.mode == "L" and raw_modes == {"L"}:
        return np.array(plane)
    if plane.mode == "RGB" and plane.format == "WEBP" and getattr(plane, "n_frames", 1) == 1:
        channels = np.array(plane)
        if (channels == channels[..., :1]).all():
            return np.ascontiguousarray(channels[..., 0])
    raise FormatError(f"the alpha box holds a {plane.mode} {plane.format}, expected 8-bit gray")


def _saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()
