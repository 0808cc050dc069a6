"""The commands `bench` and `compare`; each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caecodec.cli.console import reports_errors
from caecodec.cli.jobs import Job, check_target
from caecodec.cli.options import Force, Model
from caecodec.config import DEFAULT_TUNE
from caecodec.errors import ConfigError

CODECS_HELP = (
    "Comma-separated: cae, cae-e1, cae-e3, cae-e5, cae-e7, cae-e9 (efforts), cae-visual, "
    "cae-psnr, classic, png, jpeg, mozjpeg, webp, jp2, jxl, avif, avif-psnr."
)
Bpp = Annotated[
    float, typer.Option(min=0.01, help="Bits per pixel of the files shown side by side.")
]


@reports_errors
def bench(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="Folder of images.")],
    codecs: Annotated[
        str,
        typer.Option(help=CODECS_HELP),
    ] = "cae,png,jpeg,webp,avif",
    qualities: Annotated[
        str | None, typer.Option(help="Qualities for all lossy codecs, comma-separated.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder for results.csv and .json, rd.svg and .png, and report.html."),
    ] = Path("bench-results"),
    baselines: Annotated[
        Path | None,
        typer.Option(help="JSON file of published curves to plot (default: Kodak's on Kodak)."),
    ] = None,
    ssimulacra2: Annotated[
        bool, typer.Option(help="Also measure SSIMULACRA2: 0.7 s per megapixel.")
    ] = True,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS.CSV",
            help="Results of an earlier run: metrics of files that are the same come from there.",
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Number of images under a slider in report.html.")
    ] = 8,
    bpp: Bpp = 0.25,
    model: Model = None,
) -> None:
    """Compare caecodec with PNG, JPEG, WebP, AVIF and others on a folder of images.

    Rates are sizes of real files. report.html shows plots, tables, and images at equal file size.
    Needs the extra bench.

    Example: caecodec bench photos/ --codecs cae,jpeg,avif,jxl --out results/
    """
    from caecodec.cli.benchmark import run  # noqa: PLC0415 - loads torch

    run(
        dataset,
        _names(codecs),
        qualities=_numbers(qualities),
        out=out,
        model=model or DEFAULT_TUNE,
        baselines=baselines,
        num_pictures=pictures,
        bits_per_pixel=bpp,
        with_ssimulacra2=ssimulacra2,
        known=known,
    )


@reports_errors
def compare(
    image: Annotated[str, typer.Argument(metavar="IMAGE")],
    codecs: Annotated[str, typer.Option(help=CODECS_HELP)] = "cae,jpeg,webp,avif",
    bpp: Bpp = 0.25,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("compare.html"),
    force: Force = False,
    model: Model = None,
) -> None:
    """Compare codecs on one image at equal file size, under a slider in an HTML page.

    The first codec sets the size: its largest file within --bpp.

    Example: caecodec compare photo.png --codecs cae,jpeg,avif --bpp 0.15
    """
    from caecodec.cli.benchmark import compare_image  # noqa: PLC0415 - loads torch

    check_target(Job(image, str(out)), force=force)
    compare_image(
        Path(image), _names(codecs), bits_per_pixel=bpp, out=out, model=model or DEFAULT_TUNE
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--qualities is {text!r}, expected comma-separated numbers") from None
