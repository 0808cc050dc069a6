"""The boxes of ISO files: AVIF, HEIF, JPEG 2000. ISO/IEC 14496-12."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import IO

Box = tuple[bytes, int, int]
"""Type, start and end of the content."""

_TO_PROPERTIES = ((b"meta", 4), (b"iprp", 0), (b"ipco", 0))
"""Boxes on the way to the properties of an AVIF file, and the bytes before the boxes in them."""


def boxes(file: IO[bytes], start: int, end: int) -> Iterator[Box]:
    """Yield the boxes of a span of a file, up to a wrong one."""
    while start + 8 <= end:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            (length,), head = struct.unpack(">Q", file.read(8)), 16
        stop = start + length if length else end
        if not start + head <= stop <= end:
            return
        yield kind, start + head, stop
        start = stop


def properties(file: IO[bytes]) -> Iterator[Box]:
    """Yield the properties of all pictures in an AVIF or HEIF file, of alpha and tiles, too."""
    spans = [(0, file.seek(0, io.SEEK_END))]
    for step, skipped in _TO_PROPERTIES:
        spans = [
            (first + skipped, last)
            for start, end in spans
            for kind, first, last in boxes(file, start, end)
            if kind == step
        ]
    for start, end in spans:
        yield from boxes(file, start, end)
