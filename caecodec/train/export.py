"""From a checkpoint to weights: float16, fixed point, integer tables; and what that costs."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caecodec.config import MAX_QUALITY, MainConfig, model_config_from
from caecodec.errors import ConfigError, ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.format.tables import MAX_REACH, CodingTables, make_counts
from caecodec.nn.architectures import (
    Autoencoder,
    build_autoencoder,
    build_model,
    freeze_autoencoder,
)
from caecodec.nn.autoencoder import TablePrior
from caecodec.nn.exact_layers import without_exact
from caecodec.nn.inference import FrozenModel
from caecodec.nn.inference_main import FrozenMain
from caecodec.nn.rounding import DeadZones, Rounding, nearest
from caecodec.train.calibration import calibrate
from caecodec.train.checkpoint import load_checkpoint
from caecodec.train.data import Crops
from caecodec.train.thaw import thaw
from caecodec.weights.storage import Weights, save_weights

CROP_SIZE = 512
TAIL = 2.0**-14
"""Mass of the parametric prior that a y table may leave to its escape."""

COUNTED_COST = 22.0
"""Dead zone cost of the symbols that are counted: one for all qualities, as they share the tables.
"""
NUM_SEEN = 160
"""Crops by which an exact model's layers are calibrated."""
DEAD_ZONE_ROUNDS = 2
"""Times that symbols are counted with the dead zones of the tables counted before."""

Histogram = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """Mean rates over crops that the tables were not counted on, in bpp.

    Attributes:
        float_bpp: what the float model estimates.
        coded_bpp: what the integer tables (and scale head) promise for the same crops, plainly
            rounded as in that estimate; the tables are counted with dead zones, as files are made.
    """

    float_bpp: float
    coded_bpp: float

    @property
    def loss_percent(self) -> float:
        """Rate lost by integers, in percent; negative where counted tables beat the prior."""
        return 100 * (self.coded_bpp / self.float_bpp - 1)


class ExactReport(NamedTuple):
    """What exactness costs, over crops by which layers were not calibrated.

    Attributes:
        lost_psnr: dB, the mean over images and qualities.
        rate_percent: how many more bits.
    """

    lost_psnr: float
    rate_percent: float


