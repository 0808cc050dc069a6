"""Images in and out: what is accepted, what is refused and how to help, alpha, metadata.

Nothing is converted silently: an image that cannot be stored as it is raises ImageError.
"""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from caecodec.errors import CodecError, FormatError, ImageError
from caecodec.format.boxes import METADATA_BOXES
from caecodec.format.constants import MAX_SIDE, SIZE_LIMIT, Mode
from caecodec.format.container import check_size
from caecodec.format.grid import Region

Pixels = NDArray[np.uint8]
ImageLike = Image.Image | Pixels

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF",
    ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM",
}  # fmt: skip
"""Suffix -> Pillow format of the images that `decompress` writes."""
IMAGE_SUFFIXES = frozenset(FORMATS)
"""Suffixes by which a folder's images are found."""
_KEEPS_ALPHA = {"PNG", "WEBP", "AVIF", "TIFF"}
_KEEPS_METADATA = {"PNG", "JPEG", "WEBP", "AVIF", "TIFF"}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95},
}
_PNG_MAGIC = b"\x89PNG"
_EXIF_PREFIX = b"Exif\0\0"
_XMP_PNG_KEY = "XML:com.adobe.xmp"
_XMP_TIFF_TAG = 700
_PILLOW_LIMIT = threading.Lock()
_PLAIN_MODES = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}
_WEBP_MAX_SIDE = 16_383


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image ready for coding; its pixels stay where they are until a part is asked for.

    Attributes:
        mode: channels.
        source: an image of this mode, or uint8 (H, W) or (H, W, channels).
        metadata: any of icc_profile, exif (without the JPEG prefix), xmp, verbatim.
    """

    mode: Mode
    source: ImageLike
    metadata: dict[str, bytes]

    @property
    def whole(self) -> Region:
        """All of it, in pixels."""
        if isinstance(self.source, Image.Image):
            return Region(0, 0, self.source.height, self.source.width)
        return Region(0, 0, *self.source.shape[:2])

    def part(self, window: Region) -> Pixels:
        """Return the colour of a window, cut at the image's edge: (h, w) for L, LA; (h, w, 3)."""
        levels = self._levels(window.common(self.whole))
        if self.mode is Mode.LA:
            return levels[..., 0]
        return levels if self.mode is Mode.L else levels[..., :3]

    @property
    def color(self) -> Pixels:
        """The colour of the whole image."""
        return self.part(self.whole)

    @property
    def alpha(self) -> Pixels | None:
        """The alpha plane (H, W), if the mode has one."""
        if not self.mode.has_alpha:
            return None
        if isinstance(self.source, Image.Image):
            return np.asarray(self.source.getchannel("A"))
        return self.source[..., -1]

    def _levels(self, window: Region) -> Pixels:
        if isinstance(self.source, np.ndarray):
            return self.source[window.rows, window.columns]
        left, top = window.left, window.top
        return np.array(self.source.crop((left, top, left + window.width, top + window.height)))


def open_image(source: Path | BinaryIO, name: str, *, size_limit: int = SIZE_LIMIT) -> Image.Image:
    """Open and decode an image file.

    Raises:
        ImageError: it does not exist, is no image, is damaged, or is of a kind that is refused.
        LimitExceededError: more pixels than `size_limit`.
    """
    try:
        with _open_up_to(size_limit, source) as image:
            check_size(image.width, image.height, size_limit)
            _refuse(image)
            image.load()
            return image
    except CodecError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"no file {name}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: {error}") from error
    except Exception as error:  # damage makes Pillow's parsers raise whatever they meet
        raise ImageError(f"cannot read {name}: {_first_line(error)}") from error


