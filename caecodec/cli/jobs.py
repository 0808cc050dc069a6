"""One input and its output, which never overwrites anything by accident."""

from __future__ import annotations

import dataclasses
import sys

from caecodec.errors import FileError
from caecodec.files.places import PIPE, file_exists, is_folder, is_same_file


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and its output.

    Attributes:
        source: path or URL, or `-` for stdin.
        target: path or URL, `-` for stdout, or "" where nothing is written.
        makes_folder: create the target's folder if it is missing.
    """

    source: str
    target: str
    makes_folder: bool = False


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
    if is_same_file(job.source, job.target):
        raise FileError(f"{job.target} is the input itself: give another output")
    if is_folder(job.target, asks_storage=False):
        raise FileError(f"{job.target} is a folder: give a file, or -o for a folder")
    if not force:
        raise FileError(f"{job.target} exists: use -f to overwrite it")
