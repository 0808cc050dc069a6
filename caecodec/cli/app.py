"""The command line: `--help` and `info` load no torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from caecodec import __version__
from caecodec.cli.console import reports_errors
from caecodec.cli.desktop_commands import desktop
from caecodec.cli.image_commands import compress, decompress, info, thumbnail, verify
from caecodec.cli.model_commands import features, models
from caecodec.cli.options import Model
from caecodec.cli.train_commands import export, train
from caecodec.errors import ConfigError

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
        typer.Option("-V", "--version", callback=_print_version, is_eager=True, help="Version."),
    ] = False,
) -> None:
    """Compress photographs with a learned codec: smaller than JPEG and WebP at equal PSNR."""


@reports_errors
def bench(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="Folder of images.")],
    codecs: Annotated[
        str,
        typer.Option(
            help="Of cae, cae-e1 to cae-e9 (efforts), classic, png, jpeg, mozjpeg, webp, jp2, jxl, "
            "avif."
        ),
    ] = "cae,png,jpeg,webp,avif",
    qualities: Annotated[
        str | None, typer.Option(help="Qualities of all lossy codecs, with commas between.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for results.csv, results.json, rd.svg, rd.png.")
    ] = Path("bench-results"),
    baselines: Annotated[
        Path | None,
        typer.Option(help="JSON of published curves to draw dashed [default: Kodak's on Kodak]."),
    ] = None,
    model: Model = None,
) -> None:
    """Compare caecodec with PNG, JPEG, WebP, AVIF and others on a folder of images.

    Every rate is the size of a real file. Needs the extra: pip install 'caecodec[bench]'

    Example: caecodec bench photos/ --codecs cae,jpeg,avif,jxl --out results/
    """
    from caecodec.cli.benchmark import run  # noqa: PLC0415 - loads torch

    names = [name.strip() for name in codecs.split(",") if name.strip()]
    run(dataset, names, _numbers(qualities), out, model or "main", baselines)


for command in (
    *(compress, decompress, thumbnail, verify, info),
    *(bench, models, features, train, export, desktop),
):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's doubts about odd metadata
    app()


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--qualities is {text!r}, expected numbers with commas between"
        ) from None
