"""What is left of a damaged file. FORMAT.md section 4 defines a whole one."""

from __future__ import annotations

import dataclasses

from caecodec.errors import FormatError, TruncatedError, UnsupportedVersionError
from caecodec.format.boxes import (
    ALPHA_BOX,
    METADATA_BOXES,
    TILE_BOX,
    Box,
    box_at,
    describe,
    inflate,
    skip_unknown,
)
from caecodec.format.constants import SIZE_LIMIT
from caecodec.format.container import HEADER_BYTES, Container, Tile, unpack_header, unpack_tile

_KNOWN = (TILE_BOX, ALPHA_BOX, *METADATA_BOXES.values())
_MAX_STARTS = 64
"""Places at which a run of tiles is looked for: bounds the work that a hostile file can ask."""


@dataclasses.dataclass(frozen=True)
class Remains:
    """The intact parts of a file.

    Attributes:
        container: as of a whole file; a lost tile is there without payload, lost alpha is None.
        lost_tiles: number in raster order -> what happened to it.
        notes: what happened to alpha and metadata.
    """

    container: Container
    lost_tiles: dict[int, str]
    notes: tuple[str, ...]


def salvage(data: bytes, *, size_limit: int = SIZE_LIMIT) -> Remains:
    """Read every box that is whole.

    After a box whose length cannot be trusted, the tiles that follow are found from the end of the
    file: they are the last ones of the image if whole boxes reach to its last byte.

    Raises:
        FormatError: the header is damaged, or a newer version made the file.
        LimitExceededError: more pixels than `size_limit`.
    """
    header = unpack_header(data, size_limit=size_limit)
    count = len(header.grid)
    tiles: dict[int, Tile] = {}
    lost: dict[int, str] = {}
    parts: dict[str, bytes] = {}
    notes: list[str] = []
    names = {kind: name for name, kind in METADATA_BOXES.items()}
    if header.mode.has_alpha:
        names[ALPHA_BOX] = "alpha"
    number, offset = 0, HEADER_BYTES
    while number < count:
        try:
            box = box_at(data, offset)
        except TruncatedError:
            box = None
        if box is None or not (box.is_whole or _is_followed_by_a_box(data, box)):
            reason = f"the file is damaged from byte {offset} on"
            rest = _tiles_to_the_end(data, offset + 1)[number - count :]
            tiles |= dict(enumerate(rest, count - len(rest)))
            lost |= dict.fromkeys(range(number, count - len(rest)), reason)
            if number == count - len(rest):  # no tile is lost: what is stood before them
                notes.append(f"{reason} up to tile {number}: left out")
            break
        offset = box.end
        if box.kind == TILE_BOX:
            try:
                tiles[number] = _tile(box)
            except FormatError as error:
                lost[number] = str(error)
            number += 1
            continue
        notes += _keep(box, parts, names)
    else:
        if offset != len(data):
            notes.append(f"{len(data) - offset} bytes follow the last tile: left out")
    if header.mode.has_alpha and "alpha" not in parts:
        notes.append("alpha is lost: the image is opaque")
    alpha = parts.pop("alpha", None)
    found = tuple(tiles.get(index, Tile(0, b"")) for index in range(count))
    return Remains(Container(header, found, alpha, parts), lost, tuple(notes))


def _tile(box: Box) -> Tile:
    if not box.is_whole:
        raise FormatError(f"{describe(box)} is damaged")
    return unpack_tile(box)


def _keep(box: Box, parts: dict[str, bytes], names: dict[bytes, str]) -> list[str]:
    """Add alpha or metadata to the parts, each once, and return what is wrong with the box.

    Raises:
        UnsupportedVersionError: a critical box that is not known.
    """
    if not box.is_whole:
        return [f"{describe(box)} is damaged: left out"]
    name = names.get(box.kind)
    try:
        if name is None or name in parts:
            skip_unknown(box)
        else:
            parts[name] = box.content if box.kind == ALPHA_BOX else inflate(box)
    except UnsupportedVersionError:
        raise
    except FormatError as error:
        return [f"{error}: left out"]
    return []


def _is_followed_by_a_box(data: bytes, box: Box) -> bool:
    """Whether a damaged box's length can be trusted: it is known, and so is what follows."""
    return box.kind in _KNOWN and (box.end == len(data) or data[box.end : box.end + 4] in _KNOWN)


def _tiles_to_the_end(data: bytes, start: int) -> list[Tile]:
    """Return the longest run of whole tile boxes that ends with the file."""
    for _ in range(_MAX_STARTS):
        start = data.find(TILE_BOX, start)
        if start < 0:
            break
        tiles, offset = [], start
        try:
            while offset < len(data):
                box = box_at(data, offset)
                if box.kind != TILE_BOX:
                    break
                tiles.append(_tile(box))
                offset = box.end
        except FormatError:
            pass
        if offset == len(data):
            return tiles
        start += 1
    return []
