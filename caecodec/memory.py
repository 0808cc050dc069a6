"""Memory that the C library keeps although it is free, or gives back too soon (layer 1)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_INTERVAL = 8
"""Tiles after which freed memory is returned. Getting it back costs a tenth of a tile's time."""
_FEW = 2
"""Images of no more tiles keep theirs, as many of them may follow."""


def with_trims(tiles: Iterable[Item]) -> Iterator[Item]:
    """Yield tiles, now and then, and after the last, returning freed memory to the system.

    Tensors of many sizes come and go with each tile, and glibc keeps what it cannot reuse at once:
    2 MB more with each tile, and some 300 MB at the end. Other C libraries do without.
    """
    trim = _malloc_trim()
    count = 0
    for count, tile in enumerate(tiles, 1):
        yield tile
        if trim and count % _INTERVAL == 0:
            trim(0)
    if trim and count > _FEW:
        trim(0)


def keep_freed() -> None:
    """Let the process keep what it frees, for work that asks for the same again and again.

    Large tensors that come and go with each training step cost page faults, some 7 % of its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return None
