"""The classic autoencoder as files use it: float16 weights, one image at a time.

A factorised prior is a hyperprior without channels: z is empty, and the table index of a y symbol
follows from the quality and its channel alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from caecodec.config import ClassicConfig
from caecodec.format.grid import Region, TileGrid
from caecodec.format.tables import MAX_ESCAPED
from caecodec.nn.classic import ClassicAutoencoder, transposed_padding
from caecodec.nn.inference import (
    Array,
    FrozenModel,
    Latent,
    ModelAtQuality,
    Quantized,
    load_networks,
    nearest_anchor,
    to_half,
)
from caecodec.nn.rounding import Rounding, nearest

EMPTY = 0, 0, 0
"""Shape of z."""
_TRAINING_ONLY = "prior"


def freeze_classic(model: ClassicAutoencoder) -> dict[str, Array]:
    """Return the tensors of a weights file, the CDF tables aside."""
    return to_half(model, (_TRAINING_ONLY,))


class FrozenClassic(FrozenModel):
    """Inference on single images (batch of 1), for encoder, decoder and export."""

    config: ClassicConfig
    networks: ClassicAutoencoder

    def __init__(self, config: ClassicConfig, tensors: dict[str, Array]) -> None:
        """Build the networks from the tensors of a weights file.

        Raises:
            ModelError: a tensor is missing, unknown, or of the wrong shape or type.
        """
        self.config = config
        with torch.random.fork_rng(devices=[]):
            self.networks = ClassicAutoencoder(config)
        del self.networks.prior
        load_networks(self.networks, tensors)
        self.feature_layers = list(self.networks.encoder)
        self.stride = config.latent_stride
        self.is_gray = config.color == "gray"
        self.num_y_tables = config.num_tables
        self.analysis_halo = _analysis_halo(config)
        self.synthesis_halo = _synthesis_halo(config)

    def first_kernels(self) -> Tensor:
        """Return the kernels of the first convolution (C, 3 or 1, k, k)."""
        return next(self.networks.encoder.parameters())

    def stem(self, x: Tensor) -> Tensor:
        """Map x (1, 3, H, W) in [0, 1] to the encoder's output (1, M, h, w)."""
        return self.networks.stem(x[:, : self.config.image_channels])

    def hyper_shape(self, shape: tuple[int, int]) -> tuple[int, int, int]:  # noqa: ARG002 - as in main
        """Return the shape of the empty z."""
        return EMPTY

    def at(self, quality_units: int) -> ClassicAtQuality:
        """Return the model at a quality in hundredths."""
        return ClassicAtQuality(self, quality_units)


class ClassicAtQuality(ModelAtQuality):
    """The classic architecture at one quality."""

    model: FrozenClassic

    def analyze(self, stem: Tensor, inner: Region | None = None) -> Tensor:
        """Map the outputs of `stem` to y (1, M, h, w), or its part `inner`, in quantiser steps."""
        stem = stem[..., inner.rows, inner.columns] if inner else stem
        return self.model.networks.gained(stem, self._quality)

    def hyper_symbols(self, y: Tensor) -> Tensor:  # noqa: ARG002 - as in main
        """Return the empty z."""
        return torch.zeros(EMPTY, dtype=torch.long)

    def hyper_indexes(self, shape: tuple[int, ...]) -> Tensor:
        """Return the tables of the empty z: none."""
        return torch.zeros(shape, dtype=torch.long)

    def scale_indexes(self, z: Tensor, shape: tuple[int, int]) -> Tensor:  # noqa: ARG002 - as in main
        """Return the table of every y symbol, int64 (M, h, w): by nearest anchor and channel."""
        config = self.model.config
        anchor = nearest_anchor(self.quality_units, config.quality_anchors)
        channels = torch.arange(config.latent_channels)[:, None, None]
        return (1 + anchor * config.latent_channels + channels).expand(-1, *shape)

    def quantize(self, latent: Latent, rounding: Rounding = nearest) -> Quantized:
        """Round y (1, M, h, w) to symbols, int64 (M, h, w), and y_hat, their float form."""
        bound = float(MAX_ESCAPED)
        y_hat = rounding(latent.y, latent.indexes[None]).clamp(-bound, bound)
        return Quantized(y_hat[0].long(), y_hat)

    def dequantize(self, symbols: Tensor, z: Tensor) -> Tensor:  # noqa: ARG002 - as in main
        """Return y_hat (1, M, h, w) of symbols (M, h, w)."""
        return symbols[None].float()

    def synthesize(self, y_hat: Tensor, inner: Region | None = None) -> Tensor:
        """Map y_hat (1, M, h, w), or its part `inner`, to x_hat (1, 3, H, W); gray is repeated."""
        x_hat = self.model.networks.synthesize(y_hat, self._quality)
        if inner:
            own = inner.scaled(self.model.stride)
            x_hat = x_hat[..., own.rows, own.columns]
        return x_hat.expand(-1, 3, -1, -1)

    def synthesize_window(
        self, latent: Callable[[Region], Tensor], window: Region, grid: TileGrid
    ) -> Iterator[tuple[Region, Tensor]]:
        """Yield the pixels of a window in parts of about a tile, each with a halo of its own."""
        stride = self.model.stride
        for part in grid.parts(window.scaled(stride)):
            inner = part.covered_by(stride)
            outer = inner.grown(self.model.synthesis_halo, grid.bounds)
            x_hat = self.synthesize(latent(outer), inner.within(outer))
            own = part.within(inner.scaled(stride))
            yield part, x_hat[..., own.rows, own.columns]


def _analysis_halo(config: ClassicConfig) -> int:
    """Return the latent positions around a tile that its latents depend on."""
    reach, pixels = 0, 1  # of a latent, and per position of the stage, both in pixels
    for _ in config.channels:
        reach += pixels * (config.kernel_size // 2)
        pixels *= config.stage_stride
    return -(-reach // pixels)


def _synthesis_halo(config: ClassicConfig) -> int:
    """Return the latent positions around a tile that its pixels depend on."""
    kernel, stride = config.kernel_size, config.stage_stride
    reach = kernel // 2
    for _ in config.channels:
        reach = -(-(reach + kernel - 1 - transposed_padding(kernel, stride)) // stride)
    return reach
