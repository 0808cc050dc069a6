"""What a model's layers respond to in an image, as arrays and as a labelled picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from caecodec.codec.encoder import check_color
from caecodec.codec.tensors import to_unit
from caecodec.errors import ConfigError
from caecodec.image.picture import ImageLike, take_apart
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.inference import FrozenModel
from caecodec.nn.summary import feature_maps

MAX_MAPS = 64
MAX_KERNELS = 64
MIN_CORRELATION = 0.4
"""Least correlation with a pattern of the image that gives a map its name."""
_COLUMNS = 8
_CELL, _LABEL, _GAP = 112, 14, 6

FeatureArray = NDArray[np.float32]


def feature_picture(model: FrozenModel, image: ImageLike, layer: int | None) -> Image.Image:
    """Return the maps of a layer, strongest first, and the first layer's kernels by channel.

    Above a map stand its channel, its share of the energy, and what it responds to.
    """
    maps = features_of(model, image, layer)
    names = responses(maps, image)
    energy = np.square(maps - maps.mean((1, 2), keepdims=True)).sum((1, 2))
    share = energy / max(float(energy.sum()), 1e-12)
    order = np.argsort(-energy, kind="stable")[:MAX_MAPS]
    cells = [
        (f"{channel}: {share[channel]:.1%} {names[channel]}", _gray(maps[channel]))
        for channel in order
    ]
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


def responses(maps: FeatureArray, image: ImageLike) -> list[str]:
    """Name what each map follows: light, dark, edges, or lines of one direction.

    Args:
        maps: (C, h, w).
        image: what they were taken from.

    Returns:
        The pattern of the image with the largest correlation over positions, MIN_CORRELATION at
        least; "" where none reaches it.
    """
    gray = take_apart(image).color.astype(np.float64)
    gray = gray.mean(2) if gray.ndim == 3 else gray
    across = np.abs(np.diff(gray, axis=1, append=gray[:, -1:]))
    down = np.abs(np.diff(gray, axis=0, append=gray[-1:]))
    size = maps.shape[2], maps.shape[1]
    light = _unit_vector(_shrunk(gray, size))
    lines = {"vertical": across, "horizontal": down, "edges": across + down}
    units = {name: _unit_vector(_shrunk(pattern, size)) for name, pattern in lines.items()}
    names = []
    for values in maps:
        brightness = float(_unit_vector(values) @ light)
        strength = _unit_vector(np.abs(values - values.mean()))
        found = {name: float(strength @ unit) for name, unit in units.items()}
        found |= {"light": brightness, "dark": -brightness}
        best = max(found, key=lambda name: found[name])
        names.append(best if found[best] >= MIN_CORRELATION else "")
    return names


def _shrunk(values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[Any]:
    """Return the means of values (H, W) over the positions of a map of (w, h)."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def _unit_vector(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values less their mean, flat, of length 1; zeros where they are all equal."""
    centred = values.astype(np.float64).ravel() - values.mean(dtype=np.float64)
    return centred / max(float(np.linalg.norm(centred)), 1e-12)


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
    groups = [cells[:num_maps], cells[num_maps:]]
    rows = [group[at : at + _COLUMNS] for group in groups for at in range(0, len(group), _COLUMNS)]
    shown = [[(label, _fitted(cell)) for label, cell in row] for row in rows]
    heights = [_LABEL + max(cell.height for _, cell in row) + _GAP for row in shown]
    sheet = Image.new("RGB", (_COLUMNS * (_CELL + _GAP), sum(heights)), color="white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(shown, heights, strict=True):
        for column, (label, cell) in enumerate(row):
            left = column * (_CELL + _GAP)
            draw.text((left + 1, top), label, fill="black")
            sheet.paste(cell.convert("RGB"), (left, top + _LABEL))
        top += height
    return sheet


def _fitted(cell: Image.Image) -> Image.Image:
    """Return a cell whose longer side is _CELL pixels."""
    scale = _CELL / max(cell.size)
    size = (max(1, round(cell.width * scale)), max(1, round(cell.height * scale)))
    return cell.resize(size, Image.Resampling.NEAREST)
