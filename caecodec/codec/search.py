"""How much work the encoder spends on symbols; the decoder never knows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
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
        refining: the same, in several steps of refinement, where larger symbols move, too.
        curvatures: bits for a squared error of one step in y_hat, through the synthesis transform,
            at quality 0 and at quality 100; geometric between them.
        steepest: the same where the distortion rises most, which is what moves reckon with.
        farthest: largest move, in quantiser steps.
        first_share: share of its move that a target goes in the first step of refinement.
        fall: the share of a step against that of the one before.
    """

    rounding: float
    refining: float
    curvatures: tuple[float, float]
    steepest: tuple[float, float]
    farthest: float
    first_share: float
    fall: float

    def share(self, step: int) -> float:
        """Return the share of its move that a target goes in a step of refinement."""
        return self.first_share * self.fall**step


TUNINGS = {
    "mse": Tuning(
        rounding=1.0,
        refining=0.55,
        curvatures=(8.0, 8.0),
        steepest=(8.0, 8.0),
        farthest=math.inf,
        first_share=0.4,
        fall=0.9,
    ),
    "visual": Tuning(
        rounding=2.0,
        refining=1.3,
        curvatures=(12.0, 6.0),
        steepest=(15.0, 30.0),
        farthest=1.0,
        first_share=0.25,
        fall=0.9,
    ),
}
"""By the distortion that a model was trained for."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """One level.

    Attributes:
        has_dead_zones: whether rounding weighs bits against distortion.
        steps: gradient steps of refinement after that.
    """

    has_dead_zones: bool = True
    steps: int = 0


_LEVELS = dict(
    zip(
        EFFORTS,
        (Effort(has_dead_zones=False), Effort(), *(Effort(steps=count) for count in (1, 6, 20))),
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
            quality = model.quality_units / QUALITY_UNIT
            rounding = self._dead_zones.at_quality(quality, self._tuning.rounding)
        return _quantized(model, latent, rounding)

    def refine(
        self,
        model: ModelAtQuality,
        latent: Latent,
        level: Effort,
        distortion: TileDistortion,
        on_step: Callable[[], None] = lambda: None,
    ) -> Quantized:
        """Quantise, and follow the gradient of the distortion for the steps of a level.

        At each element the gradient is the sum of what its own rounding error brings, 2 curvature
        (y_hat - target), and of what is left: what it could do for the errors of the others. The
        target, y at first, moves a share of -left / (2 steepest), and is rounded again.

        The one step of a level that has no more is taken unseen, as it costs less than a look at
        what came of it; of several, the symbols of least bits + distortion are kept.

        Args:
            model: at the quality of the file.
            latent: the tile.
            level: one with steps.
            distortion: of a y_hat, in bits.
            on_step: called after each step.
        """
        quality = model.quality_units / QUALITY_UNIT
        move = partial(self._move, quality, distortion)
        start = self.quantize(model, latent, level)
        if level.steps == 1:
            target, _ = move(latent.y, start.y_hat, 0)
            on_step()
            return self.quantize(model, latent._replace(y=target), level)
        rounding = self._refined.at_quality(quality, self._tuning.refining)
        target, quantized = latent.y, start
        best, least = start, math.inf
        for step in range(level.steps):
            target, distorted = move(target, quantized.y_hat, step)
            cost = self._bits(quantized, latent) + distorted
            if cost < least:
                best, least = quantized, cost
            quantized = _quantized(model, latent._replace(y=target), rounding)
            on_step()
        cost = self._bits(quantized, latent) + distortion(quantized.y_hat).item()
        return quantized if cost < least else best

    def _move(
        self, quality: float, distortion: TileDistortion, target: Tensor, y_hat: Tensor, step: int
    ) -> tuple[Tensor, float]:
        """Return the target after a step, and the distortion of what the one before became."""
        tuning = self._tuning
        y_hat = y_hat.detach().requires_grad_()
        with torch.enable_grad():
            distorted = distortion(y_hat)
            (gradient,) = torch.autograd.grad(distorted, y_hat)
        left = gradient - 2 * _between(tuning.curvatures, quality) * (y_hat.detach() - target)
        move = (left / (2 * _between(tuning.steepest, quality))).clamp(
            -tuning.farthest, tuning.farthest
        )
        return target - tuning.share(step) * move, distorted.item()

    def _bits(self, quantized: Quantized, latent: Latent) -> float:
        return self._tables.bits(flat(quantized.symbols), flat(latent.indexes))


def _quantized(model: ModelAtQuality, latent: Latent, rounding: Rounding) -> Quantized:
    quantized = model.quantize(latent, rounding)
    if not quantized.y_hat.isfinite().all():
        raise ModelError("the model's weights overflow: its latents are not finite")
    return quantized


def _between(ends: tuple[float, float], quality: float) -> float:
    """Return what lies geometrically between values of quality 0 and 100."""
    low, high = ends
    return low * (high / low) ** (quality / MAX_QUALITY)


def bits_per_squared_error(quality_units: int, channels: int) -> float:
    """Return lambda 255**2 / channels: bits for a squared error of 1 in one channel."""
    return rd_lambda(quality_units / QUALITY_UNIT) * MAX_LEVEL**2 / channels
