"""The commands that write, read and check `.cae` files; each imports what it needs when it runs."""

from __future__ import annotations

import enum
import json
from typing import Annotated

import typer

from caecodec.cli.batch import Batch, ProgressStyle
from caecodec.cli.console import print_line, reports_errors, say, shown
from caecodec.cli.jobs import Job, check_target
from caecodec.cli.options import (
    AsJson,
    DryRun,
    Effort,
    Filelist,
    Force,
    Inputs,
    KeepSuffix,
    Lossless,
    MirrorFolder,
    Model,
    OutputFolder,
    Preserve,
    Progress,
    Quality,
    Recursive,
    Remove,
    RemoveIncomplete,
    SizeLimit,
    SkipExisting,
    TuneOption,
    VerifyWritten,
    Workers,
)
from caecodec.cli.planning import Destination, Selection, plan_jobs
from caecodec.config import DEFAULT_EFFORT
from caecodec.errors import CodecError
from caecodec.files.places import read_file
from caecodec.weights import choose_model


class OutputFormat(enum.StrEnum):
    """Formats that `decompress` writes."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    avif = "avif"
    tiff = "tiff"
    bmp = "bmp"
    ppm = "ppm"


@reports_errors
def compress(
    inputs: Inputs = None,
    output_dir: OutputFolder = None,
    output_dir_mirror: MirrorFolder = None,
    keep_suffix: KeepSuffix = False,
    recursive: Recursive = False,
    filelist: Filelist = None,
    quality: Quality = None,
    effort: Effort = None,
    lossless: Lossless = False,
    target_size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Maximum file size: 12000, 12k or 1.5M.")
    ] = None,
    target_bpp: Annotated[float | None, typer.Option(help="Maximum bits per pixel.")] = None,
    target_psnr: Annotated[float | None, typer.Option(metavar="DB", help="Minimum PSNR.")] = None,
    target_ssimulacra2: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="Minimum SSIMULACRA2: 90 is visually lossless, 70 high; needs the extra bench.",
        ),
    ] = None,
    best_effort: Annotated[
        bool,
        typer.Option(
            "--best-effort", help="If the target is unreachable, write the closest result."
        ),
    ] = False,
    psnr: Annotated[
        bool, typer.Option("--psnr", help="Report the PSNR of the decoded file.")
    ] = False,
    verify_written: VerifyWritten = False,
    remove: Remove = False,
    remove_incomplete: RemoveIncomplete = False,
    force: Force = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    jobs: Workers = 1,
    preserve: Preserve = False,
    as_json: AsJson = False,
    progress: Progress = ProgressStyle.auto,
    tune: TuneOption = None,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Compress images to .cae files.

    Two paths, the second ending in .cae, mean IN OUT; otherwise all paths are inputs.
    A target replaces --quality: a size is a maximum, PSNR and SSIMULACRA2 are minimums.
    So does --lossless: the pixels that come back are equal, hidden colours under alpha included.

    Examples:
      caecodec compress photo.png
      caecodec compress photo.png small.cae -q 20
      caecodec compress photo.png --target-size 50k
      caecodec compress drawing.png --lossless
      caecodec compress *.jpg -o compressed/
      caecodec compress -r photos/ -o compressed/ -j 2 --skip-existing --preserve
      cat photo.png | caecodec compress - - > photo.cae
    """
    from caecodec.cli import coding, parsing  # noqa: PLC0415
    from caecodec.image.image_files import image_suffixes  # noqa: PLC0415
    from caecodec.image.plugins import missing_plugins  # noqa: PLC0415

    options = coding.Compressing(
        quality=quality,
        target=parsing.parse_target(
            quality=quality,
            effort=effort,
            lossless=lossless,
            size=target_size,
            bpp=target_bpp,
            psnr=target_psnr,
            ssimulacra2=target_ssimulacra2,
        ),
        lossless=lossless,
        effort=DEFAULT_EFFORT if effort is None else effort,
        best_effort=best_effort,
        verify=verify_written or remove or remove_incomplete,
        measures_psnr=psnr,
        model=str(choose_model(tune, model)),
        size_limit=parsing.parse_size_limit(size_limit),
    )
    batch = Batch(
        force=force, skip_existing=skip_existing, dry_run=dry_run, workers=jobs, preserve=preserve,
        as_json=as_json, progress=progress, remove=remove or remove_incomplete,
        remove_incomplete=remove_incomplete,
    )  # fmt: skip
    planned = plan_jobs(
        Selection(inputs or [], filelist, recursive, image_suffixes, "image", missing_plugins()),
        Destination(".cae", output_dir, output_dir_mirror, keep_suffix),
        target_suffixes=[".cae"],
    )
    coding.compress_all(planned, options, batch)


