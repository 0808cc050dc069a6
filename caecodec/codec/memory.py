"""Memory that the C library keeps although it is free, or gives back too soon."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_PIECE = 2**25
"""Bytes up to which glibc takes pieces of memory from what it keeps, at most."""
_INTERVAL = 8
"""Tiles after which freed memory is returned. Getting it back costs a tenth of a tile's time."""
_FEW = 2
"""Images of no more tiles keep theirs, as many of them may follow."""


def with_trims(tiles: Iterable[Item]) -> Iterator[Item]:
    """Yield tiles, now and then, and after the last, returning freed memory to the system.

    Tensors of many sizes come and go with each tile, and glibc keeps what it cannot reuse at once:
    2 MB more with each tile, and some 300 MB at the end. Other C libraries do without.
    """
    trim = _of_glibc("malloc_trim")
    count = 0
    for count, tile in enumerate(tiles, 1):
        yield tile
        if trim and count % _INTERVAL == 0:
            trim(0)
    if trim and count > _FEW:
        trim(0)


def keep_freed(num_bytes: int) -> None:
    """Let the process keep so much of what it frees, for work that asks for the same again.

    Tensors that come and go with each layer cost page faults: 8 % of a decode, 7 % of a training
    step. glibc starts from 128 kB and raises its bounds itself as it sees larger pieces.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_PIECE)
        mallopt(_M_TRIM_THRESHOLD, num_bytes)


@functools.cache
def _of_glibc(name: str) -> Callable[..., Any] | None:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # not glibc
        return None
