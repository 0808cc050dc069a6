"""How much work the encoder spends on symbols; the decoder never knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from caecodec.codec.tensors import flat
from caecodec.config import MAX_EFFORT, MIN_EFFORT, rd_lambda
from caecodec.errors import ConfigError, ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.format.grid import Region, TileGrid
from caecodec.format.tables import CodingTables
from caecodec.image.metrics import MAX_LEVEL
from caecodec.nn.architectures import FrozenModel
from caecodec.nn.rounding import DeadZones, Rounding, nearest

USUAL = 1.0
PLAIN = float("inf")
STRENGTHS = (PLAIN, 0.65, USUAL, 1.8)
"""Dead zone costs, against those that are best for a quality, among which efforts 4 and up choose;
an infinite one is plain rounding."""
REFINED_STRENGTH = 0.55
"""Of the dead zones of refinement, which serve all its steps."""
REFINED_MAGNITUDES = 8
CURVATURE = 8.0
"""Bits for a squared error of one step in y_hat, through the synthesis transform."""
FIRST_SHARE = 0.3
HALF_LIFE = 8.0
"""Refinement steps after which the share of a new target has halved."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """One level.

    Attributes:
        strengths: dead zone costs to try, as in STRENGTHS.
        steps: gradient steps of refinement after these, or None for no refinement.
    """

    strengths: tuple[float, ...]
    steps: int | None = None

    @property
    def num_trials(self) -> int:
        """Sets of symbols that are made; with more than one, the best is kept."""
        return len(self.strengths) + (0 if self.steps is None else self.steps + 1)


_LEVELS = {
    1: Effort((PLAIN,)),
    2: Effort((PLAIN,)),
    3: Effort((USUAL,)),
    4: Effort(STRENGTHS),
    5: Effort(STRENGTHS, steps=2),
    6: Effort(STRENGTHS, steps=5),
    7: Effort(STRENGTHS, steps=10),
    8: Effort(STRENGTHS, steps=20),
    9: Effort(STRENGTHS, steps=40),
}


def effort_level(level: int) -> Effort:
    """Return a level by number.

    Raises:
        ConfigError: not a whole number from MIN_EFFORT to MAX_EFFORT.
    """
    if level not in _LEVELS:
        raise ConfigError(
            f"effort is {level}, expected a whole number from {MIN_EFFORT} to {MAX_EFFORT}"
        )
    return _LEVELS[level]


class Latent(NamedTuple):
    """One tile before its y is quantised: y (1, M, h, w), z symbols, scale indexes (M, h, w)."""

    y: Tensor
    z: Tensor
    indexes: Tensor


class Quantized(NamedTuple):
    """Symbols int64 (M, h, w), and y_hat (1, M, h, w) as the decoder will have it."""

    symbols: Tensor
    y_hat: Tensor


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
        self, model: FrozenModel, cut: Callable[[Region], Tensor], grid: TileGrid, tile: Region
    ) -> None:
        """Cut the window of a tile, in latent positions, out of the image's latents."""
        halo = model.synthesis_halo
        self._model = model
        outer = tile.grown(2 * halo, grid.bounds)
        self._latents = cut(outer)
        self._inner = tile.within(outer)
        reached = tile.grown(halo, grid.bounds)
        self.pixels = reached.scaled(model.stride)
        """The pixels that the tile reaches, in the image, padding included."""
        self._reached = reached.within(outer)

    def squared_error(
        self, y_hat: Tensor, x: Tensor, quality_units: int, *, is_gray: bool
    ) -> Tensor:
        """Return the sum of squared errors against x (1, 3 or 1, H, W), on [0, 1] and clamped.

        The arguments are those of `decoded`.
        """
        return (self.decoded(y_hat, x, quality_units, is_gray=is_gray) - x).square().sum()

    def decoded(self, y_hat: Tensor, x: Tensor, quality_units: int, *, is_gray: bool) -> Tensor:
        """Return what the decoder shows of `pixels`, of the shape of x, clamped but not rounded.

        Args:
            y_hat: (1, M, h, w) of the tile.
            x: the true part of `pixels`, (1, 3 or 1, H, W) in [0, 1].
            quality_units: hundredths of a quality.
            is_gray: take the mean of the channels, which is what the decoder writes.
        """
        latents = self._latents.clone()
        latents[..., self._inner.rows, self._inner.columns] = y_hat
        x_hat = self._model.synthesize(latents, quality_units, self._reached)
        x_hat = x_hat[..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        return x_hat.mean(1, keepdim=True) if is_gray else x_hat


class SymbolSearch:
    """Chooses the y symbols of a tile by rate and distortion."""

    def __init__(self, model: FrozenModel, tables: CodingTables) -> None:
        self._model = model
        self._tables = tables
        count = model.num_y_tables
        self._dead_zones = DeadZones(tables, magnitudes=1, num_y_tables=count)
        self._refined = DeadZones(tables, magnitudes=REFINED_MAGNITUDES, num_y_tables=count)

    def quantize(self, latent: Latent, quality_units: int, strength: float) -> Quantized:
        """Quantise by one of STRENGTHS."""
        rounding: Rounding = nearest
        if strength < PLAIN:
            rounding = self._dead_zones.at_quality(quality_units / QUALITY_UNIT, strength)
        return self._quantized(latent, quality_units, rounding)

    def trials(
        self, latent: Latent, quality_units: int, level: Effort, distortion: TileDistortion
    ) -> Iterator[Trial]:
        """Yield the trials of a level; a higher one's begin with those of the one below.

        Args:
            latent: the tile.
            quality_units: hundredths of a quality.
            level: what to try.
            distortion: of a y_hat, in bits.
        """
        for strength in level.strengths:
            quantized = self.quantize(latent, quality_units, strength)
            bits = self._bits(quantized, latent)
            yield Trial(bits + distortion(quantized.y_hat).item(), quantized)
        if level.steps is not None:
            yield from self._refine(latent, quality_units, level.steps, distortion)

    def _refine(
        self, latent: Latent, quality_units: int, steps: int, distortion: TileDistortion
    ) -> Iterator[Trial]:
        """Yield trials of targets that follow the distortion's gradient.

        The synthesis transform is close to orthonormal in these units, so the y_hat of least
        distortion lies near y_hat - gradient / (2 CURVATURE). The target moves a share of the way
        to it, starting from y, and is rounded with dead zones again.
        """
        rounding = self._refined.at_quality(quality_units / QUALITY_UNIT, REFINED_STRENGTH)
        target = latent.y
        for step in range(steps + 1):
            moved = latent._replace(y=target)
            quantized = self._quantized(moved, quality_units, rounding)
            y_hat = quantized.y_hat.detach().requires_grad_()
            with torch.enable_grad():
                distorted = distortion(y_hat)
                (gradient,) = torch.autograd.grad(distorted, y_hat)
            yield Trial(self._bits(quantized, latent) + distorted.item(), quantized)
            ideal = quantized.y_hat - gradient / (2 * CURVATURE)
            target = target.lerp(ideal, FIRST_SHARE * 0.5 ** (step / HALF_LIFE))

    def _quantized(self, latent: Latent, quality_units: int, rounding: Rounding) -> Quantized:
        quantized = Quantized(*self._model.quantize(*latent, quality_units, rounding))
        if not quantized.y_hat.isfinite().all():
            raise ModelError("the model's weights overflow: its latents are not finite")
        return quantized

    def _bits(self, quantized: Quantized, latent: Latent) -> float:
        return self._tables.bits(flat(quantized.symbols), flat(latent.indexes))


def bits_per_squared_error(quality_units: int, channels: int) -> float:
    """Return lambda 255**2 / channels: bits for a squared error of 1 in one channel."""
    return rd_lambda(quality_units / QUALITY_UNIT) * MAX_LEVEL**2 / channels
