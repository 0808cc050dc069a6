"""Lossless blocks of a tile: their mask, and their pixels as a WebP file. FORMAT.md section 5.1."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from caecodec.errors import CodecError, FormatError, first_line
from caecodec.format.container import Header
from caecodec.format.grid import Region
from caecodec.format.lossless import LosslessBlocks, block_shape
from caecodec.image.picture import Pixels

Mask = NDArray[np.bool_]

_KIND = slice(12, 16)
_LOSSLESS = b"VP8L"


def blocks_of(color: Pixels, mask: Mask, block_log2: int) -> LosslessBlocks:
    """Return what stores some blocks of a tile.

    Args:
        color: of the tile, (H, W) or (H, W, 3).
        mask: bool (rows, columns), the blocks to store.
        block_log2: a block is 2**block_log2 pixels a side.
    """
    if not mask.all():
        color = color.copy()
        color[~pixel_mask(mask, block_log2, *color.shape[:2])] = 0
    packed = np.packbits(mask).tobytes()
    return LosslessBlocks(block_log2, packed, mask.size, encode_pixels(color))


def mask_of(blocks: LosslessBlocks, tile: Region) -> Mask:
    """Return which pixels (H, W) of a tile are in the lossless blocks."""
    bits = np.frombuffer(blocks.mask, np.uint8)
    mask = np.unpackbits(bits, count=blocks.num_blocks).astype(bool)
    shape = block_shape(tile, blocks.block_log2)
    return pixel_mask(mask.reshape(shape), blocks.block_log2, tile.height, tile.width)


def pixel_mask(mask: Mask, block_log2: int, height: int, width: int) -> Mask:
    """Return the pixels (H, W) of the blocks of a mask (rows, columns)."""
    rows, columns = (np.arange(length) >> block_log2 for length in (height, width))
    return mask[rows[:, None], columns]


def encode_pixels(color: Pixels) -> bytes:
    """Code pixels (H, W) or (H, W, 3) losslessly; gray is three equal channels."""
    buffer = io.BytesIO()
    image = Image.fromarray(color).convert("RGB")
    image.save(buffer, "WEBP", lossless=True, quality=100, method=5)
    return buffer.getvalue()


def pixels_of(blocks: LosslessBlocks, header: Header, number: int) -> Pixels:
    """Return the image (H, W) or (H, W, 3) that holds the lossless blocks of a tile.

    Args:
        blocks: of the tile.
        header: of the file.
        number: of the tile, in raster order.

    Raises:
        FormatError: it is not an image that section 5.1 allows.
    """
    tile = header.grid.at(1).tile_at(number)
    try:
        return decode_pixels(blocks.image, tile.height, tile.width, is_gray=header.mode.is_gray)
    except FormatError as error:
        raise FormatError(f"tile {number}: {error}") from error


def decode_pixels(data: bytes, height: int, width: int, *, is_gray: bool) -> Pixels:
    """Inverse of `encode_pixels`.

    Raises:
        FormatError: it is not a lossless WebP image of this size, or not gray where it should be.
    """
    if data[_KIND] != _LOSSLESS:
        raise FormatError("the lossless blocks are not a WebP image in its lossless mode")
    try:
        with WebPImageFile(io.BytesIO(data)) as image:  # Image.open has a limit
            _check(image, width, height)
            color = np.array(image)
    except CodecError:
        raise
    except Exception as error:  # on damage, Pillow's parsers raise anything
        raise FormatError(f"the lossless blocks cannot be read: {first_line(error)}") from error
    if not is_gray:
        return color
    if not (color == color[..., :1]).all():
        raise FormatError("the lossless blocks of a gray image have colour")
    return np.ascontiguousarray(color[..., 0])


def _check(image: Image.Image, width: int, height: int) -> None:
    if image.size != (width, height) or image.mode != "RGB":
        raise FormatError(
            f"lossless blocks of {image.width} x {image.height} {image.mode}, "
            f"expected {width} x {height} RGB"
        )
