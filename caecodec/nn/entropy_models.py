"""The hyperprior, the scale head, the four-step context for means, and the rates they promise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from caecodec.config import (
    HYPER_STRIDE,
    MAX_QUALITY,
    MIN_SCALE,
    NUM_SCALES,
    OCTAVES_PER_SCALE,
    MainConfig,
)
from caecodec.nn.layers import (
    Block,
    Conv2d,
    Fp32Conv2d,
    QualityTable,
    keep_variance_,
    lower_bound,
    zero_,
)

LEAK = 0.125
"""Slope of the scale head's leaky ReLU below zero: a shift by 3 in integers."""
HEAD_UNIT = 8.0
"""Scale indexes per unit of the scale head's output."""
Z_BOUND = 127
"""Largest magnitude of a z symbol."""
MIN_LIKELIHOOD = 1e-9
NUM_STEPS = 4
Part = tuple[slice, ...]
"""What (B, M, h, w) is indexed by."""
PHASE_ORDER = (0, 3, 1, 2)
"""Phases 2 * dy + dx of a 2x2 cell, in the order that channel quarter 0 codes them."""


class HyperAnalysis(nn.Module):
    """h_a: gained y (B, M, h, w) to z before rounding (B, N, ceil(h/4), ceil(w/4))."""

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        width = config.hyper_channels
        self.enter = Conv2d(2 * config.latent_channels, width, 1)
        self.block = Block(width)
        self.down1 = Conv2d(width, width, 2, stride=2)
        self.down2 = Fp32Conv2d(width, width, 2, stride=2)
        self.gain = QualityTable(config.quality_anchors, width)
        nn.init.constant_(self.gain.values, 0.7)  # z starts wide enough to carry information
        for convolution in (self.enter, self.down1, self.down2):
            keep_variance_(convolution)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        """Summarise magnitudes and signs of y."""
        y = replicate_to_multiple(y, HYPER_STRIDE)
        magnitude = y.abs().log1p()
        h = self.enter(torch.cat((magnitude, magnitude * y.sign()), 1))
        h = functional.silu(self.down1(functional.silu(self.block(h))))
        z: Tensor = self.down2(h) * self.gain.factors(quality)
        return z.clamp(-Z_BOUND, Z_BOUND)


class ScaleHead(nn.Module):
    """The part of h_s that names a scale index for every element of y, trained in float.

    z ─ 3x3 ─ leaky ─ 1x1, shuffle 2 ─ leaky ─ 3x3 ─ leaky ─ 1x1, shuffle 2 ─ leaky ─ 1x1
      ─ +offset(quality) ─ scale indexes of y

    Only operations that integers do exactly occur here; `exact.IntegerScaleHead` is its fixed-point
    form, and the only one that codes files.
    """

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        width = config.hyper_channels
        self.convolutions = nn.ModuleList(
            (
                Fp32Conv2d(width, width, 3, padding=1),
                Fp32Conv2d(width, 4 * width, 1),
                Fp32Conv2d(width, width, 3, padding=1),
                Fp32Conv2d(width, 4 * width, 1),
                Fp32Conv2d(width, config.latent_channels, 1),
            )
        )
        self.offset = QualityTable(config.quality_anchors, config.latent_channels)
        for convolution in self.layers[:-1]:
            keep_variance_(convolution)
        zero_(self.layers[-1])

    @property
    def layers(self) -> list[nn.Conv2d]:
        """The five convolutions, in order."""
        return [layer for layer in self.convolutions if isinstance(layer, nn.Conv2d)]

    def forward(self, z_hat: Tensor, quality: Tensor) -> Tensor:
        """Map z_hat (B, N, h, w) to real-valued scale indexes (B, M, 4h, 4w), not clamped."""
        h = z_hat
        *hidden, last = self.layers
        for layer, convolution in enumerate(hidden):
            h = convolution(h)
            if layer % 2:
                h = functional.pixel_shuffle(h, 2)
            h = torch.maximum(h, h * LEAK)
        indexes: Tensor = HEAD_UNIT * (last(h) + self.offset(quality))
        return indexes


