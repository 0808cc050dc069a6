"""Files in and out: written whole or not at all, never over something by accident."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from caecodec.errors import CodecError
from caecodec.replacing import replace_file

PIPE = "-"


class FileError(CodecError):
    """A file cannot be read or written as asked."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and its output.

    Attributes:
        source: path, or `-` for stdin.
        target: path, `-` for stdout, or "" where nothing is written.
        makes_folder: make the target's folder if it is not there.
    """

    source: str
    target: str
    makes_folder: bool = False


def read_source(source: str) -> bytes:
    """Return the bytes of a file or of stdin.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if source == PIPE else Path(source).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {source}: {error.strerror}") from error


def open_source(source: str) -> Path | BinaryIO:
    """Return where an image is read from: the file itself, or what stdin holds."""
    return io.BytesIO(read_source(PIPE)) if source == PIPE else Path(source)


def check_target(job: Job, *, force: bool) -> None:
    """Refuse, before any work, an output that must not be written.

    Raises:
        FileError: it exists and `force` is not set, it is the input, or stdout is a terminal.
    """
    if not job.target:
        return
    if job.target == PIPE:
        if sys.stdout.isatty():
            raise FileError("stdout is a terminal: redirect it or give an output file")
        return
    target = Path(job.target)
    if not target.exists():
        return
    if job.source != PIPE and Path(job.source).exists() and target.samefile(job.source):
        raise FileError(f"{job.target} is the input itself: give another output")
    if target.is_dir():
        raise FileError(f"{job.target} is a folder: give a file, or -o for a folder")
    if not force:
        raise FileError(f"{job.target} exists: use -f to overwrite it")


def write_target(
    target: str,
    write: Callable[[BinaryIO], object],
    *,
    approve: Callable[[bytes], object] | None = None,
) -> None:
    """Write to stdout, or to a temporary file beside the target that then takes its name.

    Args:
        target: path or `-`.
        write: writes the whole content to a file.
        approve: sees what is read back from the temporary file, and raises if it is not right;
            with it, the new name is on disk on return.

    Raises:
        FileError: it cannot be written; nothing partial is left under the target's name.
    """
    try:
        if target == PIPE:
            buffer = io.BytesIO()  # all or nothing
            write(buffer)
            sys.stdout.buffer.write(buffer.getbuffer())
            sys.stdout.buffer.flush()
        else:
            replace_file(Path(target), write, approve)
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror}") from error


def remove_source(source: str) -> None:
    """Delete an input.

    Raises:
        FileError: it cannot be deleted.
    """
    try:
        Path(source).unlink()
    except OSError as error:
        raise FileError(f"cannot remove {source}: {error.strerror}") from error
