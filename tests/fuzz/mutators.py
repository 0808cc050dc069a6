"""Ways to change a `.cae` file, shared by the tests, the fuzz targets and bench/mutations.py.

*Damage* is a change that a checksum can show. A *forgery* has right checksums: it may be a valid
file of another image.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from caecodec.format.constants import Mode
from caecodec.format.container import HEADER_BYTES

GOLDEN = Path(__file__).parents[1] / "golden"
SIZE_LIMIT = 2**20
"""Most pixels for a decoder that is handed forgeries: a header's claim alone costs memory."""

_CRC_BYTES = 4
_FRAME_BYTES = 8
"""Of a box before its content."""
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TILE, _LOSSLESS = b"TILE", b"PIXL"
_WEBP_MAGIC = b"RIFF"
_FIELDS = {"mode": (9, 1), "quality": (10, 2), "width": (12, 2), "height": (14, 2),
           "digest": (16, 8), "tile_log2": (24, 1), "reserved": (25, 1)}  # fmt: skip
"""Header fields that a forgery changes: offset and bytes. FORMAT.md section 4."""
_LEGAL = {"mode": (1, 4), "quality": (0, 10_000), "width": (1, 300), "height": (1, 300),
          "tile_log2": (2, 7)}  # fmt: skip
"""Least and largest value that is legal, or small enough to go on."""

Box = tuple[bytes, bytes]
"""Type and content."""


class Mutant(NamedTuple):
    """A changed file and the name of the change."""

    data: bytes
    kind: str


def golden_files() -> dict[str, bytes]:
    """Return the files that must decode for ever, by name."""
    return {path.stem: path.read_bytes() for path in sorted((GOLDEN / "decode").glob("*.cae"))}


def with_crc(data: bytes) -> bytes:
    """Append the CRC-32 of data."""
    return data + zlib.crc32(data).to_bytes(_CRC_BYTES, "little")


def frame(boxes: Iterable[Box]) -> bytes:
    """Return the bytes of boxes, with right lengths and checksums."""
    return b"".join(
        with_crc(kind + len(content).to_bytes(4, "little") + content) for kind, content in boxes
    )


def split(data: bytes) -> list[Box] | None:
    """Return the boxes of a file whose checksums all agree to its last byte, or None."""
    head, crc = data[: HEADER_BYTES - _CRC_BYTES], data[HEADER_BYTES - _CRC_BYTES : HEADER_BYTES]
    if len(crc) < _CRC_BYTES or not with_crc(head).endswith(crc):
        return None
    boxes, offset = [], HEADER_BYTES
    while offset < len(data):
        end = offset + _FRAME_BYTES + int.from_bytes(data[offset + 4 : offset + 8], "little")
        if data[offset : end + _CRC_BYTES] != with_crc(data[offset:end]):
            return None
        boxes.append((data[offset : offset + 4], data[offset + _FRAME_BYTES : end]))
        offset = end + _CRC_BYTES
    return boxes


def stated(data: bytes) -> tuple[str, tuple[int, int]]:
    """Return the mode and the size that a legal header states."""
    sides = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    return Mode(data[9]).name, sides


def damage(data: bytes, others: Sequence[bytes], random: Random) -> Mutant:
    """Change a file so that a checksum, a length or the end of the file shows it."""
    while True:
        kind = random.choice(sorted(DAMAGES))
        found = DAMAGES[kind](data, random.choice(others), random)
        if found not in (data, *others) and (kind == "truncation" or split(found) is None):
            return Mutant(found, kind)


def forge(data: bytes, others: Sequence[bytes], random: Random) -> Mutant:
    """Change header or boxes, or both, of a good file, and mend the checksums."""
    boxes, head = split(data) or [], data[:HEADER_BYTES]
    kinds = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if random.randrange(3) == 0:
            head = _forged_header(head, random)
            kinds.append("header")
        else:
            kind = random.choice(sorted(FORGERIES))
            boxes = FORGERIES[kind](boxes, split(random.choice(others)) or [], random)
            kinds.append(kind)
    return Mutant(head + frame(boxes), " + ".join(sorted(set(kinds))))


def change_bytes(data: bytes, random: Random) -> bytes:
    """Change any bytes in any of the ways that need no other file."""
    change = random.choice((flip, overwrite, truncate, insert, delete, repeat))
    return change(data, random)


