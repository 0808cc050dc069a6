"""Bits per channel of an image file: where Pillow would cut them to 8, its header says how many."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import IO

from PIL import Image

from caecodec.image.formats.boxes import boxes, properties

_PACKED = re.compile(r"(RGB|BGR)A?;1[56]Z?")
"""Raw modes whose number is the bits of a whole pixel, at most 6 a channel."""
_TIFF_BITS = 258
_PNG = b"\x89PNG\r\n\x1a\n"
_CODESTREAM = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream starts: its first markers, SOC and SIZ."""


def channel_bits(image: Image.Image) -> int:
    """Return the most bits per channel in an image; of a file, until its pixels are loaded."""
    bits = [{"I": 32, "F": 32}.get(image.mode, 8)]
    bits += map(int, re.findall(r";(\d+)", image.mode))
    bits += [value for tile in getattr(image, "tile", []) for value in _tile_bits(tile[0], tile[3])]
    bits += getattr(image, "tag_v2", {}).get(_TIFF_BITS, ())
    if getattr(image, "pixel_format", "").startswith("BC6H"):  # DDS, 16-bit floats
        bits.append(16)
    file = getattr(image, "fp", None)
    is_loaded = not getattr(image, "tile", None) and image.format not in _WITHOUT_TILES
    if file and not is_loaded and image.format in _IN_HEADER:
        bits += _read(file, image.format)
    return max(bits)


def _tile_bits(codec: str, arguments: object) -> Iterator[int]:
    """Yield what a decoder's arguments say about the file's samples."""
    words = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec == "SGI16":
        yield 16
    elif codec in {"ppm", "ppm_plain"}:
        yield from (word.bit_length() for word in words if isinstance(word, int))
    elif codec == "dds_rgb":
        masks = [word for word in words if isinstance(word, tuple)]
        yield from (mask.bit_count() for group in masks for mask in group)
    for word in words:
        if isinstance(word, str) and not _PACKED.fullmatch(word):
            yield from map(int, re.findall(r";(\d+)", word))


def _read(file: IO[bytes], image_format: str) -> list[int]:
    place = file.tell()
    try:
        return list(_IN_HEADER[image_format](file))
    except (struct.error, IndexError):  # cut short: the decoder says so
        return []
    finally:
        file.seek(place)


def _avif(file: IO[bytes]) -> Iterator[int]:
    """Yield the bits of all pictures in a file, alpha and tiles of a grid included."""
    for kind, first, last in properties(file):
        if kind in {b"av1C", b"hvcC", b"pixi"}:
            file.seek(first)
            yield from _property_bits(kind, file.read(min(last - first, 64)))


def _property_bits(kind: bytes, content: bytes) -> Iterator[int]:
    if kind == b"pixi":  # version and flags, number of channels, bits of each
        yield from content[5 : 5 + content[4]]
    elif kind == b"hvcC":
        yield from (8 + (content[17] & 7), 8 + (content[18] & 7))
    elif content[2] & 0x40:  # high_bitdepth, then twelve_bit
        yield 12 if content[2] & 0x20 else 10


def _jpeg2000(file: IO[bytes]) -> Iterator[int]:
    file.seek(0)
    if file.read(4) == _CODESTREAM:
        yield from _components(file)
        return
    for kind, first, _ in boxes(file, 0, file.seek(0, io.SEEK_END)):
        if kind == b"jp2c":
            file.seek(first + len(_CODESTREAM))
            yield from _components(file)


def _components(file: IO[bytes]) -> Iterator[int]:
    """Yield the bits of each component, from the SIZ segment after its marker."""
    head = file.read(38)
    (number,) = struct.unpack_from(">H", head, 36)
    yield from ((depth & 0x7F) + 1 for depth in file.read(3 * number)[::3])


def _icons(file: IO[bytes]) -> Iterator[int]:
    """Yield the bits of the PNG and JPEG 2000 images that a file of icons is made of."""
    file.seek(0)
    data = file.read()
    for found in re.finditer(re.escape(_PNG), data):
        yield from data[found.start() + 24 : found.start() + 25]
    for found in re.finditer(re.escape(_CODESTREAM), data):
        file.seek(found.end())
        yield from _components(file)


_IN_HEADER = {
    "AVIF": _avif, "HEIF": _avif, "JPEG2000": _jpeg2000, "ICO": _icons, "ICNS": _icons,
}  # fmt: skip
"""Formats that Pillow reads deep without a sign -> what reads the bits."""
_WITHOUT_TILES = {"HEIF"}
"""Those of plugins that do not tell Pillow where the pixels are."""
