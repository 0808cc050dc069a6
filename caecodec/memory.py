"""Memory that the C library keeps although it is free (layer 1)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
_INTERVAL = 2


def with_trims(tiles: Iterable[Item]) -> Iterator[Item]:
    """Yield tiles, and after every few of them, and the last, return freed memory to the system.

    Tensors of many sizes come and go with each tile, and glibc keeps what it cannot reuse at once:
    without this, 100 tiles take some 300 MB more than one. Other C libraries do without.
    """
    trim = _malloc_trim()
    count = 0
    for count, tile in enumerate(tiles, 1):
        yield tile
        if trim and count % _INTERVAL == 0:
            trim(0)
    if trim and count > _INTERVAL:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return None
