"""One input and its output, which never overwrites anything by accident."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping

from caecodec.errors import FileError
from caecodec.files.places import PIPE, file_exists, is_folder, is_pipe, is_same_file, standard


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and its output.

    Attributes:
        source: path or URL, or `-` for stdin, as which any name of stdin is kept.
        target: path or URL, `-` for stdout likewise, or "" where nothing is written.
        makes_folder: create the target's folder if it is missing.
    """

    source: str
    target: str
    makes_folder: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", standard(self.source, 0))
        object.__setattr__(self, "target", standard(self.target, 1))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command is to do.

    Attributes:
        jobs: in this order.
        left_out: folder -> kind of what is not taken of it, mostly a suffix -> how many.
        failures: folder -> why it, or one in it, cannot be read or has nothing to take.
        advice: some kinds of what is left out -> what to do to have it taken.
    """

    jobs: list[Job]
    left_out: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    advice: Mapping[str, str] = dataclasses.field(default_factory=dict)


def by_kind(left_out: Counter[str], advice: Mapping[str, str]) -> str:
    """Return how many of each kind, the most first, with the advice that there is."""
    notes = {kind: f": {text}" for kind, text in advice.items()}
    counts = left_out.most_common()
    return ", ".join(f"{count} {kind}{notes.get(kind, '')}" for kind, count in counts)


def check_target(job: Job, *, force: bool) -> None:
    """Refuse, before any work, an output that must not be written.

    Raises:
        FileError: it exists and `force` is not set, is the input, or a terminal or closed stdout.
    """
    if not job.target:
        return
    if job.target == PIPE:
        if sys.stdout is None:
            raise FileError("cannot write to stdout: it is closed")
        if sys.stdout.isatty():
            raise FileError("stdout is a terminal: redirect it or give an output file")
        return
    if is_pipe(job.target) or not file_exists(job.target):
        return
    if is_same_file(job.source, job.target):
        raise FileError(f"{job.target} is the input itself: give another output")
    if is_folder(job.target, asks_storage=False):
        raise FileError(f"{job.target} is a folder: give a file, or -o for a folder")
    if not force:
        raise FileError(f"{job.target} exists: use -f to overwrite it")
