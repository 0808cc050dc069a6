"""EXIF blocks, each a TIFF file without pixels: their first directory; a resolution in them."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

from caecodec.errors import ImageError

EXIF_PREFIX = b"Exif\0\0"
"""What goes before an EXIF block in JPEG and WebP files."""
STRUCTURAL_TAGS = frozenset({
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284),
    *(288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 326),
    *(327, 328, 330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 343, 344, 345, 346, 347),
    *(351, 400, 401, 402, 403, 404, 405, 433, 434, 435, 512, 513, 514, 515, 517, 518, 519, 520),
    *(521, 529, 530, 531, 532, 559, 32995, 32996, 32997, 50838, 50839),
})  # fmt: skip
"""Tags of TIFF 6.0 and its supplements that say how pixels are laid out and coded."""
ORIENTATION = 274
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_INCH, _CENTIMETRE = 2, 3
_DPI_PER_UNIT = {_INCH: 1.0, _CENTIMETRE: 2.54}
_MAX_DPI = 65_535  # of a JPEG
UNKNOWN_DPI = 72
"""What EXIF prescribes where the resolution is not known."""
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_KIND_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value of each kind."""
_NUMBER_KINDS = {3: "H", 4: "L", 5: "LL", 13: "L"}
_MAX_ENTRIES = 4096
_SUBDIRECTORIES: dict[int, Any] = {_EXIF: {_INTEROPERABILITY: {}}, _GPS: {}}
"""Tags that point to further directories, and what those point to."""
_NUMBERS = {
    *(ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT),
    *(_EXIF, _GPS, _INTEROPERABILITY),
}
"""Tags that readers rely on, so each must be one number."""


@dataclasses.dataclass(frozen=True)
class Directory:
    """The first directory of an EXIF.

    Attributes:
        byte_order: `<` or `>`, as in `struct`.
        entries: by tag, the 12 bytes of each readable entry: tag, kind, count, value or its offset.
        numbers: value of orientation, resolution and pointers to directories; 0 for x/0.
    """

    byte_order: str
    entries: dict[int, bytes]
    numbers: dict[int, float]


def read_directory(exif: bytes) -> Directory:
    """Return the first directory of an EXIF without the JPEG prefix.

    Entries of an unknown kind are left out.

    Raises:
        ImageError: it, or a directory that it points to, is damaged: no header, a value outside
            the EXIF, or not a number where readers rely on one.
    """
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        raise ImageError("the EXIF has no TIFF header")
    try:
        (start,) = struct.unpack_from(f"{order}L", exif, 4)
        return _directory_at(exif, order, start, _SUBDIRECTORIES)
    except struct.error as error:
        raise ImageError("the EXIF points beyond its end") from error


def _directory_at(
    exif: bytes, order: str, start: int, subdirectories: Mapping[int, Any]
) -> Directory:
    """Return the directory at an offset, after a look at those that it points to."""
    directory = Directory(order, {}, {})
    (num_entries,) = struct.unpack_from(f"{order}H", exif, start)
    if num_entries > _MAX_ENTRIES:
        raise ImageError(f"the EXIF has {num_entries} entries, expected at most {_MAX_ENTRIES}")
    for place in range(start + 2, start + 2 + 12 * num_entries, 12):
        tag, kind, count, offset = struct.unpack_from(f"{order}HHLL", exif, place)
        num_bytes = count * _KIND_BYTES.get(kind, 0)
        if not num_bytes or tag in directory.entries:
            continue
        at = offset if num_bytes > 4 else place + 8
        if at + num_bytes > len(exif):
            raise ImageError(f"the value of EXIF tag {tag} lies beyond its end")
        directory.entries[tag] = exif[place : place + 12]
        if tag in _NUMBERS:
            if kind not in _NUMBER_KINDS or count != 1:
                raise ImageError(f"EXIF tag {tag} is not a number")
            value, *divisor = struct.unpack_from(f"{order}{_NUMBER_KINDS[kind]}", exif, at)
            directory.numbers[tag] = _ratio(value, *divisor)
        if tag in subdirectories:
            _directory_at(exif, order, int(directory.numbers[tag]), subdirectories[tag])
    return directory


def _ratio(value: int, divisor: int = 1) -> float:
    return value / divisor if divisor else 0


def is_sound(exif: bytes) -> bool:
    """Whether `read_directory` can read it."""
    try:
        read_directory(exif)
    except ImageError:
        return False
    return True


def dpi_of(exif: bytes) -> tuple[float, float] | None:
    """Return the horizontal and vertical dots per inch, or None.

    None if there are none, if they are not within 1 to 65,535, or if the EXIF is damaged.
    """
    try:
        numbers = read_directory(exif).numbers
    except ImageError:
        return None
    scale = _DPI_PER_UNIT.get(int(numbers.get(_RESOLUTION_UNIT, _INCH)), 0)
    across, down = (numbers.get(tag, 0) * scale for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    return (across, down) if min(across, down) >= 1 and max(across, down) <= _MAX_DPI else None


def exif_of_dpi(dpi: tuple[float, float]) -> bytes:
    """Return an EXIF block that holds a resolution in pixels per inch; empty for an unknown one."""
    if all(round(value) in {0, 1, UNKNOWN_DPI} for value in dpi):
        return b""
    exif = Image.Exif()
    exif.endian = "<"
    exif[_X_RESOLUTION], exif[_Y_RESOLUTION], exif[_RESOLUTION_UNIT] = dpi[0], dpi[1], _INCH
    return exif.tobytes().removeprefix(EXIF_PREFIX)


def has_resolution(exif: bytes) -> bool:
    """Return whether an EXIF block states a resolution, or is too damaged to tell."""
    fields = Image.Exif()
    try:
        fields.load(exif)
    except Exception:  # noqa: BLE001 - Pillow's parser raises anything
        return True
    return _X_RESOLUTION in fields
