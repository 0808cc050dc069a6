"""Makes a model exact: how finely each layer may round what it is given, and its weights."""

from __future__ import annotations

import math
import re
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
    FLOAT_BOUND,
    MAX_LEVELS,
    MAX_SHIFT,
    Form,
    in_steps,
    largest_sums,
    norms,
    out_step,
    weight_and_bias,
)
from caecodec.nn.exact_layers import PREFIX, exact_layers
from caecodec.nn.inference_main import FrozenMain
from caecodec.nn.layers import QualityConv2d
from caecodec.train.weight_rounding import round_weights

LEVELS, SPACE_LEVELS, FINE_LEVELS = 1023, 8191, MAX_LEVELS
"""Largest magnitude of rounded inputs: of most layers, of those in space, whose sums are over nine
positions alone, and of fine ones."""
FINE = re.compile(r"synthesis\.(project|up|patch|blocks\.\d+\.(mix_out|contract))")
"""The layers that carry the image itself, and those that add to it at 1/8: most of what rounding
costs would come from them. Some of their sums are beyond what float32 holds exactly."""
PEAK = 2.5
"""How far the norm of a position's inputs may be above its root mean square until that happens."""
MARGIN, CARRIED_MARGIN = 1.1, 4.0
"""What inputs may reach, relative to the largest that calibration saw; more where they carry the
image itself."""
CARRIED = re.compile(r"synthesis\.(project|up|patch|latent_blocks\.\d+\.mix_in)")
LEAST_RANGE = 1e-3
"""Smallest range of an input, relative to the layer's largest."""
ROOM = 0.99
"""Share of the bound that the sums may reach before weights are rounded."""

Array = NDArray[Any]


class Seen(NamedTuple):
    """What calibration saw of the inputs of layers, by name.

    Attributes:
        ranges: (in,), the largest magnitude of each.
        squares: (in,), the mean square of each.
        moments: (in, in), sums of their products, for layers whose weights are rounded in turn.
    """

    ranges: dict[str, Array]
    squares: dict[str, Array]
    moments: dict[str, Array]


@torch.inference_mode()
def calibrate(model: FrozenMain, crops: Iterable[Tensor]) -> dict[str, Array]:
    """Return the tensors that make a model exact, and those that change. FORMAT.md section 7.7.

    Args:
        model: as trained, with all its branches.
        crops: images (1, 3, H, W) in [0, 1], sides multiples of 16; qualities are spread over them,
            and each is seen at the highest, too.

    Raises:
        ModelError: a layer whose sums float32 cannot hold exactly.
    """
    layers = dict(exact_layers(model.networks))
    seen = _look(model, layers, list(crops))
    anchors = model.config.quality_anchors
    qualities = [
        round(MAX_QUALITY * QUALITY_UNIT * anchor / (anchors - 1)) for anchor in range(anchors)
    ]
    forms: dict[str, Form] = {}
    for name in reversed(layers):  # a layer in space gives the steps of the one after it
        forms[name] = _form(name, layers[name], seen, forms, qualities)
    made = {}
    for name, layer in layers.items():
        for part, values in forms[name]._asdict().items():
            made[f"{PREFIX}{name}.{part}"] = values
        if name in seen.moments:
            made[f"{name}.weight"] = _rounded(layer, forms[name], seen.moments[name])
    return made


def _look(model: FrozenMain, layers: Mapping[str, nn.Conv2d], crops: list[Tensor]) -> Seen:
    """Run a model and return what its layers were given."""
    sizes = {name: layer.in_channels for name, layer in layers.items()}
    ranges, squares = ({name: np.zeros(size) for name, size in sizes.items()} for _ in range(2))
    moments = {
        name: np.zeros((sizes[name], sizes[name]))
        for name, layer in layers.items()
        if _is_rounded_in_turn(layer)
    }

    def watch(name: str) -> Any:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0].transpose(0, 1).flatten(1)
            np.maximum(ranges[name], x.abs().amax(1).double().numpy(), out=ranges[name])
            squares[name] += x.square().mean(1).double().numpy() / (2 * len(crops))
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
    return Seen(ranges, squares, moments)


