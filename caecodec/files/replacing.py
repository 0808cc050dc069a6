"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from caecodec.files.streams import is_stream, write_stream

if sys.platform != "win32":
    import fcntl

_KEPT_OF_NAME = 40
"""Characters of the target's name kept in the temporary name, whose length is limited."""
_SUFFIX = ".partial"


class _Writer(io.BufferedWriter):
    """A file that hides its descriptor: Pillow would write to it and miss that a disk is full."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def replace_file(
    target: Path,
    write: Callable[[BinaryIO], object],
    approve: Callable[[BinaryIO], object] | None = None,
) -> None:
    """Write a temporary file beside the target, which then takes its name.

    What killed processes left of this target is removed, where the system has `flock`.

    Args:
        target: created or replaced; links are followed. A device or a pipe is written to.
        write: writes the whole content to a file object.
        approve: receives the content, to be read back, and raises to reject it; with it, the new
            name is on disk on return.

    Raises:
        OSError: it cannot be written; no partial file is left under the target's name.
    """
    if is_stream(str(target)):
        buffer = io.BytesIO()
        write(buffer)
        if approve:
            approve(io.BytesIO(buffer.getbuffer()))
        write_stream(str(target), buffer.getvalue())
        return
    target = Path(os.path.realpath(target))
    _remove_leftovers(target)
    with _partial_of(target) as (partial, raw):
        with _Writer(raw) as file:
            if target.exists():
                partial.chmod(target.stat().st_mode & 0o777)
            write(file)
            file.flush()
            os.fsync(raw.fileno())
        if approve:
            with partial.open("rb") as written:
                approve(written)
        os.replace(partial, target)
    if approve:
        _sync_folder(target.parent)


@contextlib.contextmanager
def _partial_of(target: Path) -> Iterator[tuple[Path, io.FileIO]]:
    """Create a temporary file beside the target, locked for as long as it is in use."""
    while True:
        partial = target.with_name(f"{_prefix(target)}{os.urandom(4).hex()}{_SUFFIX}")
        raw = io.FileIO(partial, "xb")  # new, with the process's default permissions
        lock = os.dup(raw.fileno())  # outlives the closing of the file
        _has_locked(lock, waits=True)
        if partial.exists():
            break
        raw.close()  # another process has removed it, just before it was locked
        os.close(lock)
    try:
        yield partial, raw
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    finally:
        os.close(lock)


def _prefix(target: Path) -> str:
    """Return how the names of a target's temporary files start, and of no other's."""
    return f".{target.name[:_KEPT_OF_NAME]}.{zlib.crc32(os.fsencode(target.name)):08x}."


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files of writers of this target that are no more."""
    for partial in _leftovers(target.parent):
        if partial.name.startswith(_prefix(target)):
            with contextlib.suppress(OSError):  # it is gone, or not ours to remove
                _remove_if_unlocked(partial)


@functools.lru_cache(maxsize=16)
def _leftovers(folder: Path) -> tuple[Path, ...]:
    """Return the temporary files in a folder before this process wrote to it: listed once."""
    try:
        return tuple(path for path in folder.iterdir() if path.suffix == _SUFFIX)
    except OSError:
        return ()


def _remove_if_unlocked(partial: Path) -> None:
    handle = os.open(partial, os.O_RDWR)
    try:
        if _has_locked(handle, waits=False):
            partial.unlink()
    finally:
        os.close(handle)


def _has_locked(handle: int, *, waits: bool) -> bool:
    """Lock a file until all copies of the handle are closed; return whether that succeeded."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:  # another process has it, or the file system has no locks
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make new names survive a power cut: a source on another disk may be removed next."""
    with contextlib.suppress(PermissionError):  # Windows cannot open folders; some are unreadable
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in {errno.EBADF, errno.EINVAL}:  # not supported by the file system
                raise
        finally:
            os.close(handle)
