"""What codec, effort and export ask of any model, and which class answers for a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from caecodec.config import AnyConfig, ClassicConfig
from caecodec.format.grid import Region, TileGrid
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.classic import ClassicAutoencoder
from caecodec.nn.inference import Array, FrozenAutoencoder, freeze
from caecodec.nn.inference_classic import FrozenClassic, freeze_classic
from caecodec.nn.rounding import Rounding, nearest

Autoencoder = MainAutoencoder | ClassicAutoencoder


class FrozenModel(Protocol):
    """Inference on single images: pixels to symbols with their table indexes, and back.

    A model with a hyperprior codes z before y; for one without, z is empty. FORMAT.md section 7.

    Attributes:
        stride: pixels per latent position, each way.
        is_gray: whether the model's images have one channel.
        num_y_tables: the tables from index 0 that are those of y.
        analysis_halo: latent positions around a tile that its latents depend on.
        synthesis_halo: latent positions around a tile that its pixels depend on.
        feature_layers: the layers whose outputs are features, in the order they run.
    """

    stride: int
    is_gray: bool
    num_y_tables: int
    analysis_halo: int
    synthesis_halo: int
    feature_layers: list[nn.Module]

    @property
    def config(self) -> AnyConfig:
        """Architecture and sizes."""
        ...

    @property
    def networks(self) -> nn.Module:
        """The transforms and what else is float."""
        ...

    def first_kernels(self) -> Tensor:
        """Return the kernels that see the image (C, 3 or 1, k, k)."""
        ...

    def stem(self, x: Tensor) -> Tensor:
        """Map x (1, 3, H, W) in [0, 1] to features, the same at every quality."""
        ...

    def analyze(self, stem: Tensor, quality_units: int, inner: Region | None = None) -> Tensor:
        """Map the features of `stem` to y (1, M, h, w), in quantiser steps.

        With `inner`, which counts from y's first position, only to that part: exact where the
        features reach `analysis_halo` positions around it, or end with the image.
        """
        ...

    def hyper_symbols(self, y: Tensor, quality_units: int) -> Tensor:
        """Return z symbols, int64 of shape `hyper_shape`, of y (1, M, h, w)."""
        ...

    def hyper_shape(self, shape: tuple[int, int]) -> tuple[int, int, int]:
        """Return the shape of z for a latent of h x w positions."""
        ...

    def hyper_indexes(self, shape: tuple[int, ...], quality_units: int) -> Tensor:
        """Return the table of every z symbol, int64 of `shape`."""
        ...

    def scale_indexes(self, z: Tensor, quality_units: int, shape: tuple[int, int]) -> Tensor:
        """Return the table of every y symbol, int64 (M, h, w); exact on every machine."""
        ...

    def quantize(
        self,
        y: Tensor,
        z: Tensor,
        indexes: Tensor,
        quality_units: int,
        rounding: Rounding = nearest,
    ) -> tuple[Tensor, Tensor]:
        """Return symbols, int64 (M, h, w), and y_hat (1, M, h, w) as the decoder will have it."""
        ...

    def dequantize(self, symbols: Tensor, z: Tensor, quality_units: int) -> Tensor:
        """Return y_hat (1, M, h, w) of symbols (M, h, w)."""
        ...

    def synthesize(self, y_hat: Tensor, quality_units: int, inner: Region | None = None) -> Tensor:
        """Map y_hat (1, M, h, w) to x_hat (1, 3, H, W), not clamped.

        With `inner`, which counts from y_hat's first position, only to the pixels of that part:
        exact where y_hat holds `synthesis_halo` positions around it, or ends with the image.
        """
        ...

    def synthesize_window(
        self,
        latent: Callable[[Region], Tensor],
        window: Region,
        grid: TileGrid,
        quality_units: int,
    ) -> Iterator[tuple[Region, Tensor]]:
        """Yield the pixels of a window part by part, each part's region and x_hat (1, 3, H, W).

        The parts come line by line as in `grid.lines`, cover the window once, and may reach beyond.

        Args:
            latent: returns y_hat (1, M, h, w) of a region; asked in the order of `grid.scan`.
            window: in latent positions.
            grid: of the image, at the model's stride.
            quality_units: hundredths of a quality.
        """
        ...


def build_model(
    config: AnyConfig,
    tensors: dict[str, Array],
    *,
    head_dtype: torch.dtype = torch.float64,
    folded: bool = True,
) -> FrozenModel:
    """Build the model of a weights file.

    Args:
        config: architecture and sizes.
        tensors: name -> array, as stored.
        head_dtype: float64 or int64, in which a scale head computes; the results are equal.
        folded: let layers take over neighbours that are straight lines, for speed, or keep every
            layer as it was trained.

    Raises:
        ModelError: a tensor is missing, unknown, or of the wrong shape or type.
    """
    if isinstance(config, ClassicConfig):
        return FrozenClassic(config, tensors)
    return FrozenAutoencoder(config, tensors, head_dtype=head_dtype, folded=folded)


def build_autoencoder(config: AnyConfig) -> Autoencoder:
    """Return the float model of a configuration, its weights not set."""
    if isinstance(config, ClassicConfig):
        return ClassicAutoencoder(config)
    return MainAutoencoder(config)


def freeze_autoencoder(model: Autoencoder) -> dict[str, Array]:
    """Return the tensors of a weights file, the CDF tables aside."""
    return freeze_classic(model) if isinstance(model, ClassicAutoencoder) else freeze(model)
