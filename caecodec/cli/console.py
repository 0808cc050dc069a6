"""Words on stderr: errors, summaries and progress bars."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from caecodec.cli.files import Job
from caecodec.errors import CodecError, ConfigError

FAILED = 1
USAGE = 2
INTERRUPTED = 130
PATIENCE = 1.0
"""Seconds after which a single job gets a progress bar."""

P = ParamSpec("P")
R = TypeVar("R")

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Write one line to stderr."""
    stderr.print(text, markup=False)


def stop(error: CodecError | str, code: int = FAILED) -> NoReturn:
    """Say an error and leave."""
    say(f"error: {error}")
    raise typer.Exit(code)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every foreseen exception of a command into one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            stop(error, USAGE)
        except CodecError as error:
            stop(error)
        except MemoryError:
            stop("out of memory: try a smaller image")
        except OSError as error:
            stop(f"{error.filename or 'input or output'}: {error.strerror or error}")
        except KeyboardInterrupt:
            stop("interrupted", INTERRUPTED)

    return wrapped


def run_jobs(jobs: Sequence[Job], work: Callable[[Job, Callable[[float], None]], str]) -> None:
    """Do every job in this process; a failure does not stop the rest.

    A bar shows the progress of several jobs, and of one that takes longer than PATIENCE seconds.

    Args:
        jobs: in order.
        work: does one job, tells the part of it that is done, and returns a line about it.

    Raises:
        typer.Exit: code 1, after a list of the failures.
    """
    failures: list[tuple[Job, str]] = []
    with _bar() as bar:
        task = bar.add_task("", total=len(jobs), visible=len(jobs) > 1)
        started = time.monotonic()
        for done, job in enumerate(jobs):

            def show(part: float, done: int = done) -> None:
                is_slow = time.monotonic() - started > PATIENCE
                bar.update(task, completed=done + part, visible=is_slow or len(jobs) > 1)

            try:
                bar.console.print(work(job, show), markup=False)
            except (CodecError, OSError, MemoryError) as error:
                failures.append((job, str(error) or type(error).__name__))
            show(1.0)
    for job, message in failures:
        say(f"error: {message}" if job.source in message else f"error: {job.source}: {message}")
    if failures:
        if len(jobs) > 1:
            say(f"{len(failures)} of {len(jobs)} files failed")
        raise typer.Exit(FAILED)


def training_bar() -> Progress:
    """Return a bar with the columns `loss`, `bpp`, `psnr` and `step`."""
    return Progress(
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.4f}"),
        TextColumn("{task.fields[bpp]:.3f} bpp  {task.fields[psnr]:.2f} dB"),
        TimeRemainingColumn(),
        console=stderr,
    )


def _bar() -> Progress:
    return Progress(
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total}"),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    )
