"""Files behind URLs such as `s3://bucket/photo.png`, through fsspec.

Every function also takes the path of a local file.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from caecodec.errors import CodecError, ConfigError, UrlError
from caecodec.files.replacing import replace_file

_SCHEME = re.compile(r"\w\w://")  # two letters: C:/ is a drive


def is_url(path: str) -> bool:
    """Return whether this is a URL, not the path of a local file."""
    return _SCHEME.search(path) is not None


def join_url(folder: str, name: str) -> str:
    """Return the URL of `name` in a folder."""
    return f"{folder}{'' if folder.endswith('/') else '/'}{name}"


def check_url(url: str) -> None:
    """Refuse, before any work, a URL that cannot be opened here.

    Raises:
        ConfigError: fsspec or its driver for this protocol is missing, or the protocol is unknown.
        UrlError: the storage refuses access.
    """
    with _opened("open", url):
        pass


def url_exists(url: str) -> bool:
    """Return whether a file or folder exists."""
    with _opened("open", url) as (files, path):
        return bool(files.exists(path))


def url_is_folder(url: str) -> bool:
    """Return whether it is a folder with files."""
    with _opened("open", url) as (files, path):
        return bool(files.isdir(path))


def url_size(url: str) -> int:
    """Return the size of a file in bytes."""
    with _opened("read", url) as (files, path):
        return int(files.size(path))


def read_url(url: str) -> bytes:
    """Return the content of a file.

    Raises:
        UrlError: it cannot be read.
        ConfigError: as `check_url`; so do all functions here.
    """
    with _opened("read", url) as (files, path):
        return bytes(files.cat_file(path))


def write_url(
    url: str,
    write: Callable[[BinaryIO], object],
    approve: Callable[[BinaryIO], object] | None = None,
) -> None:
    """Write a whole file: one request to an object store, where files appear whole or not at all.

    Args:
        url: created or replaced; a local file through a temporary file, its folder created.
        write: writes the whole content to a file object.
        approve: receives the content, to be read back, and raises to reject it; the file is then
            removed.

    Raises:
        UrlError: it cannot be written.
    """
    buffer = io.BytesIO()
    with _opened("write", url) as (files, path):
        if "file" in files.protocol:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(Path(path), write, approve)
            return
        write(buffer)
        files.pipe_file(path, buffer.getvalue())
    if approve:
        try:
            approve(io.BytesIO(read_url(url)))
        except BaseException:
            remove_url(url)
            raise


def remove_url(url: str) -> None:
    """Delete a file.

    Raises:
        UrlError: it cannot be deleted.
    """
    with _opened("remove", url) as (files, path):
        files.rm_file(path)


def names_below(folder: str) -> list[str]:
    """Return the files below a folder, at any depth, as sorted paths relative to it."""
    with _opened("list", folder) as (files, path):
        root = path.rstrip("/")
        return sorted(found.removeprefix(root).lstrip("/") for found in files.find(path))


def urls_like(pattern: str) -> list[str]:
    """Return the files that a glob such as `s3://bucket/*.png` matches, sorted."""
    with _opened("list", pattern) as (files, path):
        found = files.glob(path, detail=True)
        return sorted(files.unstrip_protocol(name) for name in found if files.isfile(name))


@contextlib.contextmanager
def _opened(verb: str, url: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system of a URL and the path in it; report any error in one line."""
    try:
        yield importlib.import_module("fsspec.core").url_to_fs(url)
    except CodecError:
        raise
    except ImportError as error:
        hint = "pip install 'caecodec[fsspec]'"
        raise ConfigError(f"cannot {verb} {url}: {_reason(error)}, expected from {hint}") from error
    except FileNotFoundError as error:
        raise UrlError(f"cannot {verb} {url}: not found") from error
    except Exception as error:  # each storage has its own errors
        unknown = isinstance(error, ValueError) and "Protocol not known" in str(error)
        kind = ConfigError if unknown else UrlError
        raise kind(f"cannot {verb} {url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.split("\n", 1)[0] or type(error).__name__