def flip(data: bytes, random: Random) -> bytes:
    """Flip 1 to 4 bits."""
    changed = bytearray(data)
    for _ in range(random.randrange(1, 5) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, random: Random) -> bytes:
    """Put noise, or one value, in the place of a range."""
    start, end = _range(data, random)
    noise = random.randbytes(end - start)
    value = random.choice((0, 0xFF, 0x20))
    return data[:start] + random.choice((noise, bytes([value]) * len(noise))) + data[end:]


def truncate(data: bytes, random: Random) -> bytes:
    """Cut the end off."""
    return data[: random.randrange(max(1, len(data)))]


def insert(data: bytes, random: Random) -> bytes:
    """Insert up to 16 bytes."""
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randrange(1, 17)) + data[at:]


def delete(data: bytes, random: Random) -> bytes:
    """Leave a range out."""
    start, end = _range(data, random)
    return data[:start] + data[end:]


def repeat(data: bytes, random: Random) -> bytes:
    """Repeat a range once or twice."""
    start, end = _range(data, random)
    return data[:end] + data[start:end] * random.randrange(1, 3) + data[end:]


def splice(data: bytes, other: bytes, random: Random) -> bytes:
    """Go on with the end of another file."""
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def change_header(data: bytes, random: Random) -> bytes:
    """Give a field of the header another value and leave its checksum as it was."""
    offset, size = _FIELDS[random.choice(sorted(_FIELDS))]
    return data[:offset] + random.randbytes(size) + data[offset + size :]


def _range(data: bytes, random: Random) -> tuple[int, int]:
    """Return the start and the end of a range, mostly a short one."""
    start = random.randrange(max(1, len(data)))
    length = random.randrange(1, random.choice((2, 9, 65, len(data) + 2)))
    return start, min(len(data), start + length)


def _alone(change: Callable[[bytes, Random], bytes]) -> Callable[[bytes, bytes, Random], bytes]:
    return lambda data, _, random: change(data, random)


DAMAGES: dict[str, Callable[[bytes, bytes, Random], bytes]] = {
    "flips": _alone(flip),
    "overwritten range": _alone(overwrite),
    "truncation": _alone(truncate),
    "insertion": _alone(insert),
    "deletion": _alone(delete),
    "repetition": _alone(repeat),
    "splice": splice,
    "header edit": _alone(change_header),
}


def _forged_header(head: bytes, random: Random) -> bytes:
    """Give a field another value, mostly a legal one, and mend the checksum."""
    name = random.choice(sorted(_FIELDS))
    offset, size = _FIELDS[name]
    value = int.from_bytes(head[offset : offset + size], "little")
    legal = random.randrange(_LEGAL[name][0], _LEGAL[name][1] + 1) if name in _LEGAL else 0
    near = value + random.choice((-1, 1))
    chosen = random.choice((legal, legal, near, near, random.getrandbits(8 * size)))
    field = (chosen % 256**size).to_bytes(size, "little")
    return with_crc(head[:offset] + field + head[offset + size : HEADER_BYTES - _CRC_BYTES])


def _change_content(boxes: list[Box], _: list[Box], random: Random) -> list[Box]:
    at = random.randrange(len(boxes))
    kind, content = boxes[at]
    return [*boxes[:at], (kind, _changed(content, random)), *boxes[at + 1 :]]


def _change_type(boxes: list[Box], others: list[Box], random: Random) -> list[Box]:
    at = random.randrange(len(boxes))
    known = [b"iccp", b"exif", b"xmp ", b"ALPH", b"PIXL", b"note"]
    known += [kind for kind, _ in (*boxes, *others)]
    kind = random.choice((random.choice(known), flip(boxes[at][0], random)))
    return [*boxes[:at], (kind, boxes[at][1]), *boxes[at + 1 :]]


def _drop(boxes: list[Box], _: list[Box], random: Random) -> list[Box]:
    at = random.randrange(len(boxes))
    return boxes[:at] + boxes[at + 1 :] if len(boxes) > 1 else boxes


def _repeat_box(boxes: list[Box], _: list[Box], random: Random) -> list[Box]:
    boxes = boxes.copy()
    boxes.insert(random.randrange(len(boxes) + 1), random.choice(boxes))
    return boxes


def _exchange(boxes: list[Box], _: list[Box], random: Random) -> list[Box]:
    boxes = boxes.copy()
    one, two = random.randrange(len(boxes)), random.randrange(len(boxes))
    boxes[one], boxes[two] = boxes[two], boxes[one]
    return boxes


def _graft(boxes: list[Box], others: list[Box], random: Random) -> list[Box]:
    """Put a box of another file beside a box or in its place."""
    at = random.randrange(len(boxes))
    return [*boxes[:at], random.choice(others), *boxes[at + random.randrange(2) :]]


