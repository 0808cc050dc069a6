"""Writing TIFF files around an EXIF, which is one itself."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import Image

from caecodec.errors import ImageError
from caecodec.image.exif import STRUCTURAL_TAGS, read_directory

_LEFT_OUT = STRUCTURAL_TAGS | {
    *(700, 34675),  # XMP and ICC profile, which are written beside the EXIF
    *(33421, 33422, 50706, 50707),  # mosaic of a sensor, DNG
    *(34732, 37724),  # layers
}
"""Tags that describe the pixels of the file that an EXIF came from, not of the one to write."""
_NO_EXIF = b"II*\0\x08\0\0\0" + bytes(6)
_KINDS = {"B": 1, "H": 3, "L": 4, "s": 7}
"""The kinds of values written, by their character in `struct`; `s` is a byte of no kind."""
_MAX_BYTES = (1 << 32) - (1 << 20)  # offsets have 32 bits; the directory is at the end
_BAND_BYTES = 1 << 20


def write_tiff(
    image: Image.Image,
    target: BinaryIO,
    *,
    exif: bytes = b"",
    icc_profile: bytes = b"",
    xmp: bytes = b"",
) -> None:
    """Write an image as an uncompressed TIFF file that starts with its EXIF.

    So every offset in the EXIF, those of maker notes too, stays right. Pixels, profile and XMP
    follow, then a directory with the descriptive tags of the EXIF and with those of the pixels.

    Args:
        image: of mode L, LA, RGB or RGBA.
        target: need not be seekable.
        exif: without the JPEG prefix.
        icc_profile: any bytes.
        xmp: any bytes.

    Raises:
        ImageError: the EXIF is damaged, or the file would reach 4 GB.

    Source: TIFF 6.0, sections 2, 8 and 18.
    """
    front = exif or _NO_EXIF
    front += bytes(len(front) % 2)
    directory = read_directory(front)
    order, entries = directory.byte_order, directory.entries
    entries = {tag: entry for tag, entry in entries.items() if tag not in _LEFT_OUT}
    num_bytes = image.width * image.height * len(image.getbands())
    tail_at, tail = len(front) + num_bytes, bytearray(num_bytes % 2)
    if tail_at + len(icc_profile) + len(xmp) > _MAX_BYTES:
        raise ImageError("it would have more than 4 GB")
    for tag, (kind, data) in _fields(image, order, len(front), icc_profile, xmp).items():
        value = data
        if len(data) > 4:
            value = struct.pack(f"{order}L", tail_at + len(tail))
            tail += data + bytes(len(data) % 2)
        count = len(data) // struct.calcsize(f"={kind}")
        entries[tag] = struct.pack(f"{order}HHL4s", tag, _KINDS[kind], count, value)
    target.write(front[:4] + struct.pack(f"{order}L", tail_at + len(tail)) + front[8:])
    _write_pixels(image, target)
    target.write(tail)
    in_order = b"".join(entries[tag] for tag in sorted(entries))
    target.write(struct.pack(f"{order}H", len(entries)) + in_order + bytes(4))


def _fields(
    image: Image.Image, order: str, pixels_at: int, icc_profile: bytes, xmp: bytes
) -> dict[int, tuple[str, bytes]]:
    """Return the kind and value of each tag that this file needs."""
    bands = image.getbands()
    numbers: dict[int, tuple[str, list[int]]] = {
        256: ("L", [image.width]),
        257: ("L", [image.height]),
        258: ("H", [8] * len(bands)),  # bits
        259: ("H", [1]),  # uncompressed
        262: ("H", [2 if "R" in bands else 1]),  # RGB, or black is 0
        273: ("L", [pixels_at]),
        277: ("H", [len(bands)]),
        278: ("L", [image.height]),  # all rows in one strip
        279: ("L", [image.width * image.height * len(bands)]),
        284: ("H", [1]),  # channels interleaved
    }
    if "A" in bands:
        numbers[338] = ("H", [2])  # alpha that colours are not multiplied by
    fields = {
        tag: (kind, struct.pack(f"{order}{len(values)}{kind}", *values))
        for tag, (kind, values) in numbers.items()
    }
    if xmp:
        fields[700] = ("B", xmp)
    if icc_profile:
        fields[34675] = ("s", icc_profile)
    return fields


def _write_pixels(image: Image.Image, target: BinaryIO) -> None:
    """Write the rows from the top, some at a time, so that no second copy of all is held."""
    num_rows = max(1, _BAND_BYTES // (image.width * len(image.getbands())))
    for top in range(0, image.height, num_rows):
        bottom = min(top + num_rows, image.height)
        target.write(image.crop((0, top, image.width, bottom)).tobytes())
