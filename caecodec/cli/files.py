"""Files in and out: written whole or not at all, never over something by accident."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from caecodec.errors import FileError
from caecodec.files.replacing import replace_file
from caecodec.files.urls import is_url, read_url, remove_url, url_exists, url_size, write_url

PIPE = "-"


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and its output.

    Attributes:
        source: path or URL, or `-` for stdin.
        target: path or URL, `-` for stdout, or "" where nothing is written.
        makes_folder: make the target's folder if it is not there.
    """

    source: str
    target: str
    makes_folder: bool = False


def read_source(source: str) -> bytes:
    """Return the bytes of a file or of stdin.

    Raises:
        FileError, UrlError: it cannot be read.
    """
    if is_url(source):
        return read_url(source)
    try:
        return sys.stdin.buffer.read() if source == PIPE else Path(source).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {source}: {error.strerror}") from error


def open_source(source: str) -> Path | BinaryIO:
    """Return where an image is read from: the file itself, or what stdin or a URL holds."""
    is_file = source != PIPE and not is_url(source)
    return Path(source) if is_file else io.BytesIO(read_source(source))


def file_size(path: str) -> int:
    """Return the bytes of a file; 0 for a pipe."""
    if path == PIPE:
        return 0
    return url_size(path) if is_url(path) else Path(path).stat().st_size


def file_exists(path: str) -> bool:
    """Tell whether something of this name is there."""
    return url_exists(path) if is_url(path) else Path(path).exists()


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
    if not file_exists(job.target):
        return
    target = Path(job.target)
    is_local = job.source != PIPE and Path(job.source).exists() and target.exists()
    if job.source == job.target or (is_local and target.samefile(job.source)):
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
        target: path, URL or `-`.
        write: writes the whole content to a file.
        approve: sees what is read back from the temporary file, and raises if it is not right;
            with it, the new name is on disk on return.

    Raises:
        FileError, UrlError: it cannot be written; nothing partial is left under the target's name.
    """
    if is_url(target):
        write_url(target, write, approve)
        return
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
        FileError, UrlError: it cannot be deleted.
    """
    if is_url(source):
        remove_url(source)
        return
    try:
        Path(source).unlink()
    except OSError as error:
        raise FileError(f"cannot remove {source}: {error.strerror}") from error
