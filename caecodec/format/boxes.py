"""Boxes, of which a `.cae` file is made after its header. FORMAT.md section 3."""

from __future__ import annotations

import dataclasses
import os
import struct
import zlib
from typing import IO

from caecodec.errors import (
    ChecksumMismatchError,
    FormatError,
    LimitExceededError,
    TruncatedError,
    UnsupportedVersionError,
)

MAX_METADATA = 64 * 2**20
"""Bytes of one metadata box, inflated."""
TILE_BOX = b"TILE"
LOSSLESS_BOX = b"PIXL"
ALPHA_BOX = b"ALPH"
METADATA_BOXES = {"icc_profile": b"iccp", "exif": b"exif", "xmp": b"xmp "}

_FRAME = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
FRAME_BYTES = _FRAME.size + _CRC.size
"""Bytes of a box beyond its content."""


@dataclasses.dataclass(frozen=True)
class Box:
    """One box of a file.

    Attributes:
        kind: its type.
        content: what its frame holds.
        offset, end: of its first byte in the file, and of the first one after it.
        is_whole: whether its CRC-32 agrees.
    """

    kind: bytes
    content: bytes
    offset: int
    end: int
    is_whole: bool


def box_at(data: bytes, offset: int) -> Box:
    """Return the box whose frame starts at an offset; its CRC-32 need not agree.

    Raises:
        TruncatedError: the file ends before the box does.
    """
    if len(data) < offset + _FRAME.size:
        raise TruncatedError(f"the file ends at byte {len(data)} within a box at byte {offset}")
    kind, length = _FRAME.unpack_from(data, offset)
    start, crc = offset + _FRAME.size, offset + _FRAME.size + length
    end = crc + _CRC.size
    if len(data) < end:
        raise TruncatedError(
            f"box {kind!r} at byte {offset} ends at byte {end}, the file at byte {len(data)}"
        )
    is_whole = _CRC.unpack_from(data, crc)[0] == zlib.crc32(memoryview(data)[offset:crc])
    return Box(kind, data[start:crc], offset, end, is_whole)


def read_metadata(file: IO[bytes], offset: int) -> dict[str, bytes]:
    """Return the metadata boxes before the first tile, from a file that stands at a box's frame.

    Args:
        file: seekable; boxes of other types are not read.
        offset: of that frame, for messages.

    Raises:
        FormatError: one of them is damaged or repeated, or a newer version made the file.
    """
    metadata: dict[str, bytes] = {}
    names = {kind: name for name, kind in METADATA_BOXES.items()}
    while len(frame := file.read(_FRAME.size)) == _FRAME.size:
        kind, length = _FRAME.unpack(frame)
        if kind in {TILE_BOX, LOSSLESS_BOX}:
            break
        if kind not in names or names[kind] in metadata:
            if kind != ALPHA_BOX:
                skip_unknown(Box(kind, b"", offset, offset + length + FRAME_BYTES, is_whole=True))
            file.seek(length + _CRC.size, os.SEEK_CUR)
        elif length > 2 * MAX_METADATA:
            raise LimitExceededError(f"box {kind!r} at byte {offset} holds {length} bytes")
        else:
            box = box_at(frame + file.read(length + _CRC.size), 0)
            metadata[names[kind]] = inflate(whole(dataclasses.replace(box, offset=offset)))
        offset += length + FRAME_BYTES
    return metadata


def describe(box: Box) -> str:
    """Name a box by type and place."""
    return f"box {box.kind!r} at byte {box.offset}"


def whole(box: Box) -> Box:
    """Return a box whose CRC-32 agrees.

    Raises:
        ChecksumMismatchError: it does not.
    """
    if not box.is_whole:
        raise ChecksumMismatchError(f"{describe(box)} is damaged: its CRC-32 does not agree")
    return box


def pack_box(kind: bytes, content: bytes) -> bytes:
    """Return a box with its frame."""
    data = _FRAME.pack(kind, len(content)) + content
    return data + _CRC.pack(zlib.crc32(data))


def inflate(box: Box) -> bytes:
    """Return the metadata in a box."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(box.content, MAX_METADATA + 1)
    except zlib.error as error:
        raise FormatError(f"box {name_of(box)} at byte {box.offset} is not zlib data") from error
    if len(content) > MAX_METADATA:
        raise LimitExceededError(
            f"box {name_of(box)} at byte {box.offset} inflates to more than {MAX_METADATA} bytes"
        )
    if not inflater.eof or inflater.unused_data:
        raise FormatError(f"box {name_of(box)} at byte {box.offset} is not one whole zlib stream")
    return content


def skip_unknown(box: Box) -> None:
    """Let an optional box pass; its type starts with a lower-case letter."""
    if box.kind in {TILE_BOX, LOSSLESS_BOX, ALPHA_BOX, *METADATA_BOXES.values()}:
        raise FormatError(
            f"box {name_of(box)} at byte {box.offset} is repeated or does not fit the colour mode"
        )
    if not 97 <= box.kind[0] <= 122:
        raise UnsupportedVersionError(
            f"critical box {box.kind!r} at byte {box.offset} is unknown: "
            "made by a newer version, upgrade caecodec"
        )


def name_of(box: Box) -> str:
    """Return a box's type as text."""
    return box.kind.decode("latin-1").strip()
