"""Many jobs, in sequence or in threads: progress, results and a summary."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import typer

from caecodec.cli.console import FAILED, print_line, progress_bar, say
from caecodec.cli.jobs import Job, Plan, by_kind, check_target
from caecodec.errors import CodecError, ConfigError, first_line, is_out_of_memory
from caecodec.files.places import (
    PIPE,
    file_exists,
    has_times,
    is_pipe,
    make_parent,
    remove_file,
)

PATIENCE = 1.0
"""Seconds after which a single job shows a progress bar."""


class ProgressStyle(enum.StrEnum):
    """What is shown while a batch runs."""

    auto = "auto"
    bar = "bar"
    plain = "plain"
    none = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """How jobs are run.

    Attributes:
        force: overwrite existing outputs.
        skip_existing: skip such jobs instead.
        dry_run: show what would be done.
        workers: number of jobs in parallel.
        preserve: copy times and permissions from inputs to outputs.
        as_json: print one JSON object per job to stdout.
        progress: auto: a line per file, and a bar on terminals; bar: the bar alone; plain: the
            lines alone, numbered; none: only errors.
        remove: delete each input once its job is done, unless something of it is not stored.
        remove_incomplete: delete it all the same.
    """

    force: bool = False
    skip_existing: bool = False
    dry_run: bool = False
    workers: int = 1
    preserve: bool = False
    as_json: bool = False
    progress: ProgressStyle = ProgressStyle.auto
    remove: bool = False
    remove_incomplete: bool = False

    def __post_init__(self) -> None:
        if self.force and self.skip_existing:
            raise ConfigError("--force and --skip-existing exclude each other: give one of them")


class Status(enum.StrEnum):
    """What became of a job; planned: a dry run would do it; left_out: files of a folder."""

    done = "done"
    planned = "planned"
    skipped = "skipped"
    failed = "failed"
    left_out = "left out"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        status: the outcome in one word.
        line: a description; for a failure, the error message.
        facts: further fields of the JSON object.
        not_stored: what of the source the output lacks.
        pixels: size of the image.
        bytes_in, bytes_out: sizes of the files.
    """

    status: Status = Status.done
    line: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    not_stored: tuple[str, ...] = ()
    pixels: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


Show = Callable[[float], None]
Work = Callable[[Job, Show], Outcome]


def run_jobs(plan: Plan, work: Work, batch: Batch | None = None) -> None:
    """Run every job; a failure does not stop the rest.

    Args:
        plan: the jobs, and what was found with them.
        work: runs one job, and reports the fraction that is done.
        batch: how to run them.

    Raises:
        typer.Exit: code 1, after a list of the failures.
        KeyboardInterrupt: once all started jobs are finished or undone.
    """
    _Run(plan, work, batch or Batch()).go()


