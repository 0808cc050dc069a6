"""Sections 3 to 7.2 of FORMAT.md in plain integers, as `make_vectors.py` needs them.

Nothing of caecodec, numpy or constriction is used, so that the vectors have a source of their own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

Planes = list[list[list[int]]]
"""Channels of rows of values."""
Tables = list[list[int]]
"""Counts of the entries of each table."""
Section = tuple[list[int], list[int]]
"""Table indexes and symbols, in the order channel, row, column."""
Step = tuple[int, int | None, int]
"""Number of a symbol, table or None for the value of an escape, entry."""

MAGIC = b"\x89CAE\r\n\x1a\n"
HEADER_BYTES = 30
ESCAPE_VALUES = [256 * value for value in range(2**16 + 1)]
"""The starts of the values of escapes: section 6.5."""


def with_crc(data: bytes) -> bytes:
    """Append the CRC-32 of data."""
    return data + struct.pack("<I", zlib.crc32(data))


def header(**changes: Any) -> bytes:
    """Return a header of 1 x 1 pixels with some fields changed; its CRC-32 agrees."""
    fields = {
        "version": 1, "mode": 3, "quality": 5000, "width": 1, "height": 1,
        "digest": "0123456789abcdef", "tile_log2": 6, "reserved": 0,
    } | changes  # fmt: skip
    fields["digest"] = bytes.fromhex(fields["digest"])
    return with_crc(MAGIC + struct.pack("<BBHHH8sBB", *fields.values()))


def box(kind: bytes, content: bytes = b"") -> bytes:
    """Frame a box."""
    return with_crc(kind + struct.pack("<I", len(content)) + content)


def spans(length: int, side: int, stride: int) -> list[tuple[int, int]]:
    """Return (first position, positions) of each tile along one side: section 5.

    A position belongs to the tile that holds its first pixel; they are counted, not computed.
    """
    pixels = range(0, length, stride)
    return [
        (
            sum(pixel < start for pixel in pixels),
            sum(start <= pixel < start + side for pixel in pixels),
        )
        for start in range(0, length, side)
    ]


def mask_of(blocks: list[str]) -> bytes:
    """Return the mask of rows of blocks, "1" for the lossless ones: section 5.1."""
    bits = "".join(blocks)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def starts_of(counts: list[int]) -> list[int]:
    """Return start(0) to start(n): section 6.2."""
    n = len(counts)
    below = [sum(counts[:i]) * (2**24 - n) // 2**16 + i for i in range(n)]
    return [*below, 2**24] if n else []


def steps(tables: Tables, section: Section, escaped: Collection[int]) -> Iterator[Step]:
    """Yield what is decoded, in order: section 6.4; some symbols are escaped without need."""
    indexes, symbols = section
    escapes = []
    for index in sorted(set(indexes)):
        reach = len(tables[index]) // 2 - 1
        for number in [place for place, own in enumerate(indexes) if own == index and reach >= 0]:
            if number in escaped or abs(symbols[number]) > reach:
                escapes.append(number)
                yield number, index, 2 * reach + 1
            else:
                yield number, index, symbols[number] + reach
    for number in escapes:
        yield number, None, symbols[number] + 2**15


class Encoder:
    """Section 6.3, to encode: entries come in the reverse of the order of decoding."""

    def __init__(self) -> None:
        """Start with no words."""
        self.x = 0
        self.words: list[int] = []

    def push(self, starts: list[int], entry: int) -> None:
        """Encode one entry."""
        width = starts[entry + 1] - starts[entry]
        if self.x // 2**40 >= width:
            self.words.append(self.x % 2**32)
            self.x //= 2**32
        self.x = self.x // width * 2**24 + starts[entry] + self.x % width

    def end(self) -> list[int]:
        """Return the words of the payload."""
        while self.x > 0:
            self.words.append(self.x % 2**32)
            self.x //= 2**32
        return self.words


def convolve(a: Planes, weight: list[Planes], bias: list[int]) -> Planes:
    """Convolve with zeros around a, 1x1 or 3x3; a kernel is not flipped."""
    rows, columns, side = len(a[0]), len(a[0][0]), len(weight[0][0])

    def at(plane: list[list[int]], i: int, j: int) -> int:
        return plane[i][j] if 0 <= i < rows and 0 <= j < columns else 0

    def total(kernels: Planes, i: int, j: int) -> int:
        return sum(
            kernel[dy][dx] * at(plane, i + dy - side // 2, j + dx - side // 2)
            for kernel, plane in zip(kernels, a, strict=True)
            for dy in range(side)
            for dx in range(side)
        )

    return [
        [[total(kernels, i, j) + own for j in range(columns)] for i in range(rows)]
        for kernels, own in zip(weight, bias, strict=True)
    ]


def shuffle(a: Planes) -> Planes:
    """Move channel 4 c + 2 dy + dx at (i, j) to channel c at (2 i + dy, 2 j + dx)."""
    rows, columns = 2 * len(a[0]), 2 * len(a[0][0])
    return [
        [[a[c + 2 * (i % 2) + j % 2][i // 2][j // 2] for j in range(columns)] for i in range(rows)]
        for c in range(0, len(a), 4)
    ]


def each(a: Planes, change: Callable[[int], int]) -> Planes:
    """Apply a function to every value."""
    return [[[change(value) for value in row] for row in plane] for plane in a]


def clamp(value: int, low: int, high: int) -> int:
    """Return a value brought into a range."""
    return min(max(value, low), high)


def scale_indexes(head: dict[str, Any], z: Planes, units: int) -> Planes:
    """Return the scale indexes of M channels: section 7.2."""
    a = each(z, lambda value: 256 * clamp(value, -127, 127))
    layers = zip(head["weights"], head["biases"], head["shifts"], strict=True)
    for k, (weight, bias, s) in enumerate(layers):
        a = convolve(a, weight, bias)
        a = each(a, lambda v, s=s: clamp((v + 2 ** (s - 1)) // 2**s, -32_767, 32_767))
        a = shuffle(a) if k in {1, 3} else a
        a = each(a, lambda v: max(v, v // 8)) if k < 4 else a
    offset = offsets_at(head["offsets"], units)
    return [
        each([plane], lambda v, own=own: clamp((v + own + 128) // 256, 0, 63))[0]
        for plane, own in zip(a, offset, strict=True)
    ]


def offsets_at(rows: list[list[int]], units: int) -> list[int]:
    """Return the offset of each channel at a quality: section 7.2."""
    position = units * (len(rows) - 1)
    low = min(position // 10_000, len(rows) - 2)
    f = position - 10_000 * low
    pairs = zip(rows[low], rows[low + 1], strict=True)
    return [(one * (10_000 - f) + other * f) // 10_000 for one, other in pairs]
