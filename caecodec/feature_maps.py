"""What a model's layers respond to in an image, as arrays and as a labelled picture (layer 4)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from caecodec.compression import check_color, to_unit
from caecodec.errors import ConfigError
from caecodec.nn.architectures import FrozenModel, build_model
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.layer_rows import feature_maps
from caecodec.pixels import ImageLike, take_apart
from caecodec.weights.storage import find_weights

MAX_MAPS = 64
MAX_KERNELS = 64
_COLUMNS = 8
_CELL, _LABEL, _GAP = 112, 14, 6

FeatureArray = NDArray[np.float32]


@functools.cache
def shared_model(model: str | Path) -> FrozenModel:
    """Return a model without its entropy coder, loaded once per process."""
    weights = find_weights(model)
    return build_model(weights.config, weights.tensors)


def feature_picture(model: FrozenModel, image: ImageLike, layer: int | None) -> Image.Image:
    """Return the maps of a layer, each with its channel and its share of the energy, and kernels.

    The maps come strongest first; the kernels of the first layer follow by channel.
    """
    maps = features_of(model, image, layer)
    energy = np.square(maps - maps.mean((1, 2), keepdims=True)).sum((1, 2))
    share = energy / max(float(energy.sum()), 1e-12)
    order = np.argsort(-energy, kind="stable")[:MAX_MAPS]
    cells = [(f"{channel}: {share[channel]:.1%}", _gray(maps[channel])) for channel in order]
    kernels = _kernels(model)[:MAX_KERNELS]
    cells += [(f"kernel {number}", kernel) for number, kernel in enumerate(kernels)]
    return _sheet(cells, len(order))


def features_of(model: FrozenModel, image: ImageLike, layer: int | None) -> FeatureArray:
    """Return the outputs of a layer; see `caecodec.features`."""
    count = len(model.feature_layers)
    number = count if layer is None else layer
    if not 1 <= number <= count:
        raise ConfigError(f"layer is {number}, expected 1 to {count}")
    picture = take_apart(image)
    check_color(model, picture)
    x = replicate_to_multiple(to_unit(picture.color), model.stride)
    maps = feature_maps(model, x, number)
    height, width = (
        -(-side * have // full)
        for side, have, full in zip(picture.color.shape, maps.shape[1:], x.shape[2:], strict=False)
    )
    array: FeatureArray = maps[:, :height, :width].contiguous().numpy()
    return array


def _kernels(model: FrozenModel) -> list[Image.Image]:
    """Return the kernels of the first layer, each stretched to the whole range of levels."""
    return [_gray(kernel.numpy()) for kernel in model.first_kernels()]


def _gray(values: NDArray[Any]) -> Image.Image:
    """Return values (h, w) or (C, h, w), of which 1 or 3 channels, from least to largest."""
    low, high = float(values.min()), float(values.max())
    levels = ((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    if levels.ndim == 3 and len(levels) == 3:
        return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    return Image.fromarray(levels.reshape(levels.shape[-2:]))


def _sheet(cells: list[tuple[str, Image.Image]], num_maps: int) -> Image.Image:
    """Return labelled cells in rows; the cells from `num_maps` on start a new row."""
    rows = -(-num_maps // _COLUMNS) - (-(len(cells) - num_maps) // _COLUMNS)
    width, height = _CELL + _GAP, _CELL + _LABEL + _GAP
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), color="white")
    draw = ImageDraw.Draw(sheet)
    start = -num_maps % _COLUMNS
    for number, (label, cell) in enumerate(cells):
        place = number if number < num_maps else number + start
        left, top = place % _COLUMNS * width, place // _COLUMNS * height
        draw.text((left + 1, top), label, fill="black")
        scale = _CELL / max(cell.size)
        size = (max(1, round(cell.width * scale)), max(1, round(cell.height * scale)))
        shown = cell.resize(size, Image.Resampling.NEAREST)
        sheet.paste(shown.convert("RGB"), (left, top + _LABEL))
    return sheet
