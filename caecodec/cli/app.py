"""The commands. Each imports what it needs when it runs: `--help` and `info` load no torch."""

from __future__ import annotations

import enum
import json
import warnings
from pathlib import Path
from typing import Annotated

import typer

from caecodec import __version__
from caecodec.cli.console import reports_errors, say, stop
from caecodec.cli.files import Job, check_target, plan_jobs
from caecodec.cli.model_commands import features, models
from caecodec.cli.options import (
    Effort,
    Force,
    Inputs,
    Model,
    OutputFolder,
    Quality,
    Remove,
    SizeLimit,
    VerifyWritten,
)
from caecodec.cli.train_commands import export, train
from caecodec.config import DEFAULT_EFFORT
from caecodec.errors import CodecError, ConfigError

app = typer.Typer(
    name="caecodec",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class OutputFormat(enum.StrEnum):
    """Formats that `decompress` writes."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    avif = "avif"
    tiff = "tiff"
    bmp = "bmp"
    ppm = "ppm"


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


@app.command()
@reports_errors
def compress(
    inputs: Inputs,
    output_dir: OutputFolder = None,
    quality: Quality = None,
    effort: Effort = DEFAULT_EFFORT,
    target_size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="At most this size: 12000, 12k or 1.5M.")
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="At most this many bits a pixel.")
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="At least this PSNR.")
    ] = None,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Take the nearest where a target is out of reach.")
    ] = False,
    verify_written: VerifyWritten = False,
    remove: Remove = False,
    force: Force = False,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Compress images to .cae files.

    Two paths of which the second ends in .cae mean IN OUT; otherwise all are inputs.
    A target replaces --quality: sizes are met from below, PSNR from above.

    Examples:
      caecodec compress photo.png
      caecodec compress photo.png small.cae -q 20
      caecodec compress photo.png --target-size 50k
      caecodec compress *.jpg -o compressed/
      cat photo.png | caecodec compress - - > photo.cae
    """
    from caecodec.cli.coding import compress_all, parse_size_limit, parse_target  # noqa: PLC0415

    target = parse_target(quality, target_size, target_bpp, target_psnr)
    jobs = plan_jobs(inputs, folder=output_dir, target_suffixes=[".cae"], default_suffix=".cae")
    _make_folder(output_dir)
    compress_all(
        jobs,
        quality=quality,
        target=target,
        effort=effort,
        best_effort=best_effort,
        verify=verify_written,
        remove=remove,
        force=force,
        model=model,
        size_limit=parse_size_limit(size_limit),
    )


@app.command()
@reports_errors
def decompress(
    inputs: Inputs,
    output_dir: OutputFolder = None,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option("--format", help="Format of the outputs [default: by OUT's suffix, or png]."),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H", help="Decode this part alone, in pixels from the top left."
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="1/2|1/4|1/8", help="Make a smaller image, in less memory.")
    ] = "1",
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Write what is intact of damaged files, and exit 1."),
    ] = False,
    force: Force = False,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Decompress .cae files to images.

    Two paths of which the second ends in an image suffix mean IN OUT; otherwise all are inputs.
    PNG, WebP, TIFF, BMP and PPM outputs are lossless; JPEG and AVIF are written at quality 95.

    Examples:
      caecodec decompress photo.cae
      caecodec decompress photo.cae photo.webp
      caecodec decompress *.cae -o images/
      caecodec decompress photo.cae part.png --crop 200,100,640,480
      caecodec decompress photo.cae small.png --scale 1/4
      caecodec decompress - - --format ppm < photo.cae | display
    """
    from caecodec.cli import coding  # noqa: PLC0415
    from caecodec.pixels import FORMATS  # noqa: PLC0415

    suffix = f".{output_format}" if output_format else None
    jobs = plan_jobs(
        inputs, folder=output_dir, target_suffixes=FORMATS, default_suffix=suffix or ".png"
    )
    _make_folder(output_dir)
    coding.decompress_all(
        jobs,
        suffix=suffix,
        crop=coding.parse_crop(crop),
        reduce=coding.parse_scale(scale),
        allow_partial=allow_partial,
        force=force,
        model=model,
        size_limit=coding.parse_size_limit(size_limit),
    )


@app.command()
@reports_errors
def thumbnail(
    source: Annotated[str, typer.Argument(metavar="IN")],
    target: Annotated[str, typer.Argument(metavar="OUT")],
    size: Annotated[int, typer.Option(min=1, help="Longest side, in pixels.")] = 256,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Write a small, upright picture of a .cae file, such as file managers show.

    OUT is overwritten; it is a PNG unless its suffix says otherwise. Images are never enlarged.

    Example: caecodec thumbnail photo.cae photo.png --size 512
    """
    from caecodec.cli.coding import make_thumbnail, parse_size_limit  # noqa: PLC0415

    job = Job(source, target)
    check_target(job, force=True)
    make_thumbnail(job, size=size, model=model, size_limit=parse_size_limit(size_limit))


@app.command()
@reports_errors
def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Also decode the symbols (loads the model).")
    ] = False,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Check that .cae files are whole, without writing anything; exit 1 if one is not.

    Header, boxes and their checksums, metadata and alpha are read; --deep decodes the symbols too
    and compares them with their checksum.

    Examples:
      caecodec verify *.cae
      caecodec verify --deep photo.cae
    """
    from caecodec.cli.coding import parse_size_limit, verify_all  # noqa: PLC0415

    verify_all(files, deep=deep, model=model, size_limit=parse_size_limit(size_limit))


@app.command()
@reports_errors
def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show size, quality, model and boxes of .cae files without decoding them."""
    from caecodec.inspection import info as read_info  # noqa: PLC0415

    failed = False
    for path in files:
        try:
            facts = read_info(path)
        except CodecError as error:
            say(f"error: {path}: {error}")
            failed = True
            continue
        if as_json:
            typer.echo(json.dumps({"path": str(path), **facts.to_dict()}))
            continue
        boxes = ", ".join(f"{kind} {size}" for kind, size in facts.box_bytes.items())
        typer.echo(
            f"{path}: {facts.width} x {facts.height} {facts.mode}, quality {facts.quality:g}, "
            f"{facts.num_bytes} bytes, {facts.bpp:.4f} bpp\n"
            f"  model {facts.model or 'not shipped'} ({facts.digest}), "
            f"{facts.num_tiles} tile{'s' if facts.num_tiles > 1 else ''}; bytes: {boxes}"
        )
    if failed:
        raise typer.Exit(1)


@app.command()
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


for command in (models, features, train, export):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    warnings.filterwarnings("ignore", module="PIL")  # Pillow's doubts about odd metadata
    app()


def _make_folder(folder: Path | None) -> None:
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            stop(f"{folder} is a file: -o takes a folder", 2)
        folder.mkdir(parents=True, exist_ok=True)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--qualities is {text!r}, expected numbers with commas between"
        ) from None
