"""Output to stderr: errors, summaries and progress bars."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from caecodec.errors import OUT_OF_MEMORY, CodecError, ConfigError, FileError, is_out_of_memory

FAILED = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As of a program that SIGPIPE ends."""

P = ParamSpec("P")
R = TypeVar("R")

stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SURROGATE_ESCAPE = 0xDC00


def shown(text: str) -> str:
    """Return text in one line: what a name may hold, but a terminal obeys or no codec encodes."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if _SURROGATE_ESCAPE + 0x80 <= code <= _SURROGATE_ESCAPE + 0xFF:  # a byte that is not UTF-8
        return f"\\x{code - _SURROGATE_ESCAPE:02x}"
    return repr(match[0])[1:-1]


def say(text: str) -> None:
    """Print to stdout.

    Raises:
        FileError: it is closed.
    """
    if sys.stdout is None:
        raise FileError("cannot write to stdout: it is closed")
    typer.echo(text)


def print_line(text: str) -> None:
    """Print one line to stderr."""
    stderr.print(shown(text), markup=False)


def stop(error: CodecError | str, code: int = FAILED) -> NoReturn:
    """Print an error and exit."""
    print_line(f"error: {error}")
    raise typer.Exit(code)


def _end_quietly() -> NoReturn:
    """Exit as cat does once nobody reads stdout: what is left to flush goes nowhere."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(BROKEN_PIPE)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Report every expected exception of a command as one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            stop(error, USAGE)
        except CodecError as error:
            stop(error)
        except BrokenPipeError:
            _end_quietly()
        except (MemoryError, RuntimeError, ImportError) as error:
            if not is_out_of_memory(error):
                raise
            stop(OUT_OF_MEMORY)
        except OSError as error:
            stop(f"{error.filename or 'input or output'}: {error.strerror or error}")
        except KeyboardInterrupt:
            stop("interrupted", INTERRUPTED)

    return wrapped


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


def progress_bar(*, is_shown: bool) -> Progress:
    """Return a bar of jobs, shown on terminals only."""
    return Progress(
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total}"),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=not (is_shown and stderr.is_terminal),
    )
