"""The `.cae` container: header, boxes, checksums; bytes only. FORMAT.md sections 3 and 4."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from caecodec.errors import (
    BadMagicError,
    ChecksumMismatchError,
    FormatError,
    LimitExceededError,
    TruncatedError,
    UnsupportedVersionError,
)
from caecodec.format.boxes import (
    ALPHA_BOX,
    FRAME_BYTES,
    LOSSLESS_BOX,
    METADATA_BOXES,
    TILE_BOX,
    Box,
    box_at,
    describe,
    inflate,
    name_of,
    pack_box,
    read_metadata,
    skip_unknown,
    whole,
)
from caecodec.format.constants import (
    QUALITY_UNIT,
    SIZE_LIMIT,
    TILE_SIZES,
    VERSION,
    Mode,
)
from caecodec.format.grid import TileGrid
from caecodec.format.lossless import LosslessBlocks, unpack_blocks

MAGIC = b"\x89CAE\r\n\x1a\n"

_HEADER = struct.Struct("<BBHHH8sBB")  # 18 bytes after the magic, then the CRC-32
_CRC = struct.Struct("<I")
_TILE = struct.Struct("<I")
HEADER_BYTES = len(MAGIC) + _HEADER.size + _CRC.size


@dataclasses.dataclass(frozen=True)
class Header:
    """The fixed fields of a file.

    Attributes:
        mode: channels of the image.
        quality_units: quality in hundredths, 0..10000.
        width, height: in pixels, 1..65535.
        digest: first 8 bytes of the SHA-256 of the weights' tensors.
        tile_size: side of a tile in units of 16 pixels; 4, 8, 16, ..., 128.
    """

    mode: Mode
    quality_units: int
    width: int
    height: int
    digest: bytes
    tile_size: int

    @property
    def quality(self) -> float:
        """Quality, 0..100."""
        return self.quality_units / QUALITY_UNIT

    @property
    def grid(self) -> TileGrid:
        """The tiles that the file must hold, whatever the stride of its model."""
        return TileGrid(self.width, self.height, self.tile_size)

    def pack(self) -> bytes:
        """Return the magic, the fields and their CRC-32."""
        data = MAGIC + _HEADER.pack(
            VERSION,
            self.mode,
            self.quality_units,
            self.width,
            self.height,
            self.digest,
            self.tile_size.bit_length() - 1,
            0,
        )
        return data + _CRC.pack(zlib.crc32(data))


@dataclasses.dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes:
        symbols_crc: CRC-32 of the symbols that went into the payload.
        payload: the coded symbols.
        lossless: the blocks that are stored as they are, if there are any.
    """

    symbols_crc: int
    payload: bytes
    lossless: LosslessBlocks | None = None

    @property
    def is_lossless(self) -> bool:
        """Whether all of its pixels are."""
        blocks = self.lossless
        return blocks is not None and blocks.num_lossless == blocks.num_blocks

    @property
    def has_symbols(self) -> bool:
        """Whether it has a latent; one that is lossless as a whole may have none."""
        return bool(self.payload or self.symbols_crc) or not self.is_lossless


@dataclasses.dataclass(frozen=True)
class Container:
    """A whole file.

    Attributes:
        header: fixed fields.
        tiles: in raster order, `len(header.grid)` of them.
        alpha: losslessly coded alpha, or None; present exactly if the mode has alpha.
        metadata: any of icc_profile, exif, xmp, verbatim.
    """

    header: Header
    tiles: tuple[Tile, ...]
    alpha: bytes | None = None
    metadata: dict[str, bytes] = dataclasses.field(default_factory=dict)


