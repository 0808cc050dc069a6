"""The main autoencoder: transforms and entropy model under one roof, and its training objective."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caecodec.config import (
    MAX_QUALITY,
    MIN_SCALE,
    NUM_SCALES,
    OCTAVES_PER_SCALE,
    MainConfig,
    optimal_step,
)
from caecodec.format.grid import Region
from caecodec.format.tables import MAX_REACH
from caecodec.nn.distortions import Distortion, squared_error
from caecodec.nn.entropy_models import (
    HEAD_UNIT,
    Z_BOUND,
    FactorizedPrior,
    HyperAnalysis,
    MeanContext,
    MeanFeatures,
    ResidualPrior,
    ScaleHead,
    step_masks,
)
from caecodec.nn.layers import QualityTable, Slab, bias_of, round_straight_through
from caecodec.nn.rounding import dead_zone_cost, dead_zone_edge
from caecodec.nn.transforms import AnalysisTransform, PrincipalComponents, SynthesisTransform

Y_PRIOR_COUNTS = 2000.0
Z_PRIOR_COUNTS = 50.0
"""Weight of the trained prior against counted symbols, in symbols."""


class Estimate(NamedTuple):
    """What one forward pass measures, per sample (B,).

    Attributes:
        y_bits, z_bits: estimated rate in bits.
        mse: mean squared error on [0, 1], over the channels.
        distortion: what the loss counts, on the scale of an MSE.
    """

    y_bits: Tensor
    z_bits: Tensor
    mse: Tensor
    distortion: Tensor


class TablePrior(NamedTuple):
    """What training knows of the symbols of one CDF table.

    Attributes:
        masses: (2 bound + 1,) probabilities of -bound..bound.
        weight: of the masses against counted symbols, in symbols.
        is_symmetric: whether both signs are as likely, so that counts of both are shared.
    """

    masses: Tensor
    weight: float
    is_symmetric: bool


class MainAutoencoder(nn.Module):
    """Variable-rate autoencoder with a hyperprior, one-shot scales and four-step means.

    x ─ g_a ─ ×gain ─ y ─┬─ round(y - mean) ─ symbols ─ +mean ─ y_hat ─ ÷gain ─ g_s ─ x_hat
                         └─ h_a ─ round ─ z_hat ─┬─ scale head ─ scale indexes
                                                 └─ mean features + context ─ means
    """

    latent_std: Tensor

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        self.config = config
        anchors, latent = config.quality_anchors, config.latent_channels
        self.analysis = AnalysisTransform(config)
        self.synthesis = SynthesisTransform(config)
        self.gain = QualityTable(anchors, latent)
        self.inverse_gain = QualityTable(anchors, latent)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_prior = FactorizedPrior(anchors, config.hyper_channels)
        self.scale_head = ScaleHead(config)
        self.mean_features = MeanFeatures(config)
        self.mean_context = MeanContext(config)
        self.residual_prior = ResidualPrior()
        self.register_buffer("latent_std", torch.ones(latent))
        self.distortion_of: Distortion = squared_error
        self.dead_zones = False
        """Whether y is rounded with dead zones, as files are made at the default effort."""

    def start_linear(self, components: PrincipalComponents) -> None:
        """Become the transform codec of these principal components, in place."""
        components.start(self.analysis, self.synthesis)
        anchors = self.config.quality_anchors
        qualities = [MAX_QUALITY * anchor / (anchors - 1) for anchor in range(anchors)]
        log_gain = torch.tensor([-math.log(optimal_step(quality)) for quality in qualities])
        octaves = 1 / (OCTAVES_PER_SCALE * HEAD_UNIT * math.log(2))
        with torch.no_grad():
            self.latent_std.copy_(components.latent_std)
            self.gain.values.copy_(log_gain[:, None])
            self.inverse_gain.values.copy_(-log_gain[:, None])
            self.scale_head.offset.values.copy_(log_gain[:, None] * octaves)
            log_std = (components.latent_std / MIN_SCALE).log()
            bias_of(self.scale_head.layers[-1]).copy_(log_std * octaves)

    def analyze(self, x: Tensor, quality: Tensor) -> Tensor:
        """Map x (B, 3, H, W) to the gained latent y (B, M, H/16, W/16), in quantiser steps."""
        return self.analyze_stem(self.analysis.stem(x), quality)

    def analyze_stem(self, stem: Tensor, quality: Tensor, inner: Region | None = None) -> Tensor:
        """Map the analysis transform's features (B, C, H/8, W/8) to y, or to its part `inner`."""
        y: Tensor = self.analysis.finish(stem, quality, inner) * self.gain.factors(quality)
        return y

    def synthesize(self, y_hat: Tensor, quality: Tensor, inner: Region | None = None) -> Tensor:
        """Map the gained latent y_hat, or its part `inner`, to x_hat (B, 3, H, W), not clamped."""
        x_hat: Tensor = self.synthesis(y_hat * self.inverse_gain.factors(quality), quality, inner)
        return x_hat

    def synthesize_slabs(
        self, slabs: Iterable[Slab], quality: Tensor, dim: int
    ) -> Iterator[Tensor]:
        """Map slabs of the gained latent along `dim` to slabs of x_hat; see the synthesis."""
        units = self.inverse_gain.factors(quality)
        scaled = (Slab(y_hat * units, is_last) for y_hat, is_last in slabs)
        return self.synthesis.stream(scaled, quality, dim)

    def mean_units(self, quality: Tensor) -> Tensor:
        """Return (B, M, 1, 1): quantiser steps per unit in which means are predicted."""
        units: Tensor = self.latent_std[:, None, None] / self.inverse_gain.factors(quality)
        return units

    def forward(self, x: Tensor, quality: Tensor) -> Estimate:
        """Estimate rate and distortion; in training, noise stands for rounding where bits count.

        Args:
            x: (B, 3, H, W) in [0, 1], H and W multiples of 16.
            quality: (B,) in [0, 100].
        """
        y = self.analyze(x, quality)
        z = self.hyper_analysis(y, quality)
        z_hat = round_straight_through(z)
        z_bits = self.hyper_prior.bits(self._perturb(z), quality)
        height, width = y.shape[-2:]
        indexes = self.scale_head(z_hat, quality)[..., :height, :width]
        features = self.mean_features(z_hat, quality)[..., :height, :width]
        units = self.mean_units(quality)
        edge = self._dead_zone_edge(indexes, quality) if self.dead_zones else None
        masks = step_masks(y.shape, y.device)
        means = y_hat = torch.zeros_like(y)

        def exchange(step: int, predicted: Tensor) -> Tensor:
            nonlocal means, y_hat
            own = predicted * units * masks[step]
            means = means + own
            y_hat = y_hat + (_symbols(y - own, edge) + own) * masks[step]
            return y_hat / units

        self.mean_context(features, exchange)
        coded = self._perturb(y - means) if self.training else _symbols(y - means, edge)
        y_bits = self.residual_prior.bits(coded, indexes)
        x_hat = self.synthesize(y_hat, quality)
        if not self.training:
            x_hat = x_hat.clamp(0, 1)
        distortion = mse = squared_error(x_hat, x)
        if self.distortion_of is not squared_error:
            distortion = self.distortion_of(x_hat, x)
        return Estimate(y_bits.sum((1, 2, 3)), z_bits.sum((1, 2, 3)), mse, distortion)

    @torch.no_grad()
    def table_priors(self) -> list[TablePrior]:
        """Return the priors of tables 1 and up: y by scale index, then z by anchor and channel."""
        residuals = torch.arange(-MAX_REACH, MAX_REACH + 1).float()
        y_masses = [
            self.residual_prior.likelihood(residuals, torch.full_like(residuals, float(index)))
            for index in range(1, NUM_SCALES)
        ]
        z_masses = self.hyper_prior.masses(Z_BOUND)
        return [
            *(TablePrior(masses, Y_PRIOR_COUNTS, is_symmetric=True) for masses in y_masses),
            *(TablePrior(masses, Z_PRIOR_COUNTS, is_symmetric=False) for masses in z_masses),
        ]

    @torch.no_grad()
    def _dead_zone_edge(self, indexes: Tensor, quality: Tensor) -> Tensor:
        """Return the |residual| of each element below which ones become zeros."""
        zero = torch.zeros_like(indexes)
        cost_of_one = self.residual_prior.bits(zero + 1, indexes)
        saved = cost_of_one - self.residual_prior.bits(zero, indexes)
        cost = dead_zone_cost(quality[:, None, None, None], saved)
        edge = dead_zone_edge(saved, cost=cost)
        return edge.clamp(max=1.5)  # twos stay

    def _perturb(self, values: Tensor) -> Tensor:
        """Add uniform noise of one step in training, round otherwise."""
        if self.training:
            return values + torch.rand_like(values) - 0.5
        return values.round()


def _symbols(residual: Tensor, edge: Tensor | None) -> Tensor:
    """Round, and to 0 below `edge`; the gradient is that of the identity."""
    if edge is None:
        return round_straight_through(residual)
    return residual + (residual.round() * (residual.abs() >= edge) - residual).detach()
