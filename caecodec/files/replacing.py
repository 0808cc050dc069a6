"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from caecodec.files.streams import is_stream, write_stream

_KEPT_OF_NAME = 40
"""Characters of the target's name kept in the temporary name, whose length is limited."""


class _Writer(io.BufferedWriter):
    """A file that hides its descriptor: Pillow would write to it and miss that a disk is full."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def replace_file(
    target: Path,
    write: Callable[[BinaryIO], object],
    approve: Callable[[bytes], object] | None = None,
) -> None:
    """Write a temporary file beside the target, which then takes its name.

    Args:
        target: created or replaced; links are followed. A device or a pipe is written to.
        write: writes the whole content to a file object.
        approve: receives the content as read back, and raises to reject it; with it, the new name
            is on disk on return.

    Raises:
        OSError: it cannot be written; no partial file is left under the target's name.
    """
    if is_stream(str(target)):
        buffer = io.BytesIO()
        write(buffer)
        write_stream(str(target), buffer.getvalue())
        return
    target = Path(os.path.realpath(target))
    name = f".{target.name[:_KEPT_OF_NAME]}.{os.urandom(4).hex()}.partial"
    partial = target.with_name(name)
    raw = io.FileIO(partial, "xb")  # new, with the process's default permissions
    try:
        with _Writer(raw) as file:
            if target.exists():
                partial.chmod(target.stat().st_mode & 0o777)
            write(file)
            file.flush()
            os.fsync(raw.fileno())
        if approve:
            approve(partial.read_bytes())
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if approve:
        _sync_folder(target.parent)


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
