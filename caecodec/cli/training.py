"""The implementation of `train` and `export`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress
from torch import Tensor

from caecodec.cli.console import print_line
from caecodec.config import AnyConfig, ClassicConfig, model_config_from
from caecodec.errors import ConfigError
from caecodec.files.places import write_file
from caecodec.nn.architectures import build_model
from caecodec.train.checkpoint import load_checkpoint
from caecodec.train.data import load_images
from caecodec.train.export import export, export_exact
from caecodec.train.pictures import compare, plot_loss
from caecodec.train.settings import find_config, load_config
from caecodec.train.trainer import LOG_EVERY, Budget, Status, Trainer, process_group
from caecodec.weights.storage import Weights, find_weights, load_weights
from caecodec.weights.web import web_weights

CHECKPOINT_SUFFIX = ".ckpt"


class Run(NamedTuple):
    """What to train, and the options of the run.

    Attributes:
        config: name or path of a configuration, or None for that of the architecture.
        model, settings: values that override its tables [model] and [train].
        start: shipped model or weights file to start from, or None; its sizes are used if there
            is no configuration.
        valid: folder of validation images, or None.
    """

    config: str | None
    model: dict[str, Any]
    settings: dict[str, Any]
    start: str | None
    valid: Path | None


def run(
    dataset: Path,
    out: Path,
    choice: Run,
    *,
    steps: int | None,
    minutes: float | None,
    epochs: float | None,
    resume: bool,
    from_average: bool,
    bar: Progress,
) -> None:
    """Train, export and plot; an interrupt leaves a checkpoint to resume from."""
    start = find_weights(choice.start) if choice.start else None
    sizes = choice.model
    if start and not choice.config:
        every_size = dataclasses.asdict(start.config)  # those too that `to_dict` leaves out
        sizes = {**every_size, **start.config.to_dict(), **sizes}
    config = choice.config or sizes.get("architecture", "main")
    model_config, settings = load_config(find_config(config), model=sizes, train=choice.settings)
    checkpoint = out.with_suffix(CHECKPOINT_SUFFIX)
    color = _color_of(model_config)
    images = load_images(dataset, color=color)
    budget = _budget(steps, minutes, epochs, len(images) / settings.batch_size)
    with process_group():
        trainer = Trainer(
            model_config,
            settings,
            images=images,
            valid_images=load_images(choice.valid, color=color) if choice.valid else None,
            checkpoint_path=checkpoint,
            resume=resume,
            from_average=from_average,
            start=start,
        )
        bar.disable = bar.disable or trainer.rank > 0 or not bar.console.is_terminal
        _train(trainer, budget, bar)
        if trainer.rank == 0:
            print_line(
                f"{trainer.step} steps in {trainer.seconds / 60:.1f} minutes, "
                f"{trainer.skipped} skipped because of non-finite gradients"
            )
            if trainer.dead_branches:
                print_line(
                    f"{len(trainer.dead_branches)} branches are straight lines, wasted work: "
                    + ", ".join(trainer.dead_branches)
                )
            _export(checkpoint, images, out)
            _draw(out, images)


def export_weights(
    source: str, dataset: Path | None, out: Path, *, midway: str | None, exact: bool, web: bool
) -> None:
    """Export a checkpoint, or what is midway to a model, or a model that is to be exact.

    Raises:
        ConfigError: a model with nothing to do, or no images where they are needed.
    """
    if exact or source.endswith(CHECKPOINT_SUFFIX):
        if dataset is None:
            raise ConfigError("export needs a folder of training images, DATASET_DIR")
        _export_with_images(source, dataset, out, midway=midway, exact=exact)
        source = str(out)
    elif midway or not web:
        raise ConfigError(
            f"{source} is no checkpoint ({CHECKPOINT_SUFFIX}): a model can only be made --exact,"
            " or exported for the --web"
        )
    if web:
        weights = find_weights(source)
        content = web_weights(weights)
        write_file(str(out), lambda target: target.write(content))
        print_line(
            f"wrote {out}: what browsers need of the model {weights.digest.hex()},"
            f" {len(content):,} bytes"
        )


def _export_with_images(
    source: str, dataset: Path, out: Path, *, midway: str | None, exact: bool
) -> None:
    is_checkpoint = source.endswith(CHECKPOINT_SUFFIX)
    if midway and not is_checkpoint:
        raise ConfigError(f"--midway needs a checkpoint ({CHECKPOINT_SUFFIX}), {source} is none")
    if is_checkpoint:
        config = model_config_from(load_checkpoint(Path(source)).model_config)
    else:
        config = find_weights(source).config
    images = load_images(dataset, color=_color_of(config))
    if is_checkpoint:
        start = find_weights(midway) if midway else None
        _export(Path(source), images, out, start=start)
        source = str(out)
    if exact:
        cost = export_exact(find_weights(source), images, out)
        print_line(
            f"wrote {out}: exact, at a cost of {cost.lost_psnr:.3f} dB and"
            f" {cost.rate_percent:.2f} % more bits"
        )


def _color_of(config: AnyConfig) -> str:
    return config.color if isinstance(config, ClassicConfig) else "rgb"


def _budget(
    steps: int | None, minutes: float | None, epochs: float | None, steps_per_epoch: float
) -> Budget:
    """Return the budget that exactly one of the options sets."""
    if epochs is None:
        return Budget(steps, minutes)
    if steps is not None or minutes is not None:
        raise ConfigError("--epochs excludes --steps and --minutes: give one of them")
    if epochs <= 0:
        raise ConfigError(f"--epochs is {epochs:g}, expected a number above 0")
    return Budget(math.ceil(epochs * steps_per_epoch))


def _train(trainer: Trainer, budget: Budget, bar: Progress) -> None:
    with bar:
        task = bar.add_task("", total=1.0, step=0, loss=0.0, bpp=0.0, psnr=0.0)

        def show(status: Status) -> None:
            bar.update(
                task,
                completed=status.fraction,
                step=status.step,
                loss=status.loss,
                bpp=status.bpp,
                psnr=status.psnr,
            )

        try:
            trainer.run(budget, None if bar.disable else show)
        except KeyboardInterrupt:
            print_line(
                f"stopped at step {trainer.step}: --resume continues from {trainer.checkpoint_path}"
            )
            raise


def _export(
    checkpoint: Path,
    images: list[Tensor],
    out: Path,
    *,
    start: Weights | None = None,
) -> None:
    report = export(checkpoint, images, out, start=start)
    print_line(
        f"wrote {out}: {report.coded_bpp:.4f} bpp by its tables against {report.float_bpp:.4f} bpp "
        f"estimated by the float model, {report.loss_percent:+.2f} %"
    )


def _draw(out: Path, images: list[Tensor]) -> None:
    """Draw originals above their reconstructions by the exported model, and plot the loss."""
    weights = load_weights(out)
    picture = out.with_suffix(".reconstructions.png")
    compare(build_model(weights.config, weights.tensors), images).save(picture)
    print_line(f"wrote {picture}: originals above their reconstructions at quality 50")
    log, plot = out.with_suffix(".ckpt.csv"), out.with_suffix(".loss.svg")
    if log.exists():
        plot.write_text(plot_loss(log))
        print_line(f"wrote {plot}: loss, rate and PSNR by step")
    else:
        print_line(f"no plot of the loss: the log starts at step {LOG_EVERY}")