def _add_unknown(boxes: list[Box], _: list[Box], random: Random) -> list[Box]:
    boxes = boxes.copy()
    unknown = random.choice((b"note", b"NOTE", random.randbytes(4)))
    boxes.insert(random.randrange(len(boxes) + 1), (unknown, random.randbytes(8)))
    return boxes


def _change_lossless(boxes: list[Box], others: list[Box], random: Random) -> list[Box]:
    """Change side, mask or image of the lossless blocks of a tile."""
    boxes, at = _with_lossless(boxes, others, random)
    content = boxes[at][1]
    start = max(1, content.find(_WEBP_MAGIC))
    side, mask, image = content[:1], content[1:start], content[start:]
    part = random.randrange(3)
    if part == 0:
        side = bytes([random.randrange(14)])
    elif part == 1:
        size = len(mask)
        masks = flip(mask, random), random.randbytes(size), b"\xff" * size, mask[1:], mask + b"\0"
        mask = random.choice(masks)
    else:
        image = random.choice((change_bytes(image, random), random.choice((*boxes, *others))[1]))
    boxes[at] = (_LOSSLESS, side + mask + image)
    return boxes


def _misplace_lossless(boxes: list[Box], others: list[Box], random: Random) -> list[Box]:
    """Repeat or move the lossless blocks of a tile, or take the tile or its symbols from them."""
    boxes, at = _with_lossless(boxes, others, random)
    change = random.randrange(4)
    if change == 0:
        boxes.insert(at, boxes[at])
    elif change == 1:
        boxes.insert(random.randrange(len(boxes)), boxes.pop(at))
    else:
        boxes[at + 1 : at + 2] = [(_TILE, bytes(4))] if change == 2 else []
    return boxes


def _with_lossless(boxes: list[Box], others: list[Box], random: Random) -> tuple[list[Box], int]:
    """Return boxes of which one at least has lossless blocks, and the place of such a one."""
    boxes = boxes.copy()
    places = [place for place, (kind, _) in enumerate(boxes) if kind == _LOSSLESS]
    if not places:
        found = [box for box in others if box[0] == _LOSSLESS] or [(_LOSSLESS, b"\x04\x80")]
        places = [place for place, (kind, _) in enumerate(boxes) if kind == _TILE] or [0]
        places = [random.choice(places)]
        boxes.insert(places[0], random.choice(found))
    return boxes, random.choice(places)


FORGERIES: dict[str, Callable[[list[Box], list[Box], Random], list[Box]]] = {
    "content": _change_content,
    "type": _change_type,
    "dropped box": _drop,
    "repeated box": _repeat_box,
    "exchanged boxes": _exchange,
    "grafted box": _graft,
    "unknown box": _add_unknown,
    "lossless blocks": _change_lossless,
    "place of lossless blocks": _misplace_lossless,
}


def _changed(content: bytes, random: Random) -> bytes:
    """Change the content of a box: a PNG's chunks with right checksums, else any bytes."""
    if content.startswith(_PNG_MAGIC) and len(content) > len(_PNG_MAGIC) and random.randrange(4):
        return _changed_png(content, random)
    if random.randrange(4) == 0:  # whole words: a payload stays one
        at = 4 * random.randrange(len(content) // 4 + 1)
        return content[:at] + random.randbytes(4) + content[at + random.choice((0, 4, 8)) :]
    return change_bytes(content, random)


def _changed_png(content: bytes, random: Random) -> bytes:
    """Change a chunk of a PNG file, its type or its place, and mend the chunk's checksum."""
    chunks, offset = [], len(_PNG_MAGIC)
    while offset < len(content):
        length = int.from_bytes(content[offset : offset + 4], "big")
        chunks.append(content[offset + 4 : offset + _FRAME_BYTES + length])
        offset += _FRAME_BYTES + length + _CRC_BYTES
    at = random.randrange(len(chunks))
    kinds = (b"acTL", b"fcTL", b"fdAT", b"iCCP", b"tRNS", b"PLTE", b"gAMA", b"zTXt", b"iTXt",
             b"sRGB", b"pHYs", b"eXIf", b"IEND", b"IDAT", b"IHDR", b"cHRM")  # fmt: skip
    body = change_bytes(chunks[at][4:], random)
    new = random.choice((chunks[at][:4], random.choice(kinds))) + body
    chunks[at : at + random.randrange(2)] = [new]
    return _PNG_MAGIC + b"".join(
        max(0, len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        for chunk in chunks
    )
