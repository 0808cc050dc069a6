"""The training loop: one command for a CPU, a GPU, and several processes under torchrun."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from caecodec.codec.memory import keep_freed
from caecodec.config import AnyConfig, rd_lambda
from caecodec.errors import ConfigError, ModelError
from caecodec.nn.autoencoder import Estimate
from caecodec.train.branches import DEAD
from caecodec.train.checkpoint import Checkpoint, load_checkpoint
from caecodec.train.data import Crops
from caecodec.train.log import Log
from caecodec.train.recipes import bfloat16_is_native, recipe_for
from caecodec.train.settings import LoopSettings
from caecodec.train.thaw import CHANGES_AT_START, thaw
from caecodec.train.validation import chosen_images, rates_and_psnrs, readings_of
from caecodec.weights.storage import Weights

LOG_EVERY = 20
KEPT_BYTES = 2**31 - 1


class Status(NamedTuple):
    """What a display shows after each step."""

    fraction: float
    step: int
    loss: float
    bpp: float
    psnr: float


class Display(Protocol):
    """Called after each step of the first process."""

    def __call__(self, status: Status) -> None:
        """Show one step."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of steps and minutes."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ConfigError("give one of --steps, --minutes and --epochs, a number above 0")

    def fraction(self, step: int, seconds: float) -> float:
        """Return the part of the budget that is spent, at most 1."""
        spent = step / self.steps if self.steps else seconds / (60 * (self.minutes or 1))
        return min(1.0, spent)


