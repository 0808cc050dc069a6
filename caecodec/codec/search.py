"""How much work the encoder spends on symbols; the decoder never knows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from caecodec.codec.tensors import flat
from caecodec.config import EFFORTS, MAX_QUALITY, rd_lambda
from caecodec.errors import ConfigError, ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.format.grid import Region, TileGrid
from caecodec.format.tables import CodingTables
from caecodec.image.metrics import MAX_LEVEL
from caecodec.nn.inference import Latent, ModelAtQuality, Quantized
from caecodec.nn.rounding import DeadZones, Rounding, nearest

REFINED_MAGNITUDES = 8


class Tuning(NamedTuple):
    """What rounding and refinement go by, for a distortion.

    Attributes:
        rounding: dead zone costs against those that are best for a quality and the squared error.
        refining: the same, in all steps of refinement.
        curvatures: bits for a squared error of one step in y_hat, through the synthesis transform,
            at quality 0 and at quality 100; geometric between them.
        adds_up: whether targets go on from the last one, or from y_hat.
        farthest: largest move of an element, in quantiser steps.
        first_share: share of the way that the first target goes.
        half_life: steps of refinement after which that share has halved.
    """

    rounding: float
    refining: float
    curvatures: tuple[float, float]
    adds_up: bool = False
    farthest: float = math.inf
    first_share: float = 0.3
    half_life: float = 8.0

    def curvature(self, quality: float) -> float:
        """Return the bits for a squared error of one step at a quality."""
        low, high = self.curvatures
        return low * (high / low) ** (quality / MAX_QUALITY)

    def share(self, step: int) -> float:
        """Return the share of the way that the target after a step of refinement goes."""
        return self.first_share * 0.5 ** (step / self.half_life)


TUNINGS = {
    "mse": Tuning(1.0, 0.55, (8.0, 8.0)),
    "visual": Tuning(
        2.0, 1.0, (15.0, 30.0), adds_up=True, farthest=0.6, first_share=0.2, half_life=3.0
    ),
}
"""By the distortion that a model was trained for."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """One level.

    Attributes:
        has_dead_zones: whether rounding weighs bits against distortion.
        steps: gradient steps of refinement after that, or None for no refinement.
    """

    has_dead_zones: bool = True
    steps: int | None = None

    @property
    def num_trials(self) -> int:
        """Sets of symbols that are made; with more than one, the best is kept."""
        return 1 if self.steps is None else self.steps + 2


_LEVELS = dict(
    zip(
        EFFORTS,
        (Effort(has_dead_zones=False), Effort(), *(Effort(steps=count) for count in (2, 8, 30))),
        strict=True,
    )
)


def effort_level(level: int) -> Effort:
    """Return a level by number.

    Raises:
        ConfigError: not one of EFFORTS.
    """
    if level not in _LEVELS:
        raise ConfigError(f"effort is {level}, expected one of {', '.join(map(str, EFFORTS))}")
    return _LEVELS[level]


class Trial(NamedTuple):
    """Bits of y plus distortion in bits, and the symbols that cost them; z is the same in all."""

    cost: float
    quantized: Quantized


TileDistortion = Callable[[Tensor], Tensor]
"""y_hat (1, M, h, w) of a tile to lambda 255**2 distortion times pixels, in bits; has gradients."""


class Surroundings:
    """What the distortion of one tile depends on: its pixels, and the latents around it.

    A tile's latents reach pixels a halo beyond its edge, and those depend on latents another halo
    further; both are here, so that a tile is judged as the decoder will show it.
    """

    def __init__(
        self, model: ModelAtQuality, cut: Callable[[Region], Tensor], grid: TileGrid, tile: Region
    ) -> None:
        """Cut the window of a tile, in latent positions, out of the image's latents."""
        halo = model.model.synthesis_halo
        self._model = model
        outer = tile.grown(2 * halo, grid.bounds)
        self._latents = cut(outer)
        self._inner = tile.within(outer)
        reached = tile.grown(halo, grid.bounds)
        self.pixels = reached.scaled(model.model.stride)
        """The pixels that the tile reaches, in the image, padding included."""
        self._reached = reached.within(outer)

    def squared_error(self, y_hat: Tensor, x: Tensor, *, is_gray: bool) -> Tensor:
        """Return the sum of squared errors against x (1, 3 or 1, H, W), on [0, 1] and clamped.

        The arguments are those of `decoded`.
        """
        return (self.decoded(y_hat, x, is_gray=is_gray) - x).square().sum()

    def decoded(self, y_hat: Tensor, x: Tensor, *, is_gray: bool) -> Tensor:
        """Return what the decoder shows of `pixels`, of the shape of x, clamped but not rounded.

        Args:
            y_hat: (1, M, h, w) of the tile.
            x: the true part of `pixels`, (1, 3 or 1, H, W) in [0, 1].
            is_gray: take the mean of the channels, which is what the decoder writes.
        """
        latents = self._latents.clone()
        latents[..., self._inner.rows, self._inner.columns] = y_hat
        x_hat = self._model.synthesize(latents, self._reached)
        x_hat = x_hat[..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        return x_hat.mean(1, keepdim=True) if is_gray else x_hat


class SymbolSearch:
    """Chooses the y symbols of a tile by rate and distortion."""

    def __init__(self, tables: CodingTables, num_y_tables: int, tuning: Tuning) -> None:
        """Prepare the dead zones of the CDF tables, of which the first are those of y."""
        self._tables = tables
        self._tuning = tuning
        self._dead_zones = DeadZones(tables, magnitudes=1, num_y_tables=num_y_tables)
        self._refined = DeadZones(tables, magnitudes=REFINED_MAGNITUDES, num_y_tables=num_y_tables)

    def quantize(self, model: ModelAtQuality, latent: Latent, level: Effort) -> Quantized:
        """Quantise without refinement."""
        rounding: Rounding = nearest
        if level.has_dead_zones:
            rounding = self._dead_zones.at_quality(
                model.quality_units / QUALITY_UNIT, self._tuning.rounding
            )
        return _quantized(model, latent, rounding)

    def trials(
        self, model: ModelAtQuality, latent: Latent, level: Effort, distortion: TileDistortion
    ) -> Iterator[Trial]:
        """Yield the trials of a level; a higher one's begin with those of the one below.

        Args:
            model: at the quality of the file.
            latent: the tile.
            level: what to try.
            distortion: of a y_hat, in bits.
        """
        quantized = self.quantize(model, latent, level)
        yield Trial(self._bits(quantized, latent) + distortion(quantized.y_hat).item(), quantized)
        if level.steps is not None:
            yield from self._refine(model, latent, level.steps, distortion)

    def _refine(
        self, model: ModelAtQuality, latent: Latent, steps: int, distortion: TileDistortion
    ) -> Iterator[Trial]:
        """Yield trials of targets that follow the distortion's gradient.

        The synthesis transform is close to orthonormal in these units, so the y_hat of least
        squared error lies near y_hat - gradient / (2 curvature). The target moves a share of the
        way to it, starting from y, and is rounded with dead zones again. A distortion that a few
        places dominate has none so near: then targets add up moves along its gradient, none of
        them far.
        """
        quality = model.quality_units / QUALITY_UNIT
        tuning = self._tuning
        rounding = self._refined.at_quality(quality, tuning.refining)
        curvature = tuning.curvature(quality)
        target = latent.y
        for step in range(steps + 1):
            quantized = _quantized(model, latent._replace(y=target), rounding)
            y_hat = quantized.y_hat.detach().requires_grad_()
            with torch.enable_grad():
                distorted = distortion(y_hat)
                (gradient,) = torch.autograd.grad(distorted, y_hat)
            yield Trial(self._bits(quantized, latent) + distorted.item(), quantized)
            move = (gradient / (2 * curvature)).clamp(-tuning.farthest, tuning.farthest)
            start = target if tuning.adds_up else quantized.y_hat
            target = target.lerp(start - move, tuning.share(step))

    def _bits(self, quantized: Quantized, latent: Latent) -> float:
        return self._tables.bits(flat(quantized.symbols), flat(latent.indexes))


def _quantized(model: ModelAtQuality, latent: Latent, rounding: Rounding) -> Quantized:
    quantized = model.quantize(latent, rounding)
    if not quantized.y_hat.isfinite().all():
        raise ModelError("the model's weights overflow: its latents are not finite")
    return quantized


def bits_per_squared_error(quality_units: int, channels: int) -> float:
    """Return lambda 255**2 / channels: bits for a squared error of 1 in one channel."""
    return rd_lambda(quality_units / QUALITY_UNIT) * MAX_LEVEL**2 / channels
