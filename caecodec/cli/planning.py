"""From arguments to jobs: which files are meant, and which output belongs to which input."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from caecodec.cli.files import PIPE, Job, file_exists, read_source
from caecodec.errors import ConfigError, FileError
from caecodec.files.urls import (
    check_url,
    is_url,
    join_url,
    names_below,
    url_is_folder,
    urls_like,
)


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which inputs the arguments mean.

    Attributes:
        paths: files, quoted globs such as `*.png` or `**/*.png`, folders, URLs of any of these,
            or `-`.
        filelist: a file that names more of them, one a line; `-` for stdin.
        recursive: take the files in folders, and below.
        suffixes: of the files that are taken from folders.
    """

    paths: Sequence[str]
    filelist: str | None
    recursive: bool
    suffixes: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where outputs go: beside their inputs, unless a folder is named, by path or URL.

    Attributes:
        suffix: of the outputs.
        folder: for all of them; what came from an input folder keeps its place below that.
        mirror: for all of them, below the path of their input as it was given.
    """

    suffix: str
    folder: str | None = None
    mirror: str | None = None

    def __post_init__(self) -> None:
        if self.folder and self.mirror:
            raise ConfigError("-o and --output-dir-mirror exclude each other: give one of them")
        if self.root and not is_url(self.root):
            folder = Path(self.root)
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"{folder} is a file, expected a folder")

    @property
    def root(self) -> str | None:
        """The folder that is named."""
        return self.folder or self.mirror

    def target(self, source: str, name: PurePath) -> str:
        """Return the output of an input, found as `name` below the folder that was given."""
        if source == PIPE:
            return PIPE
        if self.folder:
            return _join(self.folder, name.with_suffix(self.suffix))
        if self.mirror:
            path = PurePath(source.partition("://")[2] if is_url(source) else source)
            parts = [part for part in path.parts if part not in {path.anchor, os.pardir}]
            return _join(self.mirror, PurePath(*parts).with_suffix(self.suffix))
        return source.removesuffix(PurePath(source).suffix) + self.suffix


def plan_jobs(
    selection: Selection, destination: Destination, *, target_suffixes: Iterable[str]
) -> list[Job]:
    """Pair every input with its output.

    Exactly two paths whose second ends in one of `target_suffixes`, or is `-`, mean IN OUT;
    otherwise all are inputs.

    Raises:
        ConfigError: no input, a pipe among several, a folder without `recursive`, two inputs
            with the same output, or a URL that cannot be opened here.
        FileError: the list of files cannot be read.
    """
    paths = list(selection.paths)
    if selection.filelist:
        paths += _listed(selection.filelist)
    for path in filter(is_url, (*paths, destination.root or "")):
        check_url(path)
    is_pair = len(paths) == 2 and not selection.filelist and not destination.root
    if is_pair and _is_target(paths[1], target_suffixes):
        return [Job(paths[0], paths[1])]
    if not paths:
        raise ConfigError("no input: name files, folders with -r, or a --filelist")
    if PIPE in paths and (len(paths) > 1 or destination.root):
        raise ConfigError("- (a pipe) takes one input and one output")
    found = (pair for path in paths for pair in _files(path, selection))
    makes_folder = destination.root is not None
    jobs = [Job(source, destination.target(source, name), makes_folder) for source, name in found]
    seen: dict[str, str] = {}
    for job in jobs:
        is_remote = is_url(job.target)  # two paths may lead to one file, through links
        target = job.target if is_remote else os.path.realpath(job.target)
        if target in seen and seen[target] != job.source:
            raise ConfigError(
                f"{seen[target]} and {job.source} would both become {job.target}: "
                "give them different names or folders"
            )
        seen[target] = job.source
    return list(dict.fromkeys(jobs))


def _files(path: str, selection: Selection) -> Iterator[tuple[str, PurePath]]:
    """Yield the files that an argument means, each with its path below the folder it names."""
    if path == PIPE:
        yield path, PurePath()
    elif _is_folder(path, selection):
        if not selection.recursive:
            raise ConfigError(f"{path} is a folder: -r takes the files in it")
        for name in _names(path):
            if name.suffix.lower() in selection.suffixes:
                yield _join(path, name), name
    elif glob.has_magic(path) and not file_exists(path):
        files = _matches(path)
        if not files:
            raise ConfigError(f"no file matches {path}")
        for file in files:
            yield file, PurePath(PurePath(file).name)
    else:
        yield path, PurePath(PurePath(path).name)


def _is_folder(path: str, selection: Selection) -> bool:
    if is_url(path):  # storage is asked only where a folder is meant
        return path.endswith("/") or (selection.recursive and url_is_folder(path))
    return Path(path).is_dir()


def _names(folder: str) -> list[PurePath]:
    """Return the files below a folder, relative to it, in order."""
    if is_url(folder):
        return [PurePath(name) for name in names_below(folder)]
    files = (file for file in sorted(Path(folder).rglob("*")) if file.is_file())
    return [file.relative_to(folder) for file in files]


def _matches(pattern: str) -> list[str]:
    """Return the files that a glob means, in order."""
    if is_url(pattern):
        return urls_like(pattern)
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes **
    return [str(Path(match)) for match in matches if not Path(match).is_dir()]


def _join(folder: str, name: PurePath) -> str:
    return join_url(folder, name.as_posix()) if is_url(folder) else str(Path(folder) / name)


def _listed(filelist: str) -> list[str]:
    try:
        text = read_source(filelist).decode()
    except UnicodeDecodeError as error:
        raise FileError(f"cannot read the list {filelist}: {error}") from error
    return [line for line in text.splitlines() if line.strip()]


def _is_target(path: str, suffixes: Iterable[str]) -> bool:
    return path == PIPE or Path(path).suffix.lower() in set(suffixes)
