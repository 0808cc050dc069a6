"""The classic autoencoder: the textbook's stages of convolution and pooling, and its objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from caecodec.config import MAX_QUALITY, ClassicConfig, optimal_step
from caecodec.format.tables import MAX_REACH
from caecodec.nn.autoencoder import Estimate, TablePrior
from caecodec.nn.distortions import Distortion, squared_error
from caecodec.nn.entropy_models import FactorizedPrior
from caecodec.nn.layers import QualityTable, bias_of

START_GAIN = 2.0
"""Quantiser steps per unit of the encoder, at the start, where the optimal step of x is 1."""
START_SCALE = 0.2
"""Scale of the prior at the start, per unit of the encoder."""
PRIOR_COUNTS = 50.0
"""Weight of the trained prior against counted symbols, in symbols."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU
}  # fmt: skip
_POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "max": nn.MaxPool2d, "avg": nn.AvgPool2d, "none": lambda _: nn.Identity()
}  # fmt: skip


class EncoderStage(nn.Module):
    """convolution ─ activation ─ pooling ─ dropout: each side shrinks by the stage's stride."""

    def __init__(self, in_channels: int, out_channels: int, config: ClassicConfig) -> None:
        super().__init__()
        is_strided = config.pooling == "none"
        self.convolution = nn.Conv2d(
            in_channels,
            out_channels,
            config.kernel_size,
            stride=config.stage_stride if is_strided else config.stride,
            padding=config.kernel_size // 2,
        )
        self.activation = _ACTIVATIONS[config.activation]()
        self.pooling = _POOLINGS[config.pooling](config.pool_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, in, s h, s w) to (B, out, h, w)."""
        shrunk: Tensor = self.dropout(self.pooling(self.activation(self.convolution(h))))
        return shrunk


class DecoderStage(nn.Module):
    """transposed convolution ─ activation ─ dropout: each side grows by the stage's stride."""

    def __init__(self, in_channels: int, out_channels: int, config: ClassicConfig) -> None:
        super().__init__()
        kernel, stride = config.kernel_size, config.stage_stride
        padding = transposed_padding(kernel, stride)
        self.convolution = nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=padding,
            output_padding=stride - kernel + 2 * padding,
        )
        self.activation = _ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, in, h, w) to (B, out, s h, s w)."""
        grown: Tensor = self.dropout(self.activation(self.convolution(h)))
        return grown


class ClassicAutoencoder(nn.Module):
    """Textbook autoencoder whose latents are scaled by a gain of the quality and rounded.

    x ─ encoder ─ ×gain ─ y ─ round ─ symbols = y_hat ─ ÷gain ─ decoder ─ image ─ x_hat

    Encoder and decoder are the analysis and the synthesis transform; `image` is a transposed
    convolution and a sigmoid. The symbols of a channel share one distribution: a factorised prior.
    Source: Hinton and Salakhutdinov (Science 2006), Masci et al. (ICANN 2011) for convolutions;
    Balle et al. (ICLR 2017) for noise in training and the factorised prior.
    """

    def __init__(self, config: ClassicConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.image_channels, *config.channels)
        mirrored = (config.latent_channels, *reversed(config.channels))
        self.encoder = nn.Sequential(*(EncoderStage(*pair, config) for pair in pairwise(widths)))
        self.decoder = nn.Sequential(*(DecoderStage(*pair, config) for pair in pairwise(mirrored)))
        kernel = config.kernel_size
        self.image = nn.ConvTranspose2d(
            config.channels[0], config.image_channels, kernel, padding=kernel // 2
        )
        anchors, latent = config.quality_anchors, config.latent_channels
        self.gain = QualityTable(anchors, latent)
        self.inverse_gain = QualityTable(anchors, latent)
        self.prior = FactorizedPrior(anchors, latent)
        self.distortion_of: Distortion = squared_error
        """What the loss counts as distortion; `squared_error` or `cross_entropy`."""

    def stem(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) in [0, 1] to (B, M, h, w): the part that no quality changes."""
        h: Tensor = self.encoder(x)
        return h

    def gained(self, stem: Tensor, quality: Tensor) -> Tensor:
        """Map the outputs of `stem` to y, in quantiser steps."""
        y: Tensor = stem * self.gain.factors(quality)
        return y

    def synthesize(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Map y_hat (B, M, h, w) to x_hat (B, C, H, W) in [0, 1]."""
        h = self.decoder(y_hat * self.inverse_gain.factors(quality))
        x_hat: Tensor = self.image(h).sigmoid()
        return x_hat

    def forward(self, x: Tensor, quality: Tensor) -> Estimate:
        """Estimate rate and distortion; in training, noise stands for rounding.

        Args:
            x: (B, C, H, W) in [0, 1], H and W multiples of the latent's stride.
            quality: (B,) in [0, 100].
        """
        with torch.autocast(x.device.type, enabled=False):  # pixels carry more than 8 bits
            y = self.gained(self.stem(x), quality)
            y_hat = y + torch.rand_like(y) - 0.5 if self.training else y.round()
            bits = self.prior.bits(y_hat, quality).sum((1, 2, 3))
            x_hat = self.synthesize(y_hat, quality)
            distortion = self.distortion_of(x_hat, x)
        return Estimate(bits, torch.zeros_like(bits), squared_error(x_hat, x), distortion)

    @torch.no_grad()
    def table_priors(self) -> list[TablePrior]:
        """Return the priors of tables 1 and up: y by anchor and channel."""
        masses = self.prior.masses(MAX_REACH)
        return [TablePrior(row, PRIOR_COUNTS, is_symmetric=False) for row in masses]

    def start_random(self) -> None:
        """Start gains at each quality's step, and weights so that variance is kept, in place."""
        anchors = self.config.quality_anchors
        qualities = [MAX_QUALITY * anchor / (anchors - 1) for anchor in range(anchors)]
        log_gain = torch.tensor([math.log(START_GAIN / optimal_step(value)) for value in qualities])
        with torch.no_grad():
            self.gain.values.copy_(log_gain[:, None])
            self.inverse_gain.values.copy_(-log_gain[:, None])
            self.prior.log_scale.values.copy_(log_gain[:, None] + math.log(START_SCALE))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(bias_of(module))


def transposed_padding(kernel_size: int, stride: int) -> int:
    """Return the rows cut off each side, so that a transposed convolution grows sides exactly."""
    return -(-max(0, kernel_size - stride) // 2)
