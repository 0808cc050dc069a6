"""From a checkpoint to weights: float16, fixed point, integer tables; and what that costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caecodec.config import MAX_QUALITY, NUM_SCALES, model_config_from
from caecodec.container import QUALITY_UNIT
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.entropy_models import Z_BOUND
from caecodec.nn.frozen import FrozenAutoencoder, freeze
from caecodec.nn.rounding import DEAD_ZONE_COST, DeadZones, Rounding, nearest
from caecodec.tables import MAX_REACH, CodingTables, make_counts
from caecodec.train.checkpoint import load_checkpoint
from caecodec.train.data import Crops
from caecodec.weights.storage import Weights, save_weights

CROP_SIZE = 512
TAIL = 2.0**-14
"""Mass of the parametric prior that a y table may leave to its escape."""
Y_PRIOR_COUNTS = 2000.0
Z_PRIOR_COUNTS = 50.0
"""Weight of the trained prior against counted symbols, in symbols."""

DEAD_ZONE_ROUNDS = 2
"""Times that symbols are counted with the dead zones of the tables counted before."""

Histogram = NDArray[np.float64]
RoundingOf = Callable[[Tensor], Rounding]
"""Scale indexes (M, h, w) to the rounding of their symbols."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """Mean rates over crops that the tables were not counted on, in bpp.

    Attributes:
        float_bpp: what the float model estimates.
        coded_bpp: what the integer scale head and the tables promise for the same crops, plainly
            rounded as in that estimate; the tables are counted with dead zones, as files are made.
    """

    float_bpp: float
    coded_bpp: float

    @property
    def loss_percent(self) -> float:
        """Rate lost by integers, in percent; negative where counted tables beat the prior."""
        return 100 * (self.coded_bpp / self.float_bpp - 1)


@torch.inference_mode()
def export(
    checkpoint_path: Path, images: list[Tensor], out: Path, *, num_crops: int = 256
) -> ExportReport:
    """Write the averaged weights of a checkpoint as a weights file.

    Args:
        checkpoint_path: from `Trainer.save`.
        images: training images uint8 (3, H, W); symbols are counted on three quarters of the
            crops and the report is made on the rest.
        out: the .safetensors file to write.
        num_crops: crops of CROP_SIZE pixels a side.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    config = model_config_from(checkpoint.model_config)
    model = MainAutoencoder(config).eval()
    model.load_state_dict(checkpoint.average)
    tensors = freeze(model)
    frozen = FrozenAutoencoder(config, tensors)
    crops = Crops(images, CROP_SIZE, device=torch.device("cpu"), seed=checkpoint.step)
    num_counted = num_crops - num_crops // 4
    tables = _make_tables(model, _count_symbols(frozen, crops, num_counted, lambda _: nearest))
    for _ in range(DEAD_ZONE_ROUNDS):  # what symbols cost decides which are coded, and back
        zones = DeadZones(tables, cost=DEAD_ZONE_COST, magnitudes=1)
        tables = _make_tables(model, _count_symbols(frozen, crops, num_counted, zones.rounding))
    tensors["tables.lengths"], tensors["tables.counts"] = tables.pack()
    training: dict[str, Any] = {
        **checkpoint.settings,
        "steps": checkpoint.step,
        "seconds": round(checkpoint.seconds),
        "skipped_steps": checkpoint.skipped,
        "num_images": len(images),
    }
    save_weights(Weights(config, tensors, training), out)
    return _report(model, frozen, tables, crops, num_crops - num_counted)


def _make_tables(model: MainAutoencoder, counted: tuple[Histogram, Histogram]) -> CodingTables:
    y_counts, z_counts = counted
    return CodingTables((*_y_tables(model, y_counts), *_z_tables(model, z_counts)))