@reports_errors
def decompress(
    inputs: Inputs = None,
    output_dir: OutputFolder = None,
    output_dir_mirror: MirrorFolder = None,
    recursive: Recursive = False,
    filelist: Filelist = None,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option("--format", help="Output format (default: from OUT's suffix, or png)."),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", help="Decode only this part, in pixels from the top left."),
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="1/2|1/4|1/8", help="Decode at reduced size, in less memory.")
    ] = "1",
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Write what is intact of damaged files; exit with 1."),
    ] = False,
    force: Force = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    jobs: Workers = 1,
    preserve: Preserve = False,
    as_json: AsJson = False,
    progress: Progress = ProgressStyle.auto,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Decompress .cae files to images.

    Two paths, the second ending in an image suffix, mean IN OUT; otherwise all paths are inputs.
    PNG, WebP, TIFF, BMP and PPM outputs are lossless; JPEG and AVIF use quality 95.

    Examples:
      caecodec decompress photo.cae
      caecodec decompress photo.cae photo.webp
      caecodec decompress *.cae -o images/
      caecodec decompress -r compressed/ -o images/ --format jpg
      caecodec decompress photo.cae part.png --crop 200,100,640,480
      caecodec decompress photo.cae small.png --scale 1/4
      caecodec decompress - - --format ppm < photo.cae | display
    """
    from caecodec.cli import coding, parsing  # noqa: PLC0415
    from caecodec.image.saving import FORMATS  # noqa: PLC0415

    suffix = f".{output_format}" if output_format else None
    options = coding.Decompressing(
        suffix=suffix,
        crop=parsing.parse_crop(crop),
        scale=parsing.parse_scale(scale),
        allow_partial=allow_partial,
        model=model,
        size_limit=parsing.parse_size_limit(size_limit),
    )
    batch = Batch(
        force=force, skip_existing=skip_existing, dry_run=dry_run, workers=jobs, preserve=preserve,
        as_json=as_json, progress=progress,
    )  # fmt: skip
    planned = plan_jobs(
        Selection(inputs or [], filelist, recursive, lambda: frozenset({".cae"}), ".cae file"),
        Destination(suffix or ".png", output_dir, output_dir_mirror),
        target_suffixes=FORMATS,
    )
    coding.decompress_all(planned, options, batch)


@reports_errors
def thumbnail(
    source: Annotated[str, typer.Argument(metavar="IN")],
    target: Annotated[str, typer.Argument(metavar="OUT")],
    size: Annotated[int, typer.Option(min=1, help="Longest side, in pixels.")] = 256,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Write a small, upright image of a .cae file, as file managers show it.

    OUT is overwritten; its suffix sets the format, PNG by default. Images are never enlarged.

    Example: caecodec thumbnail photo.cae photo.png --size 512
    """
    from caecodec.cli.coding import make_thumbnail  # noqa: PLC0415
    from caecodec.cli.parsing import parse_size_limit  # noqa: PLC0415

    job = Job(source, target)
    check_target(job, force=True)
    make_thumbnail(job, size=size, model=model, size_limit=parse_size_limit(size_limit))


@reports_errors
def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Also decode the symbols (loads the model).")
    ] = False,
    as_json: AsJson = False,
    model: Model = None,
    size_limit: SizeLimit = None,
) -> None:
    """Check that .cae files are intact, without writing anything; exit with 1 if any is not.

    Checks header, boxes and their checksums, metadata and alpha; --deep also decodes the symbols
    and compares them with their checksum.

    Examples:
      caecodec verify *.cae
      caecodec verify --deep photo.cae
    """
    from caecodec.cli.coding import verify_all  # noqa: PLC0415
    from caecodec.cli.parsing import parse_size_limit  # noqa: PLC0415

    verify_all(
        files,
        deep=deep,
        model=model,
        size_limit=parse_size_limit(size_limit),
        batch=Batch(as_json=as_json),
    )


@reports_errors
def info(
    files: Annotated[list[str], typer.Argument(metavar="FILE...")],
    as_json: AsJson = False,
) -> None:
    """Show size, quality, lossless parts, model and boxes of .cae files without decoding them.

    Needs no model, and no memory beyond the files' bytes.

    Examples:
      caecodec info photo.cae
      caecodec info *.cae --json | jq .bpp
    """
    from caecodec.inspection import info as read_info  # noqa: PLC0415

    failed = False
    for path in files:
        try:
            facts = read_info(read_file(path))
        except CodecError as error:
            print_line(f"error: {error}" if path in str(error) else f"error: {path}: {error}")
            failed = True
            continue
        if as_json:
            say(json.dumps({"path": path, **facts.to_dict()}))
            continue
        boxes = ", ".join(f"{kind} {size}" for kind, size in facts.box_bytes.items())
        tiles = f"{facts.num_tiles} tile{'s' if facts.num_tiles > 1 else ''}"
        if facts.num_lossless_tiles:
            tiles += f", {facts.num_lossless_tiles} lossless"
        say(
            f"{shown(path)}: {facts.width} x {facts.height} {facts.mode}, "
            f"{facts.fidelity}, {facts.num_bytes} bytes, {facts.bpp:.4f} bpp\n"
            f"  model {facts.model or 'not shipped'} ({facts.digest}), {tiles}; bytes: {boxes}"
        )
    if failed:
        raise typer.Exit(1)
