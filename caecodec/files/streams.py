"""What is read once and written as it comes: open descriptors, devices, named pipes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def descriptor_of(path: str) -> int | None:
    """Return the open descriptor that a name such as `/dev/stdout` or `/dev/fd/3` means."""
    match = _DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else _STANDARD.get(path)


def is_stream(path: str) -> bool:
    """Return whether this is a descriptor, a character device or a named pipe."""
    if descriptor_of(path) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def read_stream(path: str) -> bytes:
    """Return all that comes.

    Raises:
        OSError: it cannot be read.
    """
    with os.fdopen(_opened(path, os.O_RDONLY), "rb") as stream:
        return stream.read()


def write_stream(path: str, data: bytes) -> None:
    """Write to it as it is: a device is never replaced by a file.

    Raises:
        OSError: it cannot be written.
    """
    with os.fdopen(_opened(path, os.O_WRONLY), "wb") as stream:
        stream.write(data)


def _opened(path: str, flags: int) -> int:
    descriptor = descriptor_of(path)
    return os.open(path, flags) if descriptor is None else os.dup(descriptor)