class _Run:
    def __init__(self, plan: Plan, work: Work, batch: Batch) -> None:
        self._plan, self._work, self._batch = plan, work, batch
        self._jobs = jobs = plan.jobs
        if batch.as_json and any(job.target == PIPE for job in jobs):
            raise ConfigError("--json writes to stdout: give the image another output")
        places = (place for job in jobs for place in (job.source, job.target))
        if batch.preserve and not all(map(has_times, places)):
            raise ConfigError("--preserve is for files: a URL has no times or permissions to keep")
        self._started = time.monotonic()
        self._outcomes: list[tuple[Job, Outcome]] = []
        self._parts = dict.fromkeys(range(len(jobs)), 0.0)
        styles = {ProgressStyle.auto, ProgressStyle.bar}
        self._bar = progress_bar(is_shown=batch.progress in styles)
        self._has_lines = batch.progress in {ProgressStyle.auto, ProgressStyle.plain}

    def go(self) -> None:
        with self._bar:
            self._task = self._bar.add_task("", total=len(self._jobs), visible=len(self._jobs) > 1)
            for number, outcome in self._results():
                self._take(self._jobs[number], outcome)
                self._show(number, 1.0)
        self._take_folders()
        failures = [pair for pair in self._outcomes if pair[1].status is Status.failed]
        for job, outcome in failures:
            is_named = re.search(rf"(?<!\w){re.escape(job.source)}(?!\w)", outcome.line)
            print_line(f"error: {'' if is_named else job.source + ': '}{outcome.line}")
        if (len(self._jobs) > 1 and not self._batch.dry_run) or self._plan.left_out:
            print_line(self._summary())
        if failures:
            raise typer.Exit(FAILED)

    def _results(self) -> Iterator[tuple[int, Outcome]]:
        """Yield the number of each job and its outcome."""
        if self._batch.workers == 1:
            yield from ((number, self._do(number)) for number in range(len(self._jobs)))
            return
        import concurrent.futures  # noqa: PLC0415 - `--help` and `info` start faster without it

        _share_cores(self._batch.workers)
        pool = concurrent.futures.ThreadPoolExecutor(self._batch.workers)
        try:
            futures = {pool.submit(self._do, number): number for number in range(len(self._jobs))}
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _do(self, number: int) -> Outcome:
        job = self._jobs[number]
        try:
            is_file = job.target != "" and not is_pipe(job.target)
            if self._batch.skip_existing and is_file and file_exists(job.target):
                return Outcome(status=Status.skipped, line=f"{job.target} exists: skipped")
            check_target(job, force=self._batch.force)
            if self._batch.dry_run:
                line = f"would make {job.target} from {job.source}"
                return Outcome(status=Status.planned, line=line)
            if job.makes_folder:
                make_parent(job.target)
            outcome = self._work(job, lambda part: self._show(number, part))
            if self._batch.preserve and is_file and not is_pipe(job.source):
                shutil.copystat(job.source, job.target)
            if self._batch.remove and not self._is_kept(outcome):
                remove_file(job.source)
        except BrokenPipeError:  # nobody reads stdout: nothing is left to do
            raise
        except (CodecError, OSError, MemoryError, RuntimeError, ImportError) as error:
            message = _reason(error)
            return Outcome(status=Status.failed, line=message, facts={"error": message})
        return outcome

    def _take(self, job: Job, outcome: Outcome) -> None:
        self._outcomes.append((job, outcome))
        if self._batch.as_json:
            self._tell(job, outcome)
        elif self._has_lines and outcome.status is not Status.failed:
            is_counted = self._batch.progress is ProgressStyle.plain
            count = f"{len(self._outcomes)}/{len(self._jobs)} " if is_counted else ""
            print_line(count + outcome.line)
            if self._is_kept(outcome):
                lacks = f"its output lacks {', '.join(outcome.not_stored)}"
                print_line(f"{job.source} kept: {lacks}; --rm-incomplete deletes it all the same")

    def _is_kept(self, outcome: Outcome) -> bool:
        """Return whether a source that was to be deleted is not."""
        batch = self._batch
        return batch.remove and not batch.remove_incomplete and bool(outcome.not_stored)

    def _take_folders(self) -> None:
        """Add the failures of folders, and in JSON what was left out of them."""
        for folder, message in self._plan.failures.items():
            line = f"{folder}: {message}"
            outcome = Outcome(status=Status.failed, line=line, facts={"error": message})
            self._take(Job(folder, ""), outcome)
        for folder, kinds in self._plan.left_out.items():
            if self._batch.as_json:
                outcome = Outcome(status=Status.left_out, line="", facts={"left_out": kinds})
                self._tell(Job(folder, ""), outcome)

    def _tell(self, job: Job, outcome: Outcome) -> None:
        facts = {"path": job.source, "output": job.target or None, "status": outcome.status}
        say(json.dumps(facts | {"not_stored": outcome.not_stored} | outcome.facts))

    def _show(self, number: int, part: float) -> None:
        advance, self._parts[number] = part - self._parts[number], part
        is_slow = time.monotonic() - self._started > PATIENCE
        self._bar.update(self._task, advance=advance, visible=is_slow or len(self._jobs) > 1)

    def _summary(self) -> str:
        outcomes = [outcome for _, outcome in self._outcomes]
        bytes_in = sum(outcome.bytes_in for outcome in outcomes)
        bytes_out = sum(outcome.bytes_out for outcome in outcomes)
        pixels = sum(outcome.pixels for outcome in outcomes)
        statuses = Counter(outcome.status for outcome in outcomes)
        seconds = time.monotonic() - self._started
        failed, total = statuses[Status.failed], len(self._outcomes)
        counts = [f"{failed} of {total} files failed" if failed else f"{total} files"]
        if pixels:
            counts.append(f"{pixels / 1e6:.1f} megapixels")
        if bytes_out:
            ratio = max(bytes_in, bytes_out) / max(1, min(bytes_in, bytes_out))
            counts.append(f"{bytes_in:,} bytes in, {bytes_out:,} out (a factor of {ratio:.1f})")
        if statuses[Status.skipped]:
            counts.append(f"{statuses[Status.skipped]} skipped")
        kept = sum(map(self._is_kept, outcomes))
        if kept:
            counts.append(f"{kept} kept (not stored whole)")
        left_out = sum(self._plan.left_out.values(), Counter[str]())
        if left_out:
            counts.append(f"{left_out.total()} left out ({by_kind(left_out, self._plan.advice)})")
        return f"{', '.join(counts)}, {seconds:.1f} s"


def _reason(error: Exception) -> str:
    """Return why a job failed, in one line; raise what is a defect of this program."""
    if isinstance(error, (MemoryError, RuntimeError, ImportError)) and not is_out_of_memory(error):
        raise error
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {first_line(error)}"
    return first_line(error)


def _share_cores(workers: int) -> None:
    """Give each of this many threads its share of the cores."""
    import torch  # noqa: PLC0415 - slow to load, needed only by batches of several workers

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
