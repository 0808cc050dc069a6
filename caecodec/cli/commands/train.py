"""The commands `train` and `export`; each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caecodec.cli.console import reports_errors, training_bar
from caecodec.cli.jobs import Job, check_target
from caecodec.cli.options import Force
from caecodec.config import ARCHITECTURES
from caecodec.errors import ConfigError
from caecodec.files.places import PIPE

_MODEL = "Model (--arch classic)"

Dataset = Annotated[
    Path, typer.Argument(metavar="DATASET_DIR", help="Folder of images or tar shards.")
]
Out = Annotated[Path, typer.Option(help="Weights file to write (.safetensors).")]
FromAverage = Annotated[
    bool,
    typer.Option(
        "--from-average", help="With --resume: use the averaged weights and new optimiser states."
    ),
]
Start = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Fine-tune a shipped model (psnr) or a .safetensors file."),
]
Architecture = Annotated[
    str | None, typer.Option(help="main, or classic: the textbook autoencoder (default: main).")
]
Config = Annotated[
    str | None, typer.Option(help="TOML file, or main, gpu or classic (default: as --arch).")
]
Epochs = Annotated[
    float | None, typer.Option(help="Train for this many epochs, each of one crop per image.")
]
Channels = Annotated[
    str | None,
    typer.Option(help="Filters per stage (default: 64,32,16).", rich_help_panel=_MODEL),
]
KernelSize = Annotated[
    int | None, typer.Option(help="Side of every kernel, odd (default: 3).", rich_help_panel=_MODEL)
]
Stride = Annotated[
    int | None,
    typer.Option(help="Stride of the convolutions (default: 1).", rich_help_panel=_MODEL),
]
PoolSize = Annotated[
    int | None,
    typer.Option(help="Side of the pooling windows (default: 2).", rich_help_panel=_MODEL),
]
Pooling = Annotated[
    str | None,
    typer.Option(
        help="max, avg, or none for strided convolutions (default: max).", rich_help_panel=_MODEL
    ),
]
Dropout = Annotated[
    float | None, typer.Option(help="Dropout rate (default: 0).", rich_help_panel=_MODEL)
]
Activation = Annotated[
    str | None,
    typer.Option(help="relu, leaky_relu or gelu (default: relu).", rich_help_panel=_MODEL),
]
Color = Annotated[
    str | None, typer.Option(help="gray or rgb (default: rgb).", rich_help_panel=_MODEL)
]
Optimizer = Annotated[
    str | None, typer.Option(help="adam or sgd (default: adam).", rich_help_panel=_MODEL)
]
Rate = Annotated[
    float | None, typer.Option(help="Peak learning rate (default: 0.001).", rich_help_panel=_MODEL)
]
Loss = Annotated[
    str | None, typer.Option(help="bce or mse (default: bce).", rich_help_panel=_MODEL)
]
BatchSize = Annotated[int | None, typer.Option(help="Crops per step.")]
Flips = Annotated[
    bool | None,
    typer.Option("--flips/--no-flips", help="Flip crops at random; unsuitable for digits."),
]
CropSize = Annotated[int | None, typer.Option(help="Side of the crops in pixels.")]
Valid = Annotated[Path | None, typer.Option(help="Folder of validation images.")]


@reports_errors
def train(
    dataset: Dataset,
    out: Out,
    steps: Annotated[int | None, typer.Option(min=1, help="Train for this many steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Train for this many minutes.")] = None,
    epochs: Epochs = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from OUT's checkpoint.")] = False,
    from_average: FromAverage = False,
    start: Start = None,
    arch: Architecture = None,
    config: Config = None,
    channels: Channels = None,
    kernel_size: KernelSize = None,
    stride: Stride = None,
    pool_size: PoolSize = None,
    pooling: Pooling = None,
    dropout: Dropout = None,
    activation: Activation = None,
    color: Color = None,
    optimizer: Optimizer = None,
    learning_rate: Rate = None,
    loss: Loss = None,
    batch_size: BatchSize = None,
    crop_size: CropSize = None,
    flips: Flips = None,
    valid: Valid = None,
    force: Force = False,
) -> None:
    """Train a model on a folder of images, on the CPU or on CUDA, and export its weights.

    Also writes, named after OUT: .ckpt (checkpoint), .ckpt.csv and .ckpt.valid.csv (logs),
    .loss.svg (plot) and .reconstructions.png (originals above reconstructions). For several
    processes: torchrun --nproc-per-node=2 -m caecodec train ...

    Examples:
      caecodec train photos/ --out mine.safetensors --minutes 120
      caecodec train digits/ --out digits.safetensors --arch classic --color gray --epochs 20
    """
    from caecodec.cli.training import Run, run  # noqa: PLC0415 - loads torch

    if out.suffix != ".safetensors":
        raise ConfigError(f"--out is {out}, expected a name that ends in .safetensors")
    if from_average and not resume:
        raise ConfigError("--from-average needs --resume: it resumes from a checkpoint")
    if start and resume:
        raise ConfigError("--start excludes --resume: give one of them")
    if arch not in (None, *ARCHITECTURES):
        raise ConfigError(f"--arch is {arch!r}, expected one of {', '.join(ARCHITECTURES)}")
    check_target(Job(PIPE, str(out)), force=force or resume)
    model = {"architecture": arch, "channels": _whole_numbers(channels), "kernel_size": kernel_size,
             "stride": stride, "pool_size": pool_size, "pooling": pooling, "dropout": dropout,
             "activation": activation, "color": color}  # fmt: skip
    settings = {"optimizer": optimizer, "learning_rate": learning_rate, "loss": loss,
                "batch_size": batch_size, "crop_size": crop_size, "flips": flips}  # fmt: skip
    choice = Run(
        config=config, model=_given(model), settings=_given(settings), start=start, valid=valid
    )
    run(dataset, out, choice, steps=steps, minutes=minutes, epochs=epochs, resume=resume,
        from_average=from_average, bar=training_bar())  # fmt: skip


@reports_errors
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint (.ckpt) by train; with --exact or --web, or a model.",
        ),
    ],
    out: Out,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATASET_DIR",
            help="Training images, on which symbols are counted (--web alone needs none).",
        ),
    ] = None,
    midway: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Take each weight midway to that of a model, from which the training started.",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Make a model that decodes to the same pixels everywhere."),
    ] = False,
    web: Annotated[
        bool,
        typer.Option("--web", help="Write what a decoder in a browser needs of an exact model."),
    ] = False,
    force: Force = False,
) -> None:
    """Export a checkpoint as weights: float16 networks, integer tables, integer scale head.

    `train` does this at its end; after an interrupt, use this to export what was reached.

    Examples:
      caecodec export mine.ckpt photos/ --out mine.safetensors
      caecodec export mine.safetensors photos/ --out exact.safetensors --exact
      caecodec export visual --out site/models/ --web   (a folder: it names the file by the digest)
    """
    from caecodec.cli.training import export_weights  # noqa: PLC0415 - loads torch
    from caecodec.weights.storage import find_weights  # noqa: PLC0415

    if web and out.is_dir():
        out /= f"{find_weights(checkpoint).digest.hex()}.safetensors"
    check_target(Job(PIPE, str(out)), force=force)
    export_weights(checkpoint, dataset, out, midway=midway, exact=exact, web=web)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _whole_numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--channels is {text!r}, expected comma-separated whole numbers"
        ) from None