def take_apart(image: ImageLike) -> Picture:
    """Take a PIL image or a uint8 array (H, W), (H, W, 3), (H, W, 4) as what a file stores.

    Raises:
        ImageError: a mode, shape or dtype that would need a silent conversion.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"a {type(image).__name__}, expected a PIL image or a uint8 array")
    _refuse(image)
    _check_sides(image.width, image.height)
    metadata = _metadata(image)
    target = _target_mode(image)
    try:
        plain = image if image.mode == target else image.convert(target)  # no copy of what fits
    except ValueError as error:
        raise ImageError(f"the image is damaged: {_first_line(error)}") from error
    return Picture(Mode[target], plain, metadata)


def with_alpha(color: Pixels, alpha: Pixels | None) -> Image.Image:
    """Return an image of colour (H, W) or (H, W, 3), and alpha (H, W) if there is any."""
    return Image.fromarray(color if alpha is None else np.dstack((color, alpha)))


def save_image(image: Image.Image, target: BinaryIO, image_format: str) -> list[str]:
    """Write an image in a Pillow format, with its metadata.

    Returns:
        Names of the metadata that the format cannot hold.

    Raises:
        ImageError: the format has no alpha channel, or Pillow cannot write it.
    """
    if "A" in image.getbands() and image_format not in _KEEPS_ALPHA:
        raise ImageError(f"{image_format} cannot hold alpha, choose .png, .webp, .avif or .tiff")
    metadata = {name: image.info[name] for name in METADATA_BOXES if name in image.info}
    kept = metadata if image_format in _KEEPS_METADATA else {}
    info, image.info = image.info, {}  # what the options do not name is not written
    try:
        options = _SAVE_OPTIONS.get(image_format, {}) | _metadata_options(kept, image_format)
        image.save(target, image_format, **options)
    except Exception as error:  # Pillow parses some metadata and raises whatever it meets
        raise ImageError(f"cannot write {image_format}: {_first_line(error)}") from error
    finally:
        image.info = info
    return sorted(set(metadata) - set(kept))


def encode_alpha(alpha: Pixels) -> bytes:
    """Code an alpha plane (H, W) without loss: WebP or PNG, the smaller. FORMAT.md section 8."""
    plane = Image.fromarray(alpha)
    candidates = [_saved(plane, "PNG", optimize=True)]
    if max(alpha.shape) <= _WEBP_MAX_SIDE:
        candidates.append(_saved(plane, "WEBP", lossless=True, quality=100, method=4))
    return min(candidates, key=len)


def decode_alpha(data: bytes, width: int, height: int) -> Pixels:
    """Inverse of `encode_alpha`.

    Raises:
        FormatError: not such a PNG or WebP image of this size.
    """
    try:
        kind = PngImageFile if data.startswith(_PNG_MAGIC) else WebPImageFile
        with kind(io.BytesIO(data)) as plane:  # Image.open has a limit; the size is checked here
            return _one_channel(plane, width, height)
    except CodecError:
        raise
    except Exception as error:  # damage makes Pillow's parsers raise whatever they meet
        raise FormatError(
            f"the alpha box is not a PNG or WebP image: {_first_line(error)}"
        ) from error


def _one_channel(plane: ImageFile.ImageFile, width: int, height: int) -> Pixels:
    """Return what alpha may be: 8-bit gray, or, as WebP has no gray, three equal channels."""
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


def _from_array(array: Pixels) -> Picture:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype}, expected uint8: scale the values to 0..255")
    if array.ndim == 2:
        height, width = array.shape
        channels = 1
    elif array.ndim == 3 and array.shape[2] in (3, 4):
        height, width, channels = array.shape
    else:
        raise ImageError(
            f"an array of shape {array.shape}, expected (H, W), (H, W, 3) or (H, W, 4)"
        )
    _check_sides(width, height)
    return Picture(Mode(channels), array, {})


def _refuse(image: Image.Image) -> None:
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a photo plus previews
        raise ImageError(
            "an animated or multi-page image is not supported: "
            "extract the frame you want and compress that"
        )
    raw_modes = [str(tile[3]) for tile in getattr(image, "tile", [])]
    if image.mode in {"I", "F"} or ";16" in image.mode or any(";16" in raw for raw in raw_modes):
        raise ImageError(
            "more than 8 bits per channel are not supported: convert to 8 bits per channel first"
        )
    if image.mode not in {*_PLAIN_MODES, "P", "PA"}:
        raise ImageError(f"colour mode {image.mode} is not supported: convert to RGB first")


def _check_sides(width: int, height: int) -> None:
    if not 1 <= width <= MAX_SIDE or not 1 <= height <= MAX_SIDE:
        raise ImageError(f"{width} x {height} pixels, expected 1 to {MAX_SIDE} a side")


def _open_up_to(size_limit: int, source: Path | BinaryIO) -> Image.Image:
    """Open an image, also beyond Pillow's own limit, which is a global: one thread at a time."""
    if size_limit <= SIZE_LIMIT:
        return Image.open(source)
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, size_limit
        try:
            return Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _target_mode(image: Image.Image) -> str:
    """Return the plain mode that holds this image without loss."""
    transparent = "transparency" in image.info
    if image.mode in {"P", "PA"}:
        return "RGBA" if transparent or image.mode == "PA" else "RGB"
    mode = _PLAIN_MODES[image.mode]
    if transparent and mode in {"L", "RGB"}:
        return {"L": "LA", "RGB": "RGBA"}[mode]
    return mode


def _metadata(image: Image.Image) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if image.info.get("icc_profile"):
        found["icc_profile"] = bytes(image.info["icc_profile"])
    if image.info.get("exif"):
        found["exif"] = bytes(image.info["exif"]).removeprefix(_EXIF_PREFIX)
    xmp = image.info.get("xmp") or image.info.get(_XMP_PNG_KEY)
    if xmp:
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    return found


def _metadata_options(metadata: Mapping[str, bytes], image_format: str) -> dict[str, Any]:
    """Return the keyword arguments of Pillow's `save` that write the metadata."""
    options: dict[str, Any] = dict(metadata)
    if "exif" in options and image_format in {"JPEG", "WEBP", "AVIF"}:
        options["exif"] = _EXIF_PREFIX + metadata["exif"]
    if "xmp" in options and image_format == "PNG":
        from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415 - only for PNG

        chunks = PngInfo()
        chunks.add_itxt(_XMP_PNG_KEY, options.pop("xmp").decode("utf-8", "surrogateescape"))
        options["pnginfo"] = chunks
    if "xmp" in options and image_format == "TIFF":
        options["tiffinfo"] = {_XMP_TIFF_TAG: options.pop("xmp")}
    return options


def _saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