class Trainer:
    """One run: model, optimisers, averaged weights, logs and checkpoints.

    Every process of a torchrun group builds one; rank 0 alone writes files.
    """

    def __init__(  # noqa: PLR0913 - what a run consists of
        self,
        model_config: AnyConfig,
        settings: LoopSettings,
        *,
        images: list[Tensor],
        valid_images: list[Tensor] | None = None,
        checkpoint_path: Path,
        resume: bool = False,
        from_average: bool = False,
        start: Weights | None = None,
    ) -> None:
        self.rank, self.world = _join_group()
        self.device = _device(self.rank)
        self.settings = settings
        self.checkpoint_path = checkpoint_path
        if settings.batch_size % self.world:
            raise ConfigError(
                f"batch_size {settings.batch_size} does not divide among {self.world} processes"
            )
        torch.manual_seed(settings.seed)
        self.recipe = recipe_for(model_config, settings)
        self.log = Log(checkpoint_path)
        self.valid_images = chosen_images(valid_images or [])
        self.model = self.recipe.build()
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.warm_up_from = 0
        self.dead_branches: list[str] = []
        restored = load_checkpoint(checkpoint_path) if resume else None
        # crops after a resume must not repeat those before it, nor those of other processes
        seed = [settings.seed, self.rank, restored.step if restored else 0]
        self.crops = Crops(
            images,
            settings.crop_size,
            device=self.device,
            seed=seed,
            flips=settings.flips,
            shrink=settings.shrink,
        )
        if start and not restored:
            _has_more_blocks(model_config, start.config.to_dict(), free=CHANGES_AT_START)
            thaw(self.model, start)
        elif not restored:
            self.recipe.start(self.model, images)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.model,
            multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay),  # type: ignore[no-untyped-call]
        )
        self.optimizers = self.recipe.optimizers(self.model, self.device)
        if restored:
            self._restore(restored, from_average=from_average)
        self.runner: Any = self.model
        self.bfloat16 = bfloat16_is_native(self.device)

    def run(self, budget: Budget, display: Display | None = None) -> None:
        """Train until the budget is spent; an interrupt saves a checkpoint, then propagates.

        Writes `<checkpoint>.csv` (training), `<checkpoint>.valid.csv` (validation) and
        `<checkpoint>.branches.csv` (what each residual branch does) beside the checkpoint.
        """
        keep_freed(KEPT_BYTES)
        started = time.monotonic() - self.seconds
        saved = self.seconds
        self.runner = _runner(self.model, self.device, self.world)
        try:
            while (fraction := self._agree(budget.fraction(self.step, self.seconds))) < 1:
                estimate, loss = self._train_step(fraction)
                self.seconds = time.monotonic() - started
                if self.rank == 0:
                    self._report(fraction, estimate, loss, display)
                    if self.seconds - saved > 60 * self.settings.checkpoint_minutes:
                        self.save()
                        saved = self.seconds
        finally:
            self.runner = self.model
            if self.rank == 0:
                self.save()
        if self.rank == 0:
            self.validate()

    def save(self) -> None:
        """Write the checkpoint."""
        Checkpoint(
            model_config=self.model.config.to_dict(),
            settings=dataclasses.asdict(self.settings),
            model=self.model.state_dict(),
            average=self.average.module.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            step=self.step,
            seconds=self.seconds,
            skipped=self.skipped,
        ).save(self.checkpoint_path)

    def validate(self) -> None:
        """Append to the logs what the averaged weights do on validation images."""
        if not self.valid_images:
            return
        model = self.average.module.eval()
        for quality, bpp, psnr in rates_and_psnrs(model, self.valid_images, self.device):
            row = (self.step, f"{self.seconds:.0f}", quality, f"{bpp:.4f}", f"{psnr:.4f}")
            self.log.append("valid", row)
        readings = readings_of(model, self.valid_images, self.device)
        for name, output, bend in readings:
            self.log.append("branches", (self.step, name, f"{output:.6f}", f"{bend:.6f}"))
        self.dead_branches = [reading.name for reading in readings if reading.bend < DEAD]

    def _train_step(self, fraction: float) -> tuple[Estimate, Tensor]:
        settings = self.settings
        rise = min(1.0, (self.step - self.warm_up_from + 1) / settings.warmup_steps)
        fall = min(1.0, (1 - fraction) / (1 - settings.decay_from))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rise * fall
        for model in (self.model, self.average.module):
            self.recipe.prepare(model, fraction)
        count = settings.batch_size // self.world
        x, quality = self.crops.batch(count), self.crops.qualities(count)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            estimate = self.runner(x, quality)
        loss = _loss(estimate, quality, x.shape[-2] * x.shape[-1])
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update_parameters(self.model)
        else:
            self.skipped += 1
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        return estimate, loss

    def _report(
        self, fraction: float, estimate: Estimate, loss: Tensor, display: Display | None
    ) -> None:
        if self.step % LOG_EVERY == 0 or display:
            pixels = self.settings.crop_size**2
            y_bpp, z_bpp = (
                bits.mean().item() / pixels for bits in (estimate.y_bits, estimate.z_bits)
            )
            psnr = -10 * estimate.mse.log10().mean().item()
            status = Status(fraction, self.step, loss.item(), y_bpp + z_bpp, psnr)
            if display:
                display(status)
            if self.step % LOG_EVERY == 0:
                row = (self.step, f"{self.seconds:.1f}", f"{status.loss:.4f}", f"{y_bpp:.4f}")
                self.log.append("training", (*row, f"{z_bpp:.4f}", f"{psnr:.3f}", self.skipped))
        if self.step % self.settings.valid_every == 0:
            self.validate()

    def _restore(self, checkpoint: Checkpoint, *, from_average: bool) -> None:
        """Take over a checkpoint's state, but for optimisers whose weights are not the same."""
        is_grown = _has_more_blocks(self.model.config, checkpoint.model_config)
        weights = checkpoint.average if from_average else checkpoint.model
        self.model.load_state_dict(weights, strict=not is_grown)
        self.average.module.load_state_dict(checkpoint.average, strict=not is_grown)
        self.average.n_averaged.fill_(1)
        if is_grown or from_average:
            self.warm_up_from = checkpoint.step
        else:
            self._restore_optimizers(checkpoint)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        self.skipped = checkpoint.skipped

    def _restore_optimizers(self, checkpoint: Checkpoint) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint.optimizers, strict=True):
            peaks = [group["peak"] for group in optimizer.param_groups]
            try:
                optimizer.load_state_dict(state)
            except ValueError as error:  # groups or parameters are not those of this recipe
                raise ModelError(
                    f"{self.checkpoint_path} has optimisers of another version: "
                    "resume with --from-average"
                ) from error
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["peak"] = peak  # today's settings, not those of the checkpoint

    def _agree(self, fraction: float) -> float:
        """Return the first process's value, so that all stop at the same step."""
        if self.world == 1:
            return fraction
        shared = torch.tensor(fraction, device=self.device)
        distributed.broadcast(shared, 0)
        return shared.item()


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Leave the torchrun group, if any, when the run ends.

    Its threads live as long as anything refers to it, and a process that ends before they do
    aborts; DistributedDataParallel refers to it, from within reference cycles.
    """
    try:
        yield
    finally:
        if distributed.is_available() and distributed.is_initialized():
            gc.collect()
            distributed.destroy_process_group()


def _has_more_blocks(
    config: AnyConfig, before: dict[str, Any], *, free: tuple[str, ...] = ()
) -> bool:
    """Return whether a configuration adds blocks, which start as the identity, to the one before.

    Raises:
        ConfigError: it differs in anything else but what is `free`.
    """
    sizes: dict[str, Any] = config.to_dict()
    for name in sorted(sizes.keys() | before.keys()):
        old, new = before.get(name), sizes.get(name)
        if old == new or name in free:
            continue
        if name.endswith("_blocks") and old is not None and new is not None and new > old:
            continue
        raise ConfigError(
            f"{name} is {new}, but {old} in the weights it starts from: the sizes of a model stay, "
            "only blocks can be added"
        )
    return sizes != before


def _bits(estimate: Estimate) -> Tensor:
    return estimate.y_bits + estimate.z_bits


def _loss(estimate: Estimate, quality: Tensor, pixels: int) -> Tensor:
    """Return the mean of (bpp + lambda 255**2 distortion) / sqrt(lambda 255**2).

    So no quality dominates.
    """
    weight = torch.tensor([rd_lambda(value) * 255**2 for value in quality.tolist()])
    weight = weight.to(quality.device)
    return ((_bits(estimate) / pixels + weight * estimate.distortion) / weight.sqrt()).mean()


def _join_group() -> tuple[int, int]:
    """Return (rank, processes); under torchrun, join its group."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank(), world


def _device(rank: int) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", rank % torch.cuda.device_count())
    return torch.device("cpu")


def _runner(model: nn.Module, device: torch.device, world: int) -> Any:
    runner: Any = DistributedDataParallel(model) if world > 1 else model
    return torch.compile(runner) if device.type == "cuda" else runner