class MeanFeatures(nn.Module):
    """The float part of h_s: z_hat (B, N, h, w) to features for the means (B, N, 4h, 4w)."""

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        width = config.hyper_channels
        self.up1 = Conv2d(width, 4 * width, 1)
        self.block1 = Block(width, activation=config.activation)
        self.up2 = Conv2d(width, 4 * width, 1)
        self.block2 = Block(width, activation=config.activation)
        self.gain = QualityTable(config.quality_anchors, width)
        for convolution in (self.up1, self.up2):
            keep_variance_(convolution)

    def forward(self, z_hat: Tensor, quality: Tensor) -> Tensor:
        """Upsample twice; the last step adapts the features to the quality."""
        h = self.block1(functional.pixel_shuffle(self.up1(z_hat), 2).float())
        h = self.block2(functional.pixel_shuffle(self.up2(h), 2).float())
        features: Tensor = h * self.gain.factors(quality)
        return features


class MeanContext(nn.Module):
    """Means of y in four steps, each seeing all that the steps before it decoded.

    Step s codes phase PHASE_ORDER[(s + g) % 4] of every 2x2 cell in channel quarter g.
    Source: the quadtree partition of DCVC-DC (Li et al., CVPR 2023).
    """

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        latent, hyper, width = (
            config.latent_channels,
            config.hyper_channels,
            config.context_channels,
        )
        self.first = Fp32Conv2d(hyper, latent, 1)
        self.enter = nn.ModuleList(Conv2d(latent + hyper, width, 1) for _ in range(NUM_STEPS - 1))
        self.spread = Fp32Conv2d(width, width, 3, padding=1, groups=width)
        self.block = Block(width, activation=config.activation)
        self.leave = Fp32Conv2d(width, latent, 1)
        for last in (self.first, self.leave):
            zero_(last)

    def forward(self, features: Tensor, exchange: Callable[[int, Tensor], Tensor]) -> None:
        """Run the four steps.

        Args:
            features: (B, N, h, w) from `MeanFeatures`.
            exchange: called with the number of each step and the means (B, M, h, w), which count
                where `step_parts` says; returns the normalised y_hat (B, M, h, w) of this step and
                those before it, zero elsewhere.
        """
        known = exchange(0, self.first(features))
        for step, enter in enumerate(self.enter, 1):
            h = self.spread(enter(torch.cat((known, features), 1)))
            known = exchange(step, self.leave(self.block(h)))


class FactorizedPrior(nn.Module):
    """Prior without context: one discretised logistic per (quality anchor, channel)."""

    def __init__(self, anchors: int, channels: int) -> None:
        super().__init__()
        self.location = QualityTable(anchors, channels)
        self.log_scale = QualityTable(anchors, channels)
        nn.init.constant_(self.log_scale.values, -0.5)

    def bits(self, values: Tensor, quality: Tensor) -> Tensor:
        """Return -log2 P of values (B, channels, h, w), elementwise."""
        scale = self.log_scale(quality).exp()
        centred = -(values - self.location(quality)).abs()  # the lower tail keeps its precision
        likelihood = ((centred + 0.5) / scale).sigmoid() - ((centred - 0.5) / scale).sigmoid()
        return -lower_bound(likelihood, MIN_LIKELIHOOD).log2()

    def masses(self, bound: int) -> Tensor:
        """Return (anchors * channels, 2 bound + 1): P of -bound..bound by anchor and channel."""
        anchors, channels = self.location.values.shape
        values = torch.arange(-bound, bound + 1).float().expand(1, channels, 1, -1)
        qualities = torch.linspace(0, MAX_QUALITY, anchors)
        rows = [(-self.bits(values, quality[None])).exp2()[0, :, 0] for quality in qualities]
        return torch.cat(rows)