@torch.no_grad()
def export(
    checkpoint_path: Path,
    images: list[Tensor],
    out: Path,
    *,
    start: Weights | None = None,
    num_crops: int = 256,
) -> ExportReport:
    """Write the averaged weights of a checkpoint as a weights file.

    Args:
        checkpoint_path: from `Trainer.save`.
        images: training images uint8 (C, H, W); symbols are counted on three quarters of the
            crops and the report is made on the rest.
        out: the .safetensors file to write.
        start: weights that the run started from, to write what is midway between them and its end:
            it keeps of both what each is good at (Wortsman et al., "Robust fine-tuning of zero-shot
            models", CVPR 2022).
        num_crops: crops of CROP_SIZE pixels a side, or less if no image is as large.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    config = model_config_from(checkpoint.model_config)
    model = build_autoencoder(config).eval()
    model.load_state_dict(checkpoint.average)
    if start:
        _move_midway(model, start)
    tensors = freeze_autoencoder(model)
    frozen = build_model(config, tensors)
    crops = Crops(
        images,
        _crop_size(images, frozen.stride),
        device=torch.device("cpu"),
        seed=checkpoint.step,
        flips=checkpoint.settings.get("flips", True),
    )
    num_counted = num_crops - num_crops // 4
    priors = model.table_priors()
    tables = _make_tables(priors, _count_symbols(frozen, crops, num_counted, nearest))
    for _ in range(DEAD_ZONE_ROUNDS):  # what symbols cost decides which are coded, and back
        zones = DeadZones(tables, magnitudes=1, num_y_tables=frozen.num_y_tables)
        counted = _count_symbols(frozen, crops, num_counted, zones.at(COUNTED_COST))
        tables = _make_tables(priors, counted)
    tensors["tables.lengths"], tensors["tables.counts"] = tables.pack()
    training: dict[str, Any] = {
        **checkpoint.settings,
        "steps": checkpoint.step,
        "seconds": round(checkpoint.seconds),
        "skipped_steps": checkpoint.skipped,
        "num_images": len(images),
        **({"midway_to": start.digest.hex()} if start else {}),
    }
    save_weights(Weights(config, tensors, training), out)
    return _report(model, frozen, tables, crops, num_crops - num_counted)


@torch.inference_mode()
def export_exact(
    weights: Weights, images: list[Tensor], out: Path, *, num_crops: int = NUM_SEEN
) -> ExactReport:
    """Write a model as one whose pixels are the same on every machine. FORMAT.md section 7.7.

    Args:
        weights: of the main architecture; it keeps its tables.
        images: training images uint8 (C, H, W); its layers are calibrated by crops of them.
        out: the .safetensors file to write.
        num_crops: how many.

    Raises:
        ConfigError: a classic model, which has no such form.
        ModelError: a layer whose sums float32 cannot hold exactly.
    """
    config = weights.config
    if not isinstance(config, MainConfig):
        raise ConfigError("a classic model has no exact form: leave --exact out")
    tensors = without_exact(weights.tensors)
    plain = FrozenMain(config, tensors, folded=False)
    size = _crop_size(images, plain.stride)
    crops = Crops(images, size, device=torch.device("cpu"), seed=0)
    tensors = tensors | calibrate(plain, [crops.batch(1) for _ in range(num_crops)])
    save_weights(Weights(config, tensors, weights.training), out)
    return _compare(plain, build_model(config, tensors), weights.tables(), crops, num_crops // 4)


def _move_midway(model: Autoencoder, start: Weights) -> None:
    """Take each weight midway to that of a model; what is not stored of it stays, the priors.

    Raises:
        ModelError: a weight has another shape there.
    """
    own = model.state_dict()
    for name, values in start.tensors.items():
        if name in own and own[name].shape != values.shape:
            raise ModelError(f"{name} is of another model, expected one that the run started from")
    other = copy.deepcopy(model)
    with torch.enable_grad():
        thaw(other, start)
    for name, there in other.state_dict().items():
        if not name.split(".")[0].endswith("prior"):
            own[name].lerp_(there, 0.5)


def _crop_size(images: list[Tensor], stride: int) -> int:
    """Return CROP_SIZE, or the smaller multiple of the stride that holds the largest image."""
    largest = max(min(image.shape[1:]) for image in images)
    return min(CROP_SIZE, -(-largest // stride) * stride)


def _make_tables(priors: list[TablePrior], counted: Histogram) -> CodingTables:
    """Blend each trained prior with what was counted; index 0 is not coded."""
    tables = [np.zeros(0, dtype=np.int64)]
    for prior, counts in zip(priors, counted[1:], strict=True):
        bound = len(prior.masses) // 2
        inside = counts[MAX_REACH - bound : MAX_REACH + bound + 1]
        inside = inside + inside[::-1] if prior.is_symmetric else inside
        tables.append(_blend(prior.masses.double().numpy(), inside, prior.weight))
    return CodingTables(tuple(tables))


def _count_symbols(frozen: FrozenModel, crops: Crops, count: int, rounding: Rounding) -> Histogram:
    """Count the symbols of z and y by table: (tables, 2 MAX_REACH + 1)."""
    width = 2 * MAX_REACH + 1
    counts = np.zeros(frozen.config.num_tables * width)
    for number in range(count):
        quality = MAX_QUALITY * number / count
        for symbols, indexes in _sections(frozen, crops.batch(1), quality, rounding):
            where = indexes * width + symbols.clamp(-MAX_REACH, MAX_REACH) + MAX_REACH
            counts += np.bincount(where.reshape(-1).numpy(), minlength=counts.size)
    return counts.reshape(-1, width)


def _sections(
    frozen: FrozenModel, x: Tensor, quality: float, rounding: Rounding
) -> list[tuple[Tensor, Tensor]]:
    """Return (symbols, table indexes) of z and of y."""
    model = frozen.at(_units(quality))
    latent = model.latent(frozen.stem(x))
    symbols, _ = model.quantize(latent, rounding)
    return [(latent.z, model.hyper_indexes(latent.z.shape)), (symbols, latent.indexes)]


def _units(quality: float) -> int:
    return round(quality * QUALITY_UNIT)


def _blend(prior: Histogram, counted: Histogram, prior_counts: float) -> NDArray[np.int64]:
    """Return the counts of one table from a prior and a histogram over the same odd range."""
    mixed = prior * prior_counts / prior.sum() + counted
    mixed = mixed / mixed.sum()
    middle = len(mixed) // 2
    outside = 1 - np.array([
        mixed[middle - reach : middle + reach + 1].sum() for reach in range(middle + 1)
    ])  # fmt: skip
    reach = int(np.argmax(outside <= TAIL)) if (outside <= TAIL).any() else middle
    inside = mixed[middle - reach : middle + reach + 1]
    return make_counts(np.append(inside, max(outside[reach], 0.0)))


def _report(
    model: Autoencoder, frozen: FrozenModel, tables: CodingTables, crops: Crops, count: int
) -> ExportReport:
    float_bits = coded_bits = pixels = 0.0
    for number in range(count):
        quality = MAX_QUALITY * (number + 0.5) / count
        x = crops.batch(1)
        pixels += x.shape[-2] * x.shape[-1]
        estimate = model(x, torch.tensor([_units(quality) / QUALITY_UNIT]))
        float_bits += (estimate.y_bits + estimate.z_bits).item()
        for symbols, indexes in _sections(frozen, x, quality, nearest):
            coded_bits += tables.bits(_flat(symbols), _flat(indexes))
    return ExportReport(float_bits / pixels, coded_bits / pixels)


def _compare(
    plain: FrozenModel, exact: FrozenModel, tables: CodingTables, crops: Crops, count: int
) -> ExactReport:
    losses, rates = [], []
    for number in range(count):
        x = crops.batch(1)
        errors, bits = [], []
        for frozen in (plain, exact):
            model = frozen.at(_units(MAX_QUALITY * (number + 0.5) / count))
            latent = model.latent(frozen.stem(x))
            symbols, y_hat = model.quantize(latent)
            errors.append((model.synthesize(y_hat).clamp(0, 1) - x).square().mean().item())
            bits.append(tables.bits(_flat(symbols), _flat(latent.indexes)))
        losses.append(10 * math.log10(errors[1] / errors[0]))
        rates.append(100 * (bits[1] / bits[0] - 1))
    return ExactReport(statistics.mean(losses), statistics.mean(rates))


def _flat(values: Tensor) -> NDArray[np.int32]:
    return values.reshape(-1).numpy().astype(np.int32)
