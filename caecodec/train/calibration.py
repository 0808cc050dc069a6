"""Makes a model exact: how finely each layer may round what it is given, and its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caecodec.config import MAX_QUALITY
from caecodec.errors import ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.nn.exact_form import (
    MAX_SHIFT,
    SPLIT,
    SUM_BOUND,
    WIDE,
    Form,
    in_steps,
    levels_of,
    out_step,
    sums_of,
    weight_and_bias,
)
from caecodec.nn.exact_layers import PREFIX, exact_layers
from caecodec.nn.inference_main import FrozenMain
from caecodec.nn.layers import QualityConv2d
from caecodec.train.weight_rounding import round_weights

MARGIN = 1.1
"""What inputs may reach, relative to the largest that calibration saw."""
SPLIT_MARGIN, REST_MARGIN = 4.0, 2.0
"""The same in wide layers, of inputs that are split and of the rest: beyond it, the image itself
would suffer."""
PARTLY_SPLIT = ("synthesis.patch",)
"""Wide layers of which the first inputs alone are split, as that loses hardly anything."""
LEAST_RANGE = 1e-3
"""Smallest range of an input, relative to the layer's largest."""
ROOM = 0.99
"""Share of the bound that the sums may reach before weights are rounded."""

Array = NDArray[Any]


class Seen(NamedTuple):
    """What calibration saw of the inputs of layers, by name.

    Attributes:
        ranges: (in,), the largest magnitude of each.
        moments: (in, in), sums of their products, for layers whose weights are rounded in turn.
    """

    ranges: dict[str, Array]
    moments: dict[str, Array]


@torch.inference_mode()
def calibrate(
    model: FrozenMain, crops: Iterable[Tensor], kept: Mapping[str, Form]
) -> dict[str, Array]:
    """Return the tensors that make a model exact, and those that change. FORMAT.md section 7.7.

    Args:
        model: as trained, with all its branches.
        crops: images (1, 3, H, W) in [0, 1], sides multiples of 16; qualities are spread over them,
            and each is seen at the highest, too.
        kept: forms that layers already have, and their weights were rounded for; other kinds of
            forms than are made today are made anew.

    Raises:
        ModelError: a layer whose sums float32 cannot hold exactly.
    """
    layers = dict(exact_layers(model.networks))
    kept = {
        name: form for name, form in kept.items() if form.shift.ndim == 1 + (name in PARTLY_SPLIT)
    }
    seen = _look(model, layers, list(crops))
    anchors = model.config.quality_anchors
    qualities = [
        round(MAX_QUALITY * QUALITY_UNIT * anchor / (anchors - 1)) for anchor in range(anchors)
    ]
    steps = {
        name: kept[name].step if name in kept else _step(name, layer, seen.ranges[name])
        for name, layer in layers.items()
    }
    made = {}
    for name, layer in layers.items():
        form = kept.get(name) or Form(steps[name], _shifts(name, layer, steps, qualities))
        made[f"{PREFIX}{name}.step"], made[f"{PREFIX}{name}.shift"] = form
        if name in seen.moments and name not in kept:
            made[f"{name}.weight"] = _rounded(name, layer, form, seen.moments[name])
    return made


def _look(model: FrozenMain, layers: Mapping[str, nn.Conv2d], crops: list[Tensor]) -> Seen:
    """Run a model and return what its layers were given."""
    sizes = {name: layer.in_channels for name, layer in layers.items()}
    ranges = {name: np.zeros(size) for name, size in sizes.items()}
    moments = {
        name: np.zeros((sizes[name], sizes[name]))
        for name, layer in layers.items()
        if _is_rounded_in_turn(name, layer)
    }

    def watch(name: str) -> Any:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0].transpose(0, 1).flatten(1)
            np.maximum(ranges[name], x.abs().amax(1).double().numpy(), out=ranges[name])
            if name in moments:
                moments[name] += (x @ x.T).double().numpy()

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
    return Seen(ranges, moments)


def _is_rounded_in_turn(name: str, layer: nn.Conv2d) -> bool:
    """Return whether float16 holds what a layer multiplies by, the same at every quality."""
    in_floats = layer.groups > 1 or isinstance(layer, QualityConv2d)
    return not in_floats and _num_split(name, layer) < layer.in_channels


def _num_split(name: str, layer: nn.Conv2d) -> int:
    """Return how many inputs of a layer are to be split."""
    if name not in WIDE:
        return 0
    return min(SPLIT, layer.in_channels) if name in PARTLY_SPLIT else layer.in_channels


def _rounded(name: str, layer: nn.Conv2d, form: Form, moments: Array) -> Array:
    """Return the weights to store; an output whose sums would become too large keeps its own."""
    weight, bias = weight_and_bias(layer, 0)
    stored, first = weight.astype(np.float16), _num_split(name, layer)
    own = Form(form.step[first:], np.atleast_2d(form.shift)[-1])
    stored[:, first:, 0, 0] = round_weights(weight[:, first:, 0, 0], own, moments[first:, first:])
    read = stored.astype(np.float64) * form.step.astype(np.float64)[:, None, None]
    bias = bias if first == 0 else np.zeros(len(bias))
    sums = sums_of(name, layer, first)[-1].largest(read, bias) * 2.0 ** own.shift.astype(np.int64)
    fits = sums < (1 + ROOM) / 2 * SUM_BOUND
    return np.where(fits[:, None, None, None], stored, weight).astype(np.float16)


def _step(name: str, layer: nn.Conv2d, ranges: Array) -> Array:
    """Return what a unit of each rounded input is worth, float32 (in,)."""
    num_split = _num_split(name, layer)
    margins = np.full(layer.in_channels, MARGIN)
    if name in WIDE:
        margins = np.where(np.arange(layer.in_channels) < num_split, SPLIT_MARGIN, REST_MARGIN)
    step = _lifted(ranges) * margins / levels_of(name, layer, num_split)
    return np.asarray(step.astype(np.float32))


def _lifted(ranges: Array) -> Array:
    """Return ranges that no input which hardly moves makes needlessly small."""
    return np.maximum(ranges, LEAST_RANGE * max(ranges.max(), LEAST_RANGE))


def _shifts(name: str, layer: nn.Conv2d, steps: Mapping[str, Array], qualities: list[int]) -> Array:
    """Return the fractional bits that each output may have at all qualities: see `Form`."""
    sums = sums_of(name, layer, _num_split(name, layer))
    shifts = np.full((len(sums), layer.out_channels), MAX_SHIFT)
    for units in qualities:
        weight, bias = in_steps(
            *weight_and_bias(layer, units), steps[name].astype(np.float64), out_step(name, steps)
        )
        for number, part in enumerate(sums):
            reached = part.largest(weight, bias if number == 0 else np.zeros(len(bias)))
            room = np.log2(ROOM * SUM_BOUND / np.maximum(reached, 1e-30))
            shifts[number] = np.minimum(shifts[number], np.floor(room).astype(np.int64))
    if shifts.min() < 0:
        raise ModelError(f"layer {name} has sums that float32 cannot hold exactly")
    return (shifts if name in PARTLY_SPLIT else shifts.min(0)).astype(np.int8)
