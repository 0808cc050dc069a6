"""The command line: `--help` and `info` load no torch."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import signal
import sys
import warnings
from typing import Annotated

import typer

from caecodec import __version__
from caecodec.cli.commands.bench import bench, compare
from caecodec.cli.commands.desktop import desktop
from caecodec.cli.commands.images import compress, decompress, info, thumbnail, verify
from caecodec.cli.commands.models import features, models
from caecodec.cli.commands.train import export, train
from caecodec.cli.commands.view import view

app = typer.Typer(
    name="caecodec",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"caecodec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Compress images with a learned codec: smaller than JPEG and WebP at equal PSNR."""


for command in (
    *(compress, decompress, thumbnail, verify, info),
    *(view, bench, compare, models, features, train, export, desktop),
):
    app.command()(command)


def _prepare_streams() -> None:
    """Keep descriptors that are closed from becoming files, and any name from ending a print."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line."""
    _prepare_streams()
    atexit.register(gc.freeze)  # otherwise the final collection would visit all of torch
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's warnings about odd metadata
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # our errors say what it logs
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing partial is left
    app()
