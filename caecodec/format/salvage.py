"""What is left of a damaged file. FORMAT.md section 4 defines a whole one."""

from __future__ import annotations

import dataclasses

from caecodec.errors import FormatError, TruncatedError, UnsupportedVersionError
from caecodec.format.boxes import (
    ALPHA_BOX,
    LOSSLESS_BOX,
    METADATA_BOXES,
    TILE_BOX,
    Box,
    box_at,
    describe,
    inflate,
    skip_unknown,
)
from caecodec.format.constants import SIZE_LIMIT
from caecodec.format.container import (
    HEADER_BYTES,
    Container,
    Header,
    Tile,
    unpack_header,
    unpack_lossless,
    unpack_tile,
)

_KNOWN = (TILE_BOX, LOSSLESS_BOX, ALPHA_BOX, *METADATA_BOXES.values())
_WEBP_PIXELS = b"VP8L"
"""What the content of a box of lossless blocks holds, in case that its type is damaged."""
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
    parts: dict[str, bytes] = {}
    notes: list[str] = []
    names = {kind: name for name, kind in METADATA_BOXES.items()}
    if header.mode.has_alpha:
        names[ALPHA_BOX] = "alpha"
    found: list[list[Box]] = []
    group: list[Box] = []
    offset = HEADER_BYTES
    while len(found) < count and (box := _trusted_box(data, offset)):
        offset = box.end
        if box.kind not in {TILE_BOX, LOSSLESS_BOX}:
            notes += _keep(box, parts, names)
            continue
        group.append(box)
        if box.kind == TILE_BOX:
            found.append(group)
            group = []
    groups = dict(enumerate(found))
    damage = f"the file is damaged from byte {offset} on"
    if len(found) < count:
        groups |= _after_damage(data, offset, group, range(len(found), count))
        if len(groups) == count:  # no tile is missing: what is stood before them
            notes.append(f"{damage} up to tile {len(found)}: left out")
    elif offset != len(data):
        notes.append(f"{len(data) - offset} bytes follow the last tile: left out")
    if header.mode.has_alpha and "alpha" not in parts:
        notes.append("alpha is lost: the image is opaque")
    alpha = parts.pop("alpha", None)
    tiles, lost = _unpacked(groups, header, damage)
    return Remains(Container(header, tiles, alpha, parts), lost, tuple(notes))


def _unpacked(
    groups: dict[int, list[Box]], header: Header, damage: str
) -> tuple[tuple[Tile, ...], dict[int, str]]:
    """Return all tiles, and what happened to those that are lost.

    Args:
        groups: boxes of the tiles, by number.
        header: of the file.
        damage: what happened to tiles that are not there.
    """
    tiles, lost = [Tile(0, b"")] * len(header.grid), {}
    for number in range(len(tiles)):
        if number not in groups:
            lost[number] = damage
            continue
        try:
            tiles[number] = _tile(groups[number], header, number)
        except FormatError as error:
            lost[number] = str(error)
    return tuple(tiles), lost


def _tile(boxes: list[Box], header: Header, number: int) -> Tile:
    """Return a tile from its boxes, which end with the one of its symbols.

    Raises:
        FormatError: one of them is damaged, or there are too many.
    """
    *pixels, symbols = boxes
    for box in pixels:
        if not box.is_whole:
            raise FormatError(f"its lossless blocks are damaged: {describe(box)}")
    if not symbols.is_whole:
        raise FormatError(f"{describe(symbols)} is damaged")
    if len(pixels) > 1:
        raise FormatError(f"{describe(pixels[1])} follows lossless blocks")
    lossless = unpack_lossless(pixels[0], header, number) if pixels else None
    return dataclasses.replace(unpack_tile(symbols), lossless=lossless)


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


def _trusted_box(data: bytes, offset: int) -> Box | None:
    """Return the box at an offset, unless neither its CRC-32 nor what follows speaks for it."""
    try:
        box = box_at(data, offset)
    except TruncatedError:
        return None
    return box if box.is_whole or _is_followed_by_a_box(data, box) else None


def _is_followed_by_a_box(data: bytes, box: Box) -> bool:
    """Whether a damaged box's length can be trusted: it is known, and so is what follows."""
    return box.kind in _KNOWN and (box.end == len(data) or data[box.end : box.end + 4] in _KNOWN)


def _after_damage(
    data: bytes, offset: int, pending: list[Box], numbers: range
) -> dict[int, list[Box]]:
    """Return the boxes of the tiles after damage, by number.

    Args:
        data: the file.
        offset: of the first byte that is damaged.
        pending: boxes before it that belong to the first tile.
        numbers: of the tiles that are still to be found.
    """
    run = _tiles_to_the_end(data, offset + 1)[-len(numbers) :]
    first = numbers.stop - len(run)
    groups = dict(enumerate(run, first))
    if first == numbers.start:
        run[0][:0] = pending
    if run and len(run[0]) == 1 and _may_hold_blocks(data[offset : run[0][0].offset]):
        gap = Box(LOSSLESS_BOX, b"", offset, run[0][0].offset, is_whole=False)
        run[0].insert(0, gap)
    return groups


def _may_hold_blocks(gap: bytes) -> bool:
    """Whether damage before a tile seems to have been a box of lossless blocks."""
    return LOSSLESS_BOX in gap or (_WEBP_PIXELS in gap and ALPHA_BOX not in gap)


def _tiles_to_the_end(data: bytes, start: int) -> list[list[Box]]:
    """Return the boxes of each tile of the longest run of whole ones that ends with the file."""
    for _ in range(_MAX_STARTS):
        found = [data.find(kind, start) for kind in (TILE_BOX, LOSSLESS_BOX)]
        start = min((place for place in found if place >= 0), default=len(data))
        tiles, offset = _run(data, start)
        if offset == len(data):
            return tiles
        start += 1
    return []


def _run(data: bytes, offset: int) -> tuple[list[list[Box]], int]:
    """Return the boxes of each tile from an offset on, and where no whole one follows."""
    tiles: list[list[Box]] = [[]]
    while offset < len(data):
        try:
            box = box_at(data, offset)
        except TruncatedError:
            break
        if not box.is_whole or box.kind not in {TILE_BOX, LOSSLESS_BOX}:
            break
        tiles[-1].append(box)
        offset = box.end
        if box.kind == TILE_BOX:
            tiles.append([])
    return tiles[:-1], offset
