"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_KEPT_OF_NAME = 40
"""Characters of the target's name in that of the temporary file, which is limited in length."""


class _Writer(io.BufferedWriter):
    """A file that hides its number: Pillow would write to that, and miss what a full disk cuts."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def replace_file(
    target: Path,
    write: Callable[[BinaryIO], object],
    approve: Callable[[bytes], object] | None = None,
) -> None:
    """Write a temporary file beside the target, which then takes its name.

    Args:
        target: made or replaced; through a link, the file that it names.
        write: writes the whole content to a file.
        approve: sees what is read back, and raises if it is not right; with it, the new name is on
            disk on return.

    Raises:
        OSError: it cannot be written; nothing partial is left under the target's name.
    """
    target = Path(os.path.realpath(target))
    name = f".{target.name[:_KEPT_OF_NAME]}.{os.urandom(4).hex()}.partial"
    partial = target.with_name(name)
    raw = io.FileIO(partial, "xb")  # new, and with the permissions that the process gives
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
    """Make new names outlast a power cut: a source may be removed next, on another disk."""
    with contextlib.suppress(PermissionError):  # Windows opens no folder; some cannot be listed
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in {errno.EBADF, errno.EINVAL}:  # the file system has no such thing
                raise
        finally:
            os.close(handle)
