"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from caecodec.cli.batch import ProgressStyle
from caecodec.config import DEFAULT_EFFORT, DEFAULT_TUNE, EFFORTS, Tune

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IN... [OUT]",
        help="Files or URLs, quoted globs such as '**/*.png', folders with -r, or - for stdin and "
        "stdout.",
    ),
]
OutputFolder = Annotated[
    str | None,
    typer.Option("-o", "--output-dir", metavar="FOLDER", help="Folder for all outputs."),
]
MirrorFolder = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder for all outputs, each under the path of its input as given.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "-r", "--recursive", help="Process folders recursively; -o preserves their structure."
    ),
]
Filelist = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Read inputs from a file, one per line, or as of find -print0."
    ),
]
KeepSuffix = Annotated[
    bool, typer.Option("--keep-suffix", help="Name outputs photo.png.cae, not photo.cae.")
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Skip inputs whose output exists.")
]
DryRun = Annotated[
    bool, typer.Option("-n", "--dry-run", help="Show what would be done; write nothing.")
]
Workers = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files to process in parallel.")]
Preserve = Annotated[
    bool, typer.Option("--preserve", help="Copy times and permissions from inputs to outputs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per file to stdout.")]
Progress = Annotated[
    ProgressStyle,
    typer.Option(help="Lines and a bar, the bar alone, numbered lines, or only errors."),
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite existing outputs.")]
Quality = Annotated[
    float | None,
    typer.Option(
        "-q",
        "--quality",
        min=0,
        max=100,
        help="0 (smallest file) to 100 (best quality); default: 50.",
    ),
]


def _known_effort(value: int | None) -> int | None:
    if value is not None and value not in EFFORTS:
        known = ", ".join(map(str, EFFORTS))
        raise typer.BadParameter(f"{value} is not one of {known}")
    return value


Effort = Annotated[
    int | None,
    typer.Option(
        "-e",
        "--effort",
        metavar="|".join(map(str, EFFORTS)),
        callback=_known_effort,
        help="9 makes the smallest files at equal looks; 5 takes about 5 times, 9 up to 100 times "
        f"as long as {DEFAULT_EFFORT}, the default.",
    ),
]
Lossless = Annotated[
    bool,
    typer.Option("--lossless", help="Keep every pixel as it is, instead of a quality or target."),
]
VerifyWritten = Annotated[
    bool, typer.Option("--verify", help="Decode each written file before it counts as done.")
]
Remove = Annotated[
    bool,
    typer.Option("--rm", help="Delete each input whose output is verified and lacks nothing."),
]
RemoveIncomplete = Annotated[
    bool,
    typer.Option(
        "--rm-incomplete", help="As --rm, and delete inputs of which something is not stored, too."
    ),
]
SizeLimit = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS", help="Largest image to accept, such as 500M (default: 178956970)."
    ),
]
TuneOption = Annotated[
    Tune | None,
    typer.Option("--tune", help=f"Optimise for the eye or for PSNR (default: {DEFAULT_TUNE})."),
]
Model = Annotated[str | None, typer.Option("--model", help="Shipped model or .safetensors file.")]