def pack(container: Container) -> bytes:
    """Return the bytes of a file: header, metadata, alpha, then the tiles."""
    parts = [container.header.pack()]
    for name, kind in METADATA_BOXES.items():
        if name in container.metadata:
            parts.append(pack_box(kind, zlib.compress(container.metadata[name], 9)))
    if container.alpha is not None:
        parts.append(pack_box(ALPHA_BOX, container.alpha))
    for tile in container.tiles:
        if tile.lossless is not None:
            parts.append(pack_box(LOSSLESS_BOX, tile.lossless.pack()))
        parts.append(pack_box(TILE_BOX, _TILE.pack(tile.symbols_crc) + tile.payload))
    return b"".join(parts)


def unpack(data: bytes, *, size_limit: int = SIZE_LIMIT) -> Container:
    """Parse and check a file.

    Raises:
        FormatError: anything that FORMAT.md forbids; the subclass and the message name it.
        LimitExceededError: more pixels than `size_limit`.
    """
    header = unpack_header(data, size_limit=size_limit)
    tiles: list[Tile] = []
    alpha: bytes | None = None
    metadata: dict[str, bytes] = {}
    lossless: LosslessBlocks | None = None
    names = {kind: name for name, kind in METADATA_BOXES.items()}
    for box in _legal_boxes(data, header):
        if box.kind == TILE_BOX:
            tiles.append(dataclasses.replace(unpack_tile(box), lossless=lossless))
            lossless = None
        elif box.kind == LOSSLESS_BOX:
            lossless = unpack_lossless(box, header, len(tiles))
        elif box.kind == ALPHA_BOX:
            alpha = box.content
        elif box.kind in names:
            metadata[names[box.kind]] = inflate(box)
    return Container(header, tuple(tiles), alpha, metadata)


def unpack_header(data: bytes, *, size_limit: int = SIZE_LIMIT) -> Header:
    """Parse and check the first HEADER_BYTES bytes alone; as `unpack`."""
    if not data:
        raise TruncatedError("the file is empty")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise BadMagicError(
            f"not a .cae file: it starts with {data[:8].hex(' ')}, expected {MAGIC.hex(' ')}"
        )
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise UnsupportedVersionError(
            f"format version {data[len(MAGIC)]}, expected {VERSION}: "
            "made by a newer version, upgrade caecodec"
        )
    if len(data) < HEADER_BYTES:
        raise TruncatedError(
            f"the file ends at byte {len(data)}, expected {HEADER_BYTES} bytes of header"
        )
    end = HEADER_BYTES - _CRC.size
    if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
        raise ChecksumMismatchError("the header is damaged: its CRC-32 does not agree")
    header = _check_header(_HEADER.unpack_from(data, len(MAGIC)))
    check_size(header.width, header.height, size_limit)
    return header


def read_front(file: IO[bytes], *, size_limit: int = SIZE_LIMIT) -> tuple[Header, dict[str, bytes]]:
    """Read the header and the metadata from a file's start, and nothing of its tiles.

    Raises:
        FormatError: as `unpack`.
    """
    header = unpack_header(file.read(HEADER_BYTES), size_limit=size_limit)
    return header, read_metadata(file, HEADER_BYTES)


def check_size(width: int, height: int, limit: int) -> None:
    """Refuse an image of more pixels than the limit.

    Raises:
        LimitExceededError: it is one.
    """
    if width * height > limit:
        raise LimitExceededError(
            f"{width} x {height} pixels, expected at most {limit}: raise the size limit if you "
            "trust the file"
        )


def box_sizes(data: bytes, header: Header) -> list[tuple[str, int]]:
    """Return (type, bytes including its frame) of every box, in order; content is not checked."""
    boxes = _legal_boxes(data, header)
    return [(name_of(box), len(box.content) + FRAME_BYTES) for box in boxes]


def lossless_pixels(data: bytes, header: Header) -> dict[int, int]:
    """Return number -> pixels in lossless blocks of the tiles that have any; none are decoded."""
    found: dict[int, int] = {}
    number, grid = 0, header.grid.at(1)
    for box in _legal_boxes(data, header):
        if box.kind == LOSSLESS_BOX:
            blocks = unpack_lossless(box, header, number)
            found[number] = blocks.num_pixels(grid.tile_at(number))
        number += box.kind == TILE_BOX
    return found


