"""What codec, effort and export ask of any model, and what the architectures share for it."""

from __future__ import annotations

import abc
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caecodec.config import MAX_QUALITY, AnyConfig
from caecodec.errors import ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.format.grid import Region, TileGrid
from caecodec.nn.rounding import Rounding, nearest

Array = NDArray[Any]

MAX_SHOWN = 200
"""Characters of what torch reports of tensors that do not fit."""


class Latent(NamedTuple):
    """One tile before its y is quantised: y (1, M, h, w), z symbols, table indexes (M, h, w)."""

    y: Tensor
    z: Tensor
    indexes: Tensor


class Quantized(NamedTuple):
    """Symbols int64 (M, h, w), and y_hat (1, M, h, w) as the decoder will have it."""

    symbols: Tensor
    y_hat: Tensor


class FrozenModel(abc.ABC):
    """Inference on single images: pixels to symbols with their table indexes, and back.

    What depends on the quality is asked of `at(quality_units)`. FORMAT.md section 7.

    Attributes:
        config: architecture and sizes.
        networks: the transforms and what else is float.
        stride: pixels per latent position, each way.
        is_gray: whether the model's images have one channel.
        num_y_tables: the tables from index 0 that are those of y.
        analysis_halo: latent positions around a tile that its latents depend on.
        synthesis_halo: latent positions around a tile that its pixels depend on.
        feature_layers: the layers whose outputs are features, in the order they run.
    """

    config: AnyConfig
    networks: nn.Module
    stride: int
    is_gray: bool
    num_y_tables: int
    analysis_halo: int
    synthesis_halo: int
    feature_layers: list[nn.Module]

    @abc.abstractmethod
    def first_kernels(self) -> Tensor:
        """Return the kernels that see the image (C, 3 or 1, k, k)."""

    @abc.abstractmethod
    def stem(self, x: Tensor) -> Tensor:
        """Map x (1, 3, H, W) in [0, 1] to features, the same at every quality."""

    @abc.abstractmethod
    def hyper_shape(self, shape: tuple[int, int]) -> tuple[int, int, int]:
        """Return the shape of z for a latent of h x w positions."""

    @abc.abstractmethod
    def at(self, quality_units: int) -> ModelAtQuality:
        """Return the model at a quality in hundredths."""


class ModelAtQuality(abc.ABC):
    """A frozen model at one quality.

    A model with a hyperprior codes z before y; for one without, z is empty.

    Attributes:
        model: at every quality.
        quality_units: hundredths of a quality.
    """

    model: FrozenModel

    def __init__(self, model: FrozenModel, quality_units: int) -> None:
        self.model = model
        self.quality_units = quality_units
        self._quality = torch.tensor([quality_units / QUALITY_UNIT], dtype=torch.float32)

    def latent(self, stem: Tensor, inner: Region | None = None) -> Latent:
        """Analyse the features of `FrozenModel.stem` up to what is rounded; see `analyze`."""
        y = self.analyze(stem, inner).contiguous(memory_format=torch.channels_last)
        z = self.hyper_symbols(y)
        return Latent(y, z, self.scale_indexes(z, (y.shape[-2], y.shape[-1])))

    @abc.abstractmethod
    def analyze(self, stem: Tensor, inner: Region | None = None) -> Tensor:
        """Map the features of `FrozenModel.stem` to y (1, M, h, w), in quantiser steps.

        With `inner`, which counts from y's first position, only to that part: exact where the
        features reach `analysis_halo` positions around it, or end with the image.
        """

    @abc.abstractmethod
    def hyper_symbols(self, y: Tensor) -> Tensor:
        """Return z symbols, int64 of shape `FrozenModel.hyper_shape`, of y (1, M, h, w)."""

    @abc.abstractmethod
    def hyper_indexes(self, shape: tuple[int, ...]) -> Tensor:
        """Return the table of every z symbol, int64 of `shape`."""

    @abc.abstractmethod
    def scale_indexes(self, z: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the table of every y symbol, int64 (M, h, w); exact on every machine."""

    @abc.abstractmethod
    def quantize(self, latent: Latent, rounding: Rounding = nearest) -> Quantized:
        """Round y to symbols; `rounding` maps what the means leave of it."""

    @abc.abstractmethod
    def dequantize(self, symbols: Tensor, z: Tensor) -> Tensor:
        """Return y_hat (1, M, h, w) of symbols (M, h, w)."""

    @abc.abstractmethod
    def synthesize(self, y_hat: Tensor, inner: Region | None = None) -> Tensor:
        """Map y_hat (1, M, h, w) to x_hat (1, 3, H, W), not clamped.

        With `inner`, which counts from y_hat's first position, only to the pixels of that part:
        exact where y_hat holds `synthesis_halo` positions around it, or ends with the image.
        """

    @abc.abstractmethod
    def synthesize_window(
        self, latent: Callable[[Region], Tensor], window: Region, grid: TileGrid
    ) -> Iterator[tuple[Region, Tensor]]:
        """Yield the pixels of a window part by part, each part's region and x_hat (1, 3, H, W).

        The parts come line by line as in `grid.lines`, cover the window once, and may reach beyond.

        Args:
            latent: returns y_hat (1, M, h, w) of a region; asked in the order of `grid.scan`.
            window: in latent positions.
            grid: of the image, at the model's stride.
        """


def nearest_anchor(quality_units: int, anchors: int) -> int:
    """Return the row of a quality table whose quality is nearest. FORMAT.md section 7.1."""
    span = int(MAX_QUALITY) * QUALITY_UNIT
    return (2 * quality_units * (anchors - 1) + span) // (2 * span)


def to_half(model: nn.Module, left_out: tuple[str, ...]) -> dict[str, Array]:
    """Return a model's tensors as float16, but those of the parts `left_out`."""
    return {
        name: value.detach().cpu().contiguous().to(torch.float16).numpy()
        for name, value in model.state_dict().items()
        if name.split(".")[0] not in left_out
    }


def load_networks(networks: nn.Module, tensors: dict[str, Array]) -> None:
    """Put the float16 tensors of a weights file into networks, in place, ready for inference.

    Raises:
        ModelError: a tensor is missing, unknown, or of the wrong shape.
    """
    state = {
        name: torch.from_numpy(array.astype(np.float32))
        for name, array in tensors.items()
        if name.split(".")[0] not in ("scale_head", "tables", "exact")
    }
    try:
        networks.load_state_dict(state, assign=True)
    except RuntimeError as error:
        last = str(error).splitlines()[-1].strip(" .\t")
        shown = textwrap.shorten(last, MAX_SHOWN, placeholder=" ...")  # it may list any number
        raise ModelError(f"the weights do not fit their configuration: {shown}") from error
    networks.requires_grad_(requires_grad=False)
    networks.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
