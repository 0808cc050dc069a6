"""The work behind `caecodec train` and `caecodec export`."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress
from torch import Tensor

from caecodec.cli.console import say
from caecodec.train.data import load_images
from caecodec.train.export import export
from caecodec.train.settings import find_config, load_config
from caecodec.train.trainer import Budget, Status, Trainer, process_group


def run(
    dataset: Path,
    out: Path,
    *,
    steps: int | None,
    minutes: float | None,
    resume: bool,
    config: str,
    valid: Path | None,
    bar: Progress,
) -> None:
    """Train, then export; an interrupt leaves a checkpoint to resume from."""
    budget = Budget(steps, minutes)
    model_config, settings = load_config(find_config(config))
    checkpoint = out.with_suffix(".ckpt")
    images = load_images(dataset)
    with process_group():
        trainer = Trainer(
            model_config,
            settings,
            images=images,
            valid_images=load_images(valid) if valid else None,
            checkpoint_path=checkpoint,
            resume=resume,
        )
        bar.disable = bar.disable or trainer.rank > 0 or not bar.console.is_terminal
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
                say(f"stopped at step {trainer.step}: --resume goes on from {checkpoint}")
                raise
        if trainer.rank == 0:
            say(
                f"{trainer.step} steps in {trainer.seconds / 60:.1f} minutes, "
                f"{trainer.skipped} skipped for gradients that were not finite"
            )
            _export(checkpoint, images, out)


def export_weights(checkpoint: Path, dataset: Path, out: Path) -> None:
    """Export a checkpoint with tables counted on a folder of images."""
    _export(checkpoint, load_images(dataset), out)


def _export(checkpoint: Path, images: list[Tensor], out: Path) -> None:
    report = export(checkpoint, images, out)
    say(
        f"wrote {out}: {report.coded_bpp:.4f} bpp by its tables against {report.float_bpp:.4f} bpp "
        f"estimated by the float model, {report.loss_percent:+.2f} %"
    )
