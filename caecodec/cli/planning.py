"""From arguments to jobs: which files are meant, and which output belongs to which input."""

from __future__ import annotations

import dataclasses
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from caecodec.cli.files import PIPE, FileError, Job
from caecodec.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which inputs the arguments mean.

    Attributes:
        paths: files, quoted globs such as `*.png` or `**/*.png`, folders, or `-`.
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
    """Where outputs go: beside their inputs, unless a folder is named.

    Attributes:
        suffix: of the outputs.
        folder: for all of them; what came from an input folder keeps its place below that.
        mirror: for all of them, below the path of their input as it was given.
    """

    suffix: str
    folder: Path | None = None
    mirror: Path | None = None

    def __post_init__(self) -> None:
        if self.folder and self.mirror:
            raise ConfigError("-o and --output-dir-mirror exclude each other: give one of them")
        if self.root and self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"{self.root} is a file, expected a folder")

    @property
    def root(self) -> Path | None:
        """The folder that is named."""
        return self.folder or self.mirror

    def target(self, source: str, root: Path) -> str:
        """Return the output of an input that was found below the folder `root`."""
        if source == PIPE:
            return PIPE
        path = Path(source).with_suffix(self.suffix)
        if self.folder:
            return str(self.folder / path.relative_to(root))
        if self.mirror:
            parts = [part for part in path.parts if part not in {path.anchor, os.pardir}]
            return str(self.mirror.joinpath(*parts))
        return str(path)


def plan_jobs(
    selection: Selection, destination: Destination, *, target_suffixes: Iterable[str]
) -> list[Job]:
    """Pair every input with its output.

    Exactly two paths whose second ends in one of `target_suffixes`, or is `-`, mean IN OUT;
    otherwise all are inputs.

    Raises:
        ConfigError: no input, a pipe among several, a folder without `recursive`, or two inputs
            with the same output.
        FileError: the list of files cannot be read.
    """
    paths = list(selection.paths)
    is_pair = len(paths) == 2 and not selection.filelist and not destination.root
    if is_pair and _is_target(paths[1], target_suffixes):
        return [Job(paths[0], paths[1])]
    if selection.filelist:
        paths += _listed(selection.filelist)
    if not paths:
        raise ConfigError("no input: name files, folders with -r, or a --filelist")
    if PIPE in paths and (len(paths) > 1 or destination.root):
        raise ConfigError("- (a pipe) takes one input and one output")
    found = (pair for path in paths for pair in _files(path, selection))
    makes_folder = destination.root is not None
    jobs = [Job(source, destination.target(source, root), makes_folder) for source, root in found]
    seen: dict[str, str] = {}
    for job in jobs:
        target = os.path.realpath(job.target)  # two paths may lead to one file, through links
        if target in seen and seen[target] != job.source:
            raise ConfigError(
                f"{seen[target]} and {job.source} would both become {job.target}: "
                "give them different names or folders"
            )
        seen[target] = job.source
    return list(dict.fromkeys(jobs))


def _files(path: str, selection: Selection) -> Iterator[tuple[str, Path]]:
    """Yield the files that an argument means, each with the folder that it was found below."""
    if path == PIPE:
        yield path, Path()
    elif Path(path).is_dir():
        if not selection.recursive:
            raise ConfigError(f"{path} is a folder: -r takes the files in it")
        for file in sorted(Path(path).rglob("*")):
            if file.suffix.lower() in selection.suffixes and file.is_file():
                yield str(file), Path(path)
    elif glob.has_magic(path) and not Path(path).exists():
        matches = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 - takes **
        files = [match for match in matches if not match.is_dir()]
        if not files:
            raise ConfigError(f"no file matches {path}")
        for file in files:
            yield str(file), file.parent
    else:
        yield path, Path(path).parent


def _listed(filelist: str) -> list[str]:
    try:
        text = sys.stdin.read() if filelist == PIPE else Path(filelist).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read the list {filelist}: {error}") from error
    return [line for line in text.splitlines() if line.strip()]


def _is_target(path: str, suffixes: Iterable[str]) -> bool:
    return path == PIPE or Path(path).suffix.lower() in set(suffixes)