def _count_symbols(
    frozen: FrozenAutoencoder, crops: Crops, count: int, rounding_of: RoundingOf
) -> tuple[Histogram, Histogram]:
    """Count symbols by table: y (NUM_SCALES, 2 MAX_REACH + 1), z (anchors * N, 2 Z_BOUND + 1)."""
    config = frozen.config
    y_counts = np.zeros((NUM_SCALES, 2 * MAX_REACH + 1))
    z_counts = np.zeros((config.quality_anchors * config.hyper_channels, 2 * Z_BOUND + 1))
    for number in range(count):
        (z, z_indexes), (symbols, indexes) = _sections(
            frozen, crops.batch(1), number / count, rounding_of
        )
        _add_counts(y_counts, symbols, indexes)
        _add_counts(z_counts, z, z_indexes - NUM_SCALES)
    return y_counts, z_counts


def _sections(
    frozen: FrozenAutoencoder, x: Tensor, fraction: float, rounding_of: RoundingOf
) -> list[tuple[Tensor, Tensor]]:
    """Return (symbols, table indexes) of z and of y, at a fraction of the quality range."""
    units = _units(fraction)
    y = frozen.analyze(frozen.stem(x), units)
    z = frozen.hyper_symbols(y, units)
    indexes = frozen.scale_indexes(z, units, (y.shape[-2], y.shape[-1]))
    symbols, _ = frozen.quantize(y, z, indexes, units, rounding_of(indexes))
    channels, height, width = z.shape
    return [(z, frozen.hyper_indexes((channels, height, width), units)), (symbols, indexes)]


def _units(fraction: float) -> int:
    return round(fraction * MAX_QUALITY * QUALITY_UNIT)


def _add_counts(counts: Histogram, symbols: Tensor, rows: Tensor) -> None:
    """Add a histogram of symbols to each row of counts (rows, 2 bound + 1), in place."""
    width = counts.shape[1]
    bound = width // 2
    where = (rows * width + symbols.clamp(-bound, bound) + bound).reshape(-1).numpy()
    counts += np.bincount(where, minlength=counts.size).reshape(counts.shape)


def _y_tables(model: MainAutoencoder, counted: Histogram) -> list[NDArray[np.int64]]:
    """Blend the trained prior with symmetrised counts; index 0 is not coded."""
    tables = [np.zeros(0, dtype=np.int64)]
    residuals = torch.arange(-MAX_REACH, MAX_REACH + 1).float()
    counted = counted + counted[:, ::-1]
    for index in range(1, NUM_SCALES):
        indexes = torch.full_like(residuals, float(index))
        prior = model.residual_prior.likelihood(residuals, indexes).double().numpy()
        tables.append(_blend(prior, counted[index], Y_PRIOR_COUNTS))
    return tables


def _z_tables(model: MainAutoencoder, counted: Histogram) -> list[NDArray[np.int64]]:
    config = model.config
    values = torch.arange(-Z_BOUND, Z_BOUND + 1).float()
    values = values[None, None, None, :].expand(1, config.hyper_channels, 1, -1)
    anchors = torch.linspace(0, MAX_QUALITY, config.quality_anchors)
    priors = [
        (-model.hyper_prior.bits(values, quality[None])).exp2()[0, :, 0] for quality in anchors
    ]
    prior = torch.cat(priors).double().numpy()  # (anchors * N, 2 Z_BOUND + 1)
    return [_blend(*pair, Z_PRIOR_COUNTS) for pair in zip(prior, counted, strict=True)]


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
    model: MainAutoencoder,
    frozen: FrozenAutoencoder,
    tables: CodingTables,
    crops: Crops,
    count: int,
) -> ExportReport:
    float_bits = coded_bits = 0.0
    for number in range(count):
        fraction = (number + 0.5) / count
        x = crops.batch(1)
        estimate = model(x, torch.tensor([_units(fraction) / QUALITY_UNIT]))
        float_bits += (estimate.y_bits + estimate.z_bits).item()
        for symbols, indexes in _sections(frozen, x, fraction, lambda _: nearest):
            coded_bits += tables.bits(_flat(symbols), _flat(indexes))
    pixels = count * CROP_SIZE**2
    return ExportReport(float_bits / pixels, coded_bits / pixels)


def _flat(values: Tensor) -> NDArray[np.int32]:
    return values.reshape(-1).numpy().astype(np.int32)
