"""Damage that libtiff finds: by itself it prints it, and Pillow goes on after some of it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator

from PIL import _imaging


class _Found(threading.local):
    is_damaged = False


_found = _Found()


def _note(_module: bytes, _text: bytes, _values: int) -> None:
    _found.is_damaged = True


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_note)


@contextlib.contextmanager
def damage_raised() -> Iterator[None]:
    """Raise what libtiff finds while an image is read, and keep it from printing.

    Where Pillow was built so that it cannot be told, as on Windows, it goes on printing.

    Raises:
        OSError: compressed data is damaged.
    """
    _listen()
    _found.is_damaged = False
    yield
    if _found.is_damaged:
        raise OSError("the compressed data is damaged")


@functools.cache
def _listen() -> None:
    library = ctypes.CDLL(_imaging.__file__)  # its symbols include those of what it is linked with
    with contextlib.suppress(AttributeError):
        library.TIFFSetErrorHandler(_HANDLER)
        library.TIFFSetWarningHandler(None)
