"""The main architecture as files use it: float16 weights, integer scale head, one image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from caecodec.config import HYPER_STRIDE, NUM_SCALES, PATCH, STRIDE, MainConfig
from caecodec.errors import ModelError
from caecodec.format.grid import Region, TileGrid
from caecodec.format.tables import MAX_ESCAPED
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.entropy_models import Part, step_parts
from caecodec.nn.exact import MAX_WEIGHT, IntegerLayer, IntegerScaleHead, export_scale_head
from caecodec.nn.exact_layers import is_exact, make_exact
from caecodec.nn.folding import fold
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
from caecodec.nn.layers import Slab
from caecodec.nn.rounding import Rounding, nearest

SLAB_POSITIONS = 2304
"""Latent positions that are synthesised at a time: their features stay in cache."""
_TRAINING_ONLY = ("scale_head", "hyper_prior", "residual_prior")
_NUM_LAYERS = 5


def freeze_main(model: MainAutoencoder) -> dict[str, Array]:
    """Return the tensors of a weights file, the CDF tables aside."""
    tensors = to_half(model, _TRAINING_ONLY)
    head = export_scale_head(model.scale_head)
    for number, layer in enumerate(head.layers):
        tensors[f"scale_head.{number}.weight"] = layer.weight.numpy().astype(np.int16)
        tensors[f"scale_head.{number}.bias"] = layer.bias.numpy()
    tensors["scale_head.shifts"] = np.array([layer.shift for layer in head.layers], np.int32)
    tensors["scale_head.offsets"] = head.offsets.numpy().astype(np.int32)
    return tensors


class FrozenMain(FrozenModel):
    """Inference on single images (batch of 1), for encoder, decoder and export."""

    config: MainConfig
    networks: MainAutoencoder

    def __init__(
        self,
        config: MainConfig,
        tensors: dict[str, Array],
        *,
        head_dtype: torch.dtype = torch.float64,
        folded: bool = True,
    ) -> None:
        """Build the networks from the tensors of a weights file; see `build_model`.

        Raises:
            ModelError: a tensor is missing, unknown, or of the wrong shape or type.
        """
        self.config = config
        self.scale_head = _build_head(config, tensors, head_dtype)
        self.networks = _build_networks(config, tensors)
        if is_exact(tensors):
            make_exact(self.networks, tensors)
        elif folded:
            fold(self.networks)
        analysis = self.networks.analysis
        self.feature_layers = [
            analysis.patch,
            *analysis.blocks,
            analysis.down,
            *analysis.latent_blocks,
            analysis.project,
        ]
        self.stride = STRIDE
        self.is_gray = False
        self.num_y_tables = NUM_SCALES
        self.analysis_halo = analysis.halo
        self.synthesis_halo = self.networks.synthesis.halo

    def first_kernels(self) -> Tensor:
        """Return the kernels of the patch convolution (C, 3, 8, 8)."""
        weight = self.networks.analysis.patch.weight
        return weight.reshape(len(weight), 3, PATCH, PATCH)

    def stem(self, x: Tensor) -> Tensor:
        """Map x (1, 3, H, W) in [0, 1] to features (1, C, H/8, W/8), the same at every quality."""
        return self.networks.analysis.stem(x)

    def hyper_shape(self, shape: tuple[int, int]) -> tuple[int, int, int]:
        """Return the shape of z for a latent of h x w positions."""
        height, width = (-(-side // HYPER_STRIDE) for side in shape)
        return self.config.hyper_channels, height, width

    def at(self, quality_units: int) -> MainAtQuality:
        """Return the model at a quality in hundredths."""
        return MainAtQuality(self, quality_units)


class MainAtQuality(ModelAtQuality):
    """The main architecture at one quality.

    Both directions get scale indexes from `scale_indexes` and means from `_walk`, so they cannot
    drift apart.
    """

    model: FrozenMain

    def analyze(self, stem: Tensor, inner: Region | None = None) -> Tensor:
        """Map the features of `stem` to y (1, M, H/16, W/16), or its part, in quantiser steps."""
        return self.model.networks.analyze_stem(stem, self._quality, inner)

    def hyper_symbols(self, y: Tensor) -> Tensor:
        """Return z symbols, int64 (N, ceil(h/4), ceil(w/4)), of y (1, M, h, w)."""
        z: Tensor = self.model.networks.hyper_analysis(y, self._quality)
        return z[0].round().long()

    def scale_indexes(self, z: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the scale index of every y symbol, int64 (M, h, w); exact on every machine."""
        height, width = shape
        return self.model.scale_head(z, self.quality_units)[:, :height, :width]

    def hyper_indexes(self, shape: tuple[int, ...]) -> Tensor:
        """Return the table of every z symbol, int64 (N, h, w): by nearest anchor and channel."""
        anchor = nearest_anchor(self.quality_units, self.model.config.quality_anchors)
        channels = torch.arange(shape[0])[:, None, None].expand(shape)
        return NUM_SCALES + anchor * shape[0] + channels

    def quantize(self, latent: Latent, rounding: Rounding = nearest) -> Quantized:
        """Round y - mean, step by step: each step's means see what the steps before it chose.

        Symbols are 0 where the scale index is 0.
        """
        y, z, indexes = latent
        bound = float(MAX_ESCAPED)
        symbols = torch.zeros(y.shape, dtype=torch.long)

        def choose(means: Tensor, part: Part) -> Tensor:
            scales = indexes[None][part]
            chosen = rounding(y[part] - means, scales).clamp_(-bound, bound).mul_(scales > 0)
            symbols[part] = chosen
            return chosen

        y_hat = self._walk(z, (y.shape[-2], y.shape[-1]), choose)
        return Quantized(symbols[0], y_hat)

    def dequantize(self, symbols: Tensor, z: Tensor) -> Tensor:
        """Return y_hat (1, M, h, w) = symbols + means, of symbols (M, h, w)."""
        shape = symbols.shape[-2], symbols.shape[-1]
        return self._walk(z, shape, lambda _, part: symbols[None][part])

    def synthesize(self, y_hat: Tensor, inner: Region | None = None) -> Tensor:
        """Map y_hat (1, M, h, w), or its part `inner`, to x_hat (1, 3, 16h, 16w), not clamped."""
        return self.model.networks.synthesize(y_hat, self._quality, inner)

    def synthesize_window(
        self, latent: Callable[[Region], Tensor], window: Region, grid: TileGrid
    ) -> Iterator[tuple[Region, Tensor]]:
        """Yield the pixels of a window in slabs that reach across it; see `ModelAtQuality`."""
        halo = self.model.synthesis_halo
        outer = window.grown(halo, grid.bounds)
        of_columns = grid.is_wide
        across, length = outer.height, outer.width
        if not of_columns:
            across, length = length, across
        starts = range(halo, length, max(1, SLAB_POSITIONS // across))
        bounds = [0, *starts[1:], length]
        regions = [
            outer.slab(low, high - low, of_columns=of_columns)
            for low, high in itertools.pairwise(bounds)
        ]
        slabs = (Slab(latent(region), region is regions[-1]) for region in regions)
        dim = -1 if of_columns else -2
        start, pixels = 0, outer.scaled(self.model.stride)
        for x_hat in self.model.networks.synthesize_slabs(slabs, self._quality, dim):
            thickness = x_hat.shape[dim]
            yield pixels.slab(start, thickness, of_columns=of_columns), x_hat
            start += thickness

    def _walk(
        self, z: Tensor, shape: tuple[int, int], symbols_of: Callable[[Tensor, Part], Tensor]
    ) -> Tensor:
        """Run the four steps; `symbols_of` gives the symbols of a part whose means are known."""
        height, width = shape
        features = self.model.networks.mean_features(z[None].float(), self._quality)
        features = features[..., :height, :width].contiguous(memory_format=torch.channels_last)
        units = self.model.networks.mean_units(self._quality)
        channels = self.model.config.latent_channels
        y_hat, known = (
            torch.zeros((1, channels, height, width)).contiguous(memory_format=torch.channels_last)
            for _ in range(2)
        )

        def exchange(step: int, predicted: Tensor) -> Tensor:
            for part in step_parts(step, channels):
                own_units = units[part[:2]]
                means = predicted[part] * own_units
                y_hat[part] = means + symbols_of(means, part)
                known[part] = y_hat[part] / own_units
            return known

        self.model.networks.mean_context(features, exchange)
        return y_hat


def _build_networks(config: MainConfig, tensors: dict[str, Array]) -> MainAutoencoder:
    with torch.random.fork_rng(devices=[]):  # a meta device would load a second of torch modules
        model = MainAutoencoder(config)
    for name in _TRAINING_ONLY:
        delattr(model, name)
    load_networks(model, tensors)
    return model


def _build_head(
    config: MainConfig, tensors: dict[str, Array], dtype: torch.dtype
) -> IntegerScaleHead:
    try:
        shifts = tensors["scale_head.shifts"]
        if shifts.shape != (_NUM_LAYERS,):
            raise ModelError(f"the scale head has shifts of shape {shifts.shape}, expected (5,)")
        offsets = torch.from_numpy(tensors["scale_head.offsets"].astype(np.int64))
        layers = [
            IntegerLayer(
                torch.from_numpy(tensors[f"scale_head.{number}.weight"].astype(np.int64)),
                torch.from_numpy(tensors[f"scale_head.{number}.bias"].astype(np.int64)),
                int(shifts[number]),
            )
            for number in range(_NUM_LAYERS)
        ]
    except KeyError as error:
        raise ModelError(f"the weights lack a part of the scale head: {error}") from error
    if sum(name.startswith("scale_head.") for name in tensors) != 2 * _NUM_LAYERS + 2:
        raise ModelError("the weights hold an unknown part of the scale head")
    width, latent = config.hyper_channels, config.latent_channels
    expected = [(width, 3), (4 * width, 1), (width, 3), (4 * width, 1), (latent, 1)]
    for layer, (out, kernel) in zip(layers, expected, strict=True):
        if layer.weight.shape != (out, width, kernel, kernel) or layer.bias.shape != (out,):
            raise ModelError("a scale head layer has the wrong shape for the configuration")
        is_wide = _beyond(layer.weight, MAX_WEIGHT) or _beyond(layer.bias, 2**40)
        if is_wide or not 1 <= layer.shift <= 30:
            raise ModelError("a scale head layer is beyond the range of exact arithmetic")
    if offsets.shape != (config.quality_anchors, latent) or _beyond(offsets, 2**24):
        raise ModelError("the scale head's offsets have the wrong shape or range")
    return IntegerScaleHead(layers, offsets, dtype=dtype)


def _beyond(values: Tensor, bound: int) -> bool:
    return bool(values.max() > bound or values.min() < -bound)
