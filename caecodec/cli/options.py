"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from caecodec.cli.batch import ProgressStyle
from caecodec.config import DEFAULT_TUNE, EFFORTS, Tune

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
    typer.Option(
        "-o", "--output-dir", metavar="FOLDER", help="Folder for the outputs of all inputs."
    ),
]
MirrorFolder = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder for the outputs, each below the path of its input as given.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option("-r", "--recursive", help="Take folders, and what is below; -o keeps their tree."),
]
Filelist = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Take inputs from a file, one a line."),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
]
DryRun = Annotated[
    bool, typer.Option("-n", "--dry-run", help="Say what would be done, and write nothing.")
]
Workers = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files at a time.")]
Preserve = Annotated[
    bool, typer.Option("--preserve", help="Give outputs the times and permissions of inputs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a file on stdout.")]
Progress = Annotated[
    ProgressStyle,
    typer.Option(help="A line a file and a bar; the bar; counted lines; only errors."),
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite outputs that exist.")]
Quality = Annotated[
    float | None,
    typer.Option(
        "-q", "--quality", min=0, max=100, help="0 (smallest) to 100 (best) (default: 50)."
    ),
]


def _known_effort(value: int) -> int:
    if value not in EFFORTS:
        known = ", ".join(map(str, EFFORTS))
        raise typer.BadParameter(f"{value} is not one of {known}")
    return value


Effort = Annotated[
    int,
    typer.Option(
        "-e",
        "--effort",
        metavar="|".join(map(str, EFFORTS)),
        callback=_known_effort,
        help="9 makes the smallest files; 5 takes about 10 times, 9 about 100 times as long as 3.",
    ),
]
VerifyWritten = Annotated[
    bool, typer.Option("--verify", help="Decode what was written before it counts as done.")
]
Remove = Annotated[
    bool, typer.Option("--rm", help="Delete each input once its output is verified.")
]
SizeLimit = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS", help="Refuse larger images (default: 178956970); 500M allows more."
    ),
]
TuneOption = Annotated[
    Tune | None,
    typer.Option(
        "--tune", help=f"What to spend bits on: the eye, or PSNR (default: {DEFAULT_TUNE})."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Shipped model, or a .safetensors file.")
]
