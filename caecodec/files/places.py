"""One interface to a local path, a URL, and `-` for stdin and stdout.

They are told apart only here: callers pass what the user gave.
"""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import BinaryIO

from caecodec.errors import ConfigError, FileError
from caecodec.files import streams, urls
from caecodec.files.replacing import replace_file
from caecodec.files.urls import is_url

PIPE = "-"


def read_file(place: str) -> bytes:
    """Return the content of a file, of stdin or of another stream.

    Raises:
        FileError, UrlError: it cannot be read.
    """
    if is_url(place):
        return urls.read_url(place)
    try:
        if standard(place, 0) == PIPE:
            if sys.stdin is None:
                raise FileError(f"cannot read {place}: stdin is closed")
            return sys.stdin.buffer.read()
        return streams.read_stream(place) if is_pipe(place) else Path(place).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {place}: {error.strerror}") from error


def open_file(place: str) -> Path | BinaryIO:
    """Return what Pillow reads an image from: a local file, or the content of anything else."""
    is_file = not is_url(place) and not is_pipe(place)
    return Path(place) if is_file else io.BytesIO(read_file(place))


def write_file(
    place: str,
    write: Callable[[BinaryIO], object],
    approve: Callable[[BinaryIO], object] | None = None,
) -> None:
    """Write a whole file, or nothing.

    Args:
        place: path, URL, or `-` for stdout; a device or a named pipe is written to, not replaced.
        write: writes the whole content to a file object.
        approve: receives the content, to be read back, and raises to reject it; with it, the new
            name of a local file is on disk on return.

    Raises:
        FileError, UrlError: it cannot be written; no partial file is left under its name.
        BrokenPipeError: nobody reads stdout any more.
    """
    if is_url(place):
        urls.write_url(place, write, approve)
        return
    try:
        if standard(place, 1) == PIPE:
            buffer = io.BytesIO()  # all or nothing
            write(buffer)
            if approve:
                approve(io.BytesIO(buffer.getbuffer()))
            sys.stdout.buffer.write(buffer.getvalue())
            sys.stdout.buffer.flush()
        else:
            replace_file(Path(place), write, approve)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and standard(place, 1) == PIPE:
            raise
        raise FileError(f"cannot write {place}: {error.strerror}") from error


def remove_file(place: str) -> None:
    """Delete a file.

    Raises:
        FileError, UrlError: it cannot be deleted.
    """
    if is_url(place):
        urls.remove_url(place)
        return
    try:
        Path(place).unlink()
    except OSError as error:
        raise FileError(f"cannot remove {place}: {error.strerror}") from error


def file_size(place: str) -> int:
    """Return the bytes of a file; 0 for a pipe."""
    if is_pipe(place):
        return 0
    return urls.url_size(place) if is_url(place) else Path(place).stat().st_size


def is_pipe(place: str) -> bool:
    """Return whether this is stdin, stdout, another descriptor, a device or a named pipe."""
    return place == PIPE or (not is_url(place) and streams.is_stream(place))


def standard(place: str, descriptor: int) -> str:
    """Return `-` for a name of this descriptor, such as `/dev/stdin` for 0; else the name."""
    return PIPE if streams.descriptor_of(place) == descriptor else place


def file_exists(place: str) -> bool:
    """Return whether a file or folder of this name exists."""
    return urls.url_exists(place) if is_url(place) else os.path.exists(place)  # noqa: PTH110 - False if too long


def is_folder(place: str, *, asks_storage: bool = True) -> bool:
    """Return whether this is a folder; without `asks_storage`, a URL is if it ends in a slash."""
    if is_url(place):
        return place.endswith("/") or (asks_storage and urls.url_is_folder(place))
    return os.path.isdir(place)  # noqa: PTH112 - never raises, on no name


def is_same_file(place: str, other: str) -> bool:
    """Return whether two names are equal or lead to the same local file, through links."""
    paths = Path(place), Path(other)
    return place == other or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))


def has_times(place: str) -> bool:
    """Return whether times and permissions can be preserved; a pipe has none to lose."""
    return not is_url(place)


def check_place(place: str) -> None:
    """Refuse, before any work, a URL that cannot be opened here.

    Raises:
        ConfigError, UrlError: as `check_url`.
    """
    if is_url(place):
        urls.check_url(place)


def check_folder(place: str) -> None:
    """Refuse, before any work, what cannot become a folder of outputs.

    Raises:
        ConfigError: it is a file.
        ConfigError, UrlError: as `check_url`.
    """
    check_place(place)
    folder = Path(place)
    if not is_url(place) and folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, expected a folder")


def make_parent(place: str) -> None:
    """Make the folder of a local file; a URL needs none."""
    if not is_url(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)


def files_below(
    folder: str, on_error: Callable[[OSError], object] = lambda _: None
) -> list[PurePath]:
    """Return what is no folder below a folder, at any depth, relative to it; sorted.

    Links to folders are not followed, but returned. `on_error` is told of unreadable folders.
    """
    if is_url(folder):
        return [PurePath(name) for name in urls.names_below(folder)]
    found = []
    for root, folders, files in os.walk(folder, onerror=on_error):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        found += [(Path(root) / name).relative_to(folder) for name in (*files, *links)]
    return sorted(found)


def files_like(pattern: str) -> list[str]:
    """Return the files that a glob matches; sorted."""
    if is_url(pattern):
        return urls.urls_like(pattern)
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes **
    return [str(Path(match)) for match in matches if not Path(match).is_dir()]


def join(folder: str, name: PurePath) -> str:
    """Return where `name` is below a folder."""
    return urls.join_url(folder, name.as_posix()) if is_url(folder) else str(Path(folder) / name)


def path_of(place: str) -> PurePath:
    """Return the path; of a URL, what follows `://`."""
    return PurePath(place.partition("://")[2] if is_url(place) else place)


def absolute(place: str) -> str:
    """Return a name that means the same in a process with another working directory."""
    return place if is_url(place) else Path(place).absolute().as_posix()


def resolved(place: str) -> str:
    """Return a name that is the same for all local paths to one file, through links."""
    return place if is_url(place) else os.path.realpath(place)
