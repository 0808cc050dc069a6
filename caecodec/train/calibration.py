"""Makes a model exact: how finely each layer may round what it is given, and its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caecodec.config import MAX_QUALITY
from caecodec.errors import ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.nn.exact_form import (
    MAX_SHIFT,
    SUM_BOUND,
    WIDE,
    in_steps,
    largest_sums,
    levels_of,
    out_step,
    weight_and_bias,
)
from caecodec.nn.exact_layers import PREFIX, exact_layers
from caecodec.nn.inference_main import FrozenMain

MARGIN = 1.25
"""What inputs may reach, relative to the largest that calibration saw."""
WIDE_MARGIN = 4.0
"""The same where inputs are split into two halves: beyond it, the image itself would suffer."""
LEAST_RANGE = 1e-3
"""Smallest range of an input, relative to the layer's largest."""
ROOM = 0.99
"""Share of the bound that the sums may reach before weights are rounded."""

Array = NDArray[Any]


@torch.inference_mode()
def calibrate(model: FrozenMain, crops: Iterable[Tensor]) -> dict[str, Array]:
    """Return the tensors that make a model exact. FORMAT.md section 7.7.

    Args:
        model: as trained, with all its branches.
        crops: images (1, 3, H, W) in [0, 1], sides multiples of 16; qualities are spread over them,
            and each is seen at the highest, too.

    Raises:
        ModelError: a layer whose sums float32 cannot hold exactly.
    """
    layers = dict(exact_layers(model.networks))
    ranges = _ranges(model, layers, list(crops))
    anchors = model.config.quality_anchors
    qualities = [
        round(MAX_QUALITY * QUALITY_UNIT * anchor / (anchors - 1)) for anchor in range(anchors)
    ]
    steps = {
        name: (_lifted(ranges[name]) * _margin(name) / levels_of(name, layer)).astype(np.float32)
        for name, layer in layers.items()
    }
    made = {}
    for name, layer in layers.items():
        made[f"{PREFIX}{name}.step"] = steps[name]
        made[f"{PREFIX}{name}.shift"] = _shifts(name, layer, steps, qualities)
    return made


def _ranges(
    model: FrozenMain, layers: Mapping[str, nn.Conv2d], crops: list[Tensor]
) -> dict[str, Array]:
    """Return the largest magnitude of each input of each layer, (in,)."""
    found = {name: np.zeros(layer.in_channels) for name, layer in layers.items()}

    def watch(name: str) -> Any:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            largest = given[0].abs().amax((0, 2, 3)).double().numpy()
            np.maximum(found[name], largest, out=found[name])

        return look

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        for number, crop in enumerate(crops):
            share = number / max(1, len(crops) - 1)
            for quality in (share * MAX_QUALITY, MAX_QUALITY):
                own = model.at(round(QUALITY_UNIT * quality))
                own.synthesize(own.quantize(own.latent(model.stem(crop))).y_hat)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _margin(name: str) -> float:
    return WIDE_MARGIN if name in WIDE else MARGIN


def _lifted(ranges: Array) -> Array:
    """Return ranges that no input which hardly moves makes needlessly small."""
    return np.maximum(ranges, LEAST_RANGE * max(ranges.max(), LEAST_RANGE))


def _shifts(name: str, layer: nn.Conv2d, steps: Mapping[str, Array], qualities: list[int]) -> Array:
    """Return the fractional bits that each output (out,) may have at all qualities."""
    shifts = np.full(layer.out_channels, MAX_SHIFT)
    for units in qualities:
        weight, bias = in_steps(
            *weight_and_bias(layer, units), steps[name].astype(np.float64), out_step(name, steps)
        )
        sums = largest_sums(name, layer, weight, bias)
        room = np.log2(ROOM * SUM_BOUND / np.maximum(sums, 1e-30))
        shifts = np.minimum(shifts, np.floor(room).astype(np.int64))
    if shifts.min() < 0:
        raise ModelError(f"layer {name} has sums that float32 cannot hold exactly")
    return shifts.astype(np.int8)
