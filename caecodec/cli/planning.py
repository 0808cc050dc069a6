"""From arguments to jobs: which files are inputs, and which output belongs to which input."""

from __future__ import annotations

import codecs
import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from caecodec.cli.jobs import Job, Plan, by_kind
from caecodec.errors import ConfigError, FileError, first_line
from caecodec.files.places import (
    PIPE,
    check_folder,
    check_place,
    file_exists,
    files_below,
    files_like,
    is_folder,
    is_pipe,
    join,
    path_of,
    read_file,
    resolved,
    standard,
)

_SHOWN = 10
"""How many of the names that clash an error shows."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """The inputs that the arguments name.

    Attributes:
        paths: files, quoted globs such as `*.png` or `**/*.png`, folders, URLs of any of these,
            or `-`.
        filelist: a file that lists more of them, by lines or NULs; `-` for stdin.
        recursive: include the files in folders, at any depth.
        suffixes: returns the suffixes of the files to include from folders; called if there are.
        what: what these files are.
        advice: suffix of other files -> what to do to have them included.
    """

    paths: Sequence[str]
    filelist: str | None
    recursive: bool
    suffixes: Callable[[], frozenset[str]]
    what: str
    advice: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where outputs go: beside their inputs, or in a folder, by path or URL.

    Attributes:
        suffix: suffix of the outputs.
        folder: folder for all outputs; the structure of input folders is preserved.
        mirror: folder for all outputs, each under the path of its input as given.
        keeps_suffix: the suffix of the input stays, and that of the output follows it.
    """

    suffix: str
    folder: str | None = None
    mirror: str | None = None
    keeps_suffix: bool = False

    def __post_init__(self) -> None:
        if self.folder and self.mirror:
            raise ConfigError("-o and --output-dir-mirror exclude each other: give one of them")
        if self.root:
            check_folder(self.root)

    @property
    def root(self) -> str | None:
        """The folder of outputs, if there is one."""
        return self.folder or self.mirror

    def target(self, source: str, name: PurePath) -> str:
        """Return the output of an input, whose path relative to its input folder is `name`."""
        if is_pipe(source):
            return PIPE
        if self.folder:
            return join(self.folder, PurePath(self._renamed(str(name))))
        if self.mirror:
            path = path_of(source)
            parts = [part for part in path.parts if part not in {path.anchor, os.pardir}]
            return join(self.mirror, PurePath(self._renamed(str(PurePath(*parts)))))
        return self._renamed(source)

    def _renamed(self, place: str) -> str:
        if self.keeps_suffix:
            return place + self.suffix
        suffix = PurePath(place).suffix
        stem = place.removesuffix(suffix)
        is_kept = suffix.lower() == ".cae" and PurePath(stem).suffix.lower() == self.suffix
        return stem if is_kept else stem + self.suffix  # photo.png.cae becomes photo.png


def plan_jobs(
    selection: Selection, destination: Destination, *, target_suffixes: Iterable[str]
) -> Plan:
    """Pair every input with its output, and count what is left out of folders.

    Two paths, the second ending in one of `target_suffixes` or a pipe, mean IN OUT; otherwise all
    paths are inputs, and one of several that does not exist is refused: it may be meant as OUT.

    Raises:
        ConfigError: no input, a pipe among several, a missing one among several, a folder without
            `recursive`, two inputs with the same output, or a URL that cannot be opened here.
        FileError: the list of files cannot be read.
    """
    paths = list(selection.paths)
    if selection.filelist:
        paths += _listed(selection.filelist)
    for path in paths:
        check_place(path)
    is_pair = len(paths) == 2 and not selection.filelist and not destination.root
    if is_pair and _is_target(paths[1], target_suffixes):
        return Plan([Job(paths[0], paths[1])])
    if not paths:
        raise ConfigError("no input: name files, folders with -r, or a --filelist")
    if (len(paths) > 1 or destination.root) and any(map(is_pipe, paths)):
        raise ConfigError("- (a pipe) takes one input and one output")
    if len(paths) > 1 and not destination.root:
        _check_inputs(selection.paths, target_suffixes)
    plan = Plan([], advice=selection.advice)
    found = (pair for path in paths for pair in _files(path, selection, plan))
    makes_folder = destination.root is not None
    jobs = [Job(source, destination.target(source, name), makes_folder) for source, name in found]
    plan.jobs.extend(dict.fromkeys(jobs))
    _check_targets(plan.jobs, offers_suffix=destination.suffix == ".cae")
    return plan