def _is_rounded_in_turn(layer: nn.Conv2d) -> bool:
    """Return whether float16 holds what a layer multiplies by, the same at every quality."""
    return layer.groups == 1 and not isinstance(layer, QualityConv2d)


def _form(
    name: str, layer: nn.Conv2d, seen: Seen, forms: Mapping[str, Form], qualities: list[int]
) -> Form:
    """Return how finely a layer rounds."""
    ones = np.ones(layer.in_channels)
    following = out_step(name, {other: form.step for other, form in forms.items()})
    read = [in_steps(*weight_and_bias(layer, units), ones, following) for units in qualities]
    levels = SPACE_LEVELS if layer.groups > 1 else LEVELS
    if FINE.fullmatch(name):
        levels = FINE_LEVELS
    margin = CARRIED_MARGIN if CARRIED.fullmatch(name) else MARGIN
    step = _lifted(seen.ranges[name]) * margin / levels
    if FINE.fullmatch(name):
        step, reached = _balanced(step, _lifted(np.sqrt(seen.squares[name])), read)
    else:
        own = [in_steps(weight, bias, step, np.ones(1)) for weight, bias in read]
        reached = np.max([largest_sums(*both, levels) for both in own], axis=0)
    shift = _shift(reached)
    if shift.min() < 0:
        raise ModelError(f"layer {name} has sums that float32 cannot hold exactly")
    return Form(step.astype(np.float32), np.array([levels], np.int16), shift.astype(np.int8))


def _shift(reached: Array) -> Array:
    """Return the fractional bits that outputs may have whose sums reach so much."""
    return np.minimum(np.floor(np.log2(ROOM * FLOAT_BOUND / np.maximum(reached, 1e-30))), MAX_SHIFT)


def _balanced(least: Array, sizes: Array, read: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return the steps (in,) of a fine layer, and what its sums reach (out,).

    Inputs x in steps of s add w^2 s^2 / 12 to the mean square error of an output, and weights in
    steps of u / s, with outputs in units of u, add x^2 u^2 / (12 s^2): both are to be alike. The
    sums decide u: see `norms`.

    Args:
        least: (in,), smallest steps.
        sizes: (in,), root mean square of inputs.
        read: weights and biases by quality.
    """
    squares = np.mean([np.square(weight).sum((0, 2, 3)) for weight, _ in read], axis=0)
    ratio = np.sqrt(sizes / np.sqrt(np.maximum(squares, 1e-12)))
    norm = PEAK * math.sqrt(np.square(sizes / ratio).sum())
    reached = np.max(
        [norms(weight * ratio[:, None, None]) * norm + np.abs(bias) for weight, bias in read],
        axis=0,
    )
    units = 2.0 ** -_shift(reached)
    moved = np.square(sizes / ratio).sum() * np.square(units).sum()
    step = ratio * (moved / (squares * np.square(ratio)).sum()) ** 0.25
    return np.maximum(step, least), reached


def _lifted(ranges: Array) -> Array:
    """Return ranges that no input which hardly moves makes needlessly small."""
    return np.maximum(ranges, LEAST_RANGE * max(ranges.max(), LEAST_RANGE))


def _rounded(layer: nn.Conv2d, form: Form, moments: Array) -> Array:
    """Return the weights to store; an output whose sums would become too large keeps its own."""
    weight, bias = weight_and_bias(layer, 0)
    stored = round_weights(weight[..., 0, 0], form, moments)[..., None, None]
    unit = 2.0 ** form.shift.astype(np.int64)
    before, after = (
        largest_sums(own * form.step.astype(np.float64)[:, None, None], bias, form.levels[0]) * unit
        for own in (weight, stored.astype(np.float64))
    )
    fits = after < np.maximum(before, (1 + ROOM) / 2 * FLOAT_BOUND)
    return np.where(fits[:, None, None, None], stored, weight).astype(np.float16)