def _check_header(fields: tuple[int, int, int, int, int, bytes, int, int]) -> Header:
    _, mode, quality_units, width, height, digest, tile_log2, reserved = fields
    if mode not in set(Mode):
        raise FormatError(f"colour mode {mode} at byte 9, expected 1 to 4")
    if quality_units > 100 * QUALITY_UNIT:
        raise FormatError(f"quality {quality_units} at byte 10, expected at most 10000")
    if not width or not height:
        raise FormatError(f"{width} x {height} pixels at byte 12, expected at least 1 x 1")
    if 2**tile_log2 not in TILE_SIZES:
        raise FormatError(f"tile size 2**{tile_log2} at byte 24, expected 2**2 to 2**7")
    if reserved:
        raise FormatError(f"reserved byte 25 is {reserved}, expected 0")
    return Header(Mode(mode), quality_units, width, height, digest, 2**tile_log2)


def _legal_boxes(data: bytes, header: Header) -> Iterator[Box]:
    """Yield the boxes, each where and as often as it may stand."""
    once = {*METADATA_BOXES.values(), *([ALPHA_BOX] if header.mode.has_alpha else [])}
    follows_a_tile = follows_pixels = False
    for box in _boxes(data, len(header.grid)):
        if box.kind == TILE_BOX:
            follows_a_tile, follows_pixels = True, False
        elif follows_pixels:
            raise FormatError(f"{describe(box)} follows lossless blocks, expected their tile")
        elif box.kind == LOSSLESS_BOX:
            follows_pixels = True
        elif follows_a_tile:
            raise FormatError(
                f"box {box.kind!r} at byte {box.offset} follows a tile, expected tiles last"
            )
        elif box.kind in once:
            once.remove(box.kind)
        else:
            skip_unknown(box)
        yield box
    if ALPHA_BOX in once:
        raise FormatError(f"no alpha box, expected one for mode {header.mode.name}")


def _boxes(data: bytes, num_tiles: int) -> Iterator[Box]:
    """Yield the boxes up to the last tile; nothing may follow it."""
    offset, tile = HEADER_BYTES, 0
    while tile < num_tiles:
        if len(data) < offset + FRAME_BYTES:
            missing = f"tile {tile}" if num_tiles == 1 else f"tile {tile} of {num_tiles} and on"
            raise TruncatedError(f"the file ends at byte {len(data)}: {missing} missing")
        try:
            box = box_at(data, offset)
        except TruncatedError as error:
            raise TruncatedError(f"{error}: cut before or within tile {tile}") from error
        if not box.is_whole and box.kind == TILE_BOX:
            raise ChecksumMismatchError(
                f"tile {tile} is damaged: {describe(box)} has another CRC-32"
            )
        yield whole(box)
        tile += box.kind == TILE_BOX
        offset = box.end
    if offset != len(data):
        raise FormatError(f"{len(data) - offset} bytes follow the last tile, expected none")


def unpack_tile(box: Box) -> Tile:
    """Split the content of a tile's box."""
    if len(box.content) < _TILE.size:
        raise FormatError(
            f"tile at byte {box.offset} holds {len(box.content)} bytes, "
            f"expected at least {_TILE.size}"
        )
    (crc,) = _TILE.unpack_from(box.content)
    return Tile(crc, box.content[_TILE.size :])


def unpack_lossless(box: Box, header: Header, number: int) -> LosslessBlocks:
    """Parse the box of a tile's lossless blocks; the image in it is not decoded."""
    grid = header.grid.at(1)
    try:
        return unpack_blocks(box.content, grid.tile_at(number), grid.side)
    except FormatError as error:
        raise FormatError(f"{describe(box)}: {error}") from error