def _check_targets(jobs: Iterable[Job], *, offers_suffix: bool) -> None:
    """Refuse, before any work, inputs of which one output would replace another."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(resolved(job.target), []).append(job)
    clashes = [group for group in groups.values() if len({job.source for job in group}) > 1]
    if not clashes:
        return
    texts = [
        f"{_some([job.source for job in group], ' and ')} would "
        f"{'both' if len(group) == 2 else 'all'} become {group[0].target}"
        for group in clashes
    ]
    differ = any(len({PurePath(job.source).suffix for job in group}) > 1 for group in clashes)
    option = ", or --keep-suffix" if offers_suffix and differ else ""
    raise ConfigError(f"{_some(texts, '; ')}: give them different names or folders{option}")


def _some(texts: Sequence[str], separator: str) -> str:
    """Return the first of many, and how many more there are."""
    more = [f"{len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return separator.join([*texts[:_SHOWN], *more])


def _check_inputs(paths: Sequence[str], target_suffixes: Iterable[str]) -> None:
    """Refuse, before any work, names of nothing: beside the others, outputs would be written."""
    for path in paths:
        if not file_exists(path) and not glob.has_magic(path):
            suffixes = ", ".join(target_suffixes)
            raise ConfigError(
                f"no file {path}: nothing is done; OUT is the second of two names, "
                f"and ends in {suffixes}"
            )


def _files(path: str, selection: Selection, plan: Plan) -> Iterator[tuple[str, PurePath]]:
    """Yield the files that an argument names, each with its path relative to the named folder."""
    if is_pipe(path):
        yield path, PurePath()
    elif is_folder(path, asks_storage=selection.recursive):
        if not selection.recursive:
            raise ConfigError(f"{path} is a folder: -r takes the files in it")
        yield from _files_in(path, selection, plan)
    elif glob.has_magic(path) and not file_exists(path):
        files = files_like(path)
        if not files:
            raise ConfigError(f"no file matches {path}")
        for file in files:
            yield file, PurePath(PurePath(file).name)
    else:
        yield path, PurePath(PurePath(path).name)


def _files_in(folder: str, selection: Selection, plan: Plan) -> Iterator[tuple[str, PurePath]]:
    """Yield the files to take of a folder; note what is left out, and what cannot be read."""
    left_out: Counter[str] = Counter()
    is_taken = False

    def note(error: OSError) -> None:
        plan.failures[str(error.filename)] = f"cannot read this folder: {first_line(error)}"

    before, suffixes = len(plan.failures), selection.suffixes()
    for name in files_below(folder, note):
        place = join(folder, name)
        kind = _kind(place)
        if kind in suffixes:
            is_taken = True
            yield place, name
        else:
            left_out[kind] += 1
    if left_out:
        plan.left_out[folder] = left_out
    if not is_taken and len(plan.failures) == before:
        why = f"left out: {by_kind(left_out, plan.advice)}" if left_out else "it is empty"
        plan.failures[folder] = f"no {selection.what} to take, {why}"


def _kind(place: str) -> str:
    """Return the suffix of a file, or what it is instead of a file with one."""
    if is_pipe(place):
        return "pipe or device"
    if is_folder(place, asks_storage=False):
        return "link to a folder"
    return PurePath(place).suffix.lower() or "without suffix"


def _listed(filelist: str) -> list[str]:
    """Return the names in a list, which are bytes: each ends at NUL if there is one, or its line.

    Raises:
        FileError: it cannot be read, or is UTF-16.
    """
    data = read_file(filelist)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise FileError(f"cannot read the list {filelist}: it is UTF-16, expected UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        names = data.split(b"\0")
    else:
        has_returns = data.count(b"\n") == data.count(b"\r\n")  # as Windows ends lines
        names = [name for name in data.split(b"\r\n" if has_returns else b"\n") if name.strip()]
    try:
        return [os.fsdecode(name) for name in names if name]
    except UnicodeDecodeError as error:  # on Windows, where names are text
        raise FileError(f"cannot read the list {filelist}: {error}") from error


def _is_target(path: str, suffixes: Iterable[str]) -> bool:
    """Return whether the second of two names is OUT: stdin, at least, is never written."""
    is_target = is_pipe(path) or Path(path).suffix.lower() in set(suffixes)
    return is_target and (path == PIPE or standard(path, 0) != PIPE)