class ResidualPrior(nn.Module):
    """Prior of y - mean: a Gaussian core with a Laplace tail, one learned shape for all symbols.

    P(r) = (1 - w) G(r; s) + w L(r; k s), where s is the scale and w depends on the scale index.
    Scales come in one shot from z, so what z and the context cannot place shows as a heavy tail,
    most of all at small scales.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tail_logit = nn.Parameter(torch.tensor(-1.0))
        self.tail_slope = nn.Parameter(torch.tensor(0.0))
        self.tail_log_ratio = nn.Parameter(torch.tensor(0.7))

    def likelihood(self, residual: Tensor, indexes: Tensor) -> Tensor:
        """Return the probability of the unit interval around each residual, elementwise.

        Args:
            residual: y - mean, in quantiser steps.
            indexes: real-valued scale indexes in [0, NUM_SCALES - 1].
        """
        scale = index_to_scale(indexes)
        weight = (self.tail_logit + self.tail_slope * (indexes / NUM_SCALES)).sigmoid()
        tail = _laplace_interval(residual, scale * self.tail_log_ratio.exp())
        return torch.lerp(_gaussian_interval(residual, scale), tail, weight)

    def bits(self, residual: Tensor, indexes: Tensor) -> Tensor:
        """Return -log2 P of residuals under real-valued scale indexes, elementwise."""
        bounded = -lower_bound(-lower_bound(indexes, 0.0), 1.0 - NUM_SCALES)
        return -lower_bound(self.likelihood(residual, bounded), MIN_LIKELIHOOD).log2()


def index_to_scale(indexes: Tensor) -> Tensor:
    """Return the standard deviation that a (real-valued) scale index stands for."""
    return MIN_SCALE * (OCTAVES_PER_SCALE * indexes).exp2()


def step_parts(step: int, channels: int) -> list[Part]:
    """Return the parts of (B, M, h, w) that `MeanContext` codes in a step, by channel quarter."""
    quarter = channels // 4
    parts: list[Part] = []
    for number in range(4):
        row, column = divmod(PHASE_ORDER[(step + number) % 4], 2)
        own = slice(number * quarter, (number + 1) * quarter)
        parts.append((slice(None), own, slice(row, None, 2), slice(column, None, 2)))
    return parts


def step_masks(latent_shape: torch.Size, device: torch.device) -> list[Tensor]:
    """Return a mask (1, M, h, w) for each step: 1.0 where it codes, 0.0 elsewhere."""
    masks = []
    for step in range(NUM_STEPS):
        mask = torch.zeros((1, *latent_shape[1:]), device=device)
        for part in step_parts(step, latent_shape[1]):
            mask[part] = 1.0
        masks.append(mask)
    return masks


def replicate_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of `multiple`."""
    height, width = x.shape[-2:]
    pad = (0, -width % multiple, 0, -height % multiple)
    return functional.pad(x, pad, mode="replicate") if any(pad) else x


def _gaussian_interval(residual: Tensor, scale: Tensor) -> Tensor:
    """Return the mass of a Gaussian within half a step of each residual."""
    centred = -residual.abs()
    factor = -(0.5**0.5) / scale
    upper = torch.special.erfc((centred + 0.5) * factor)
    lower = torch.special.erfc((centred - 0.5) * factor)
    return 0.5 * (upper - lower)


def _laplace_interval(residual: Tensor, scale: Tensor) -> Tensor:
    """Return the mass of a Laplace distribution of parameter `scale` within half a step."""
    distance = residual.abs()
    near, far = distance - 0.5, distance + 0.5
    above = 0.5 * (torch.exp(-near.abs() / scale) - torch.exp(-far / scale))  # where near >= 0
    inside = 1 - 0.5 * (torch.exp(-near.abs() / scale) + torch.exp(-far / scale))
    return torch.where(near >= 0, above, inside)
