"""How exact models round: integers so small that float32 adds their products exactly.

FORMAT.md section 7.7, in float64, which all machines compute alike one operation at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caecodec.config import MAX_QUALITY
from caecodec.format.constants import QUALITY_UNIT
from caecodec.nn.layers import QualityConv2d, QualityTable, bias_of

LEVELS = 1023
"""Largest magnitude of a rounded input: weights have as many bits again, of the 24 that sums have,
less those that sums over channels take."""
SPACE_LEVELS = 8191
"""The same where a sum is over nine positions alone."""
WIDE = ("synthesis.project", "synthesis.up", "synthesis.patch")
"""The layers of the path from latents to pixels, which carries the image itself: their inputs are
split into two halves, all of them, or the first where the form of a layer says so."""
SPLIT = 64
"""How many then: they are the strongest as training starts."""
SPLIT_LEVELS = 16383
"""Largest magnitude of a rounded input that is split."""
REST_LEVELS = 2047
"""The same of the other inputs of these layers."""
HALF = 128.0
"""What the upper half of an input is a multiple of."""
MAX_SHIFT = 40
"""Most fractional bits of an output."""
SUM_BOUND = 2**24
"""What every sum of products stays below."""
GIVEN_STEPS = "mix_out"
"""The layer of a block that is given its own steps: the one before it, in space, scales to them."""

Array = NDArray[np.float64]

_SQUARINGS = 10
_TERMS = 9


class Form(NamedTuple):
    """How finely a layer rounds.

    Attributes:
        step: float32 (in,), what a unit of each rounded input is worth.
        shift: int8 (out,), fractional bits of each output; (2, out), those of two sums, of a wide
            layer of which the first inputs alone are split.
    """

    step: NDArray[Any]
    shift: NDArray[Any]

    def num_split(self, name: str) -> int:
        """Return how many inputs the layer of that name splits, the first."""
        if name not in WIDE:
            return 0
        return len(self.step) if self.shift.ndim == 1 else SPLIT


class Sum(NamedTuple):
    """A sum of products that float32 has to hold exactly.

    Attributes:
        inputs: it is over the first so many.
        levels: (inputs,) or, if all are alike, (1,), the largest magnitude of each, in units.
        unit: 1, or HALF for upper halves.
    """

    inputs: int
    levels: Array
    unit: float

    def largest(self, weight: Array, bias: Array) -> Array:
        """Return the largest magnitude (out,) that it may reach, of W (out, in, k, k) and B."""
        sizes = np.abs(weight[:, : self.inputs]).sum((2, 3)) * self.levels
        return np.asarray(sizes.sum(1) + np.abs(bias) / self.unit)


def weight_and_bias(layer: nn.Conv2d, units: int) -> tuple[Array, Array]:
    """Return the weights of a layer at a quality in hundredths."""
    weight, bias = layer.weight.detach().double().numpy(), bias_of(layer).detach().double().numpy()
    if isinstance(layer, QualityConv2d):
        gain = exponential(interpolate(table_values(layer.gain), units))
        weight = weight * gain[:, None, None, None]
        bias = bias * gain + interpolate(table_values(layer.shift), units)
    return weight, bias


def out_step(name: str, steps: Mapping[str, NDArray[Any]]) -> Array:
    """Return what a unit of each output of a layer is worth, given the steps of all layers."""
    block, _, last = name.rpartition(".")
    following = steps[f"{block}.{GIVEN_STEPS}"] if last == "mix_space" else np.ones(1)
    return following.astype(np.float64)


def in_steps(weight: Array, bias: Array, step: Array, out_step: Array) -> tuple[Array, Array]:
    """Return weight and bias for inputs in steps (in,) and outputs in steps (out,) or (1,)."""
    depthwise = weight.shape[1] < len(step)
    weight = weight * (step[:, None, None, None] if depthwise else step[:, None, None])
    return weight / out_step[:, None, None, None], bias / out_step


def levels_of(name: str, layer: nn.Conv2d, num_split: int) -> Array:
    """Return the largest magnitude of what a layer rounds each of its inputs to, (in,)."""
    if name in WIDE:
        return np.where(np.arange(layer.in_channels) < num_split, SPLIT_LEVELS, REST_LEVELS)
    return np.full(layer.in_channels, SPACE_LEVELS if layer.groups > 1 else LEVELS)


def sums_of(name: str, layer: nn.Conv2d, num_split: int) -> list[Sum]:
    """Return the sums of a layer: one, or those of upper halves and of all that is left."""
    levels, inputs = levels_of(name, layer, num_split), layer.in_channels
    if name not in WIDE:
        return [Sum(inputs, levels[:1], 1.0)]
    left = np.where(levels == SPLIT_LEVELS, HALF / 2, levels)
    return [Sum(min(num_split, inputs), np.full(1, HALF), HALF), Sum(inputs, left, 1.0)]


def interpolate(values: Array, units: int) -> Array:
    """Return a table's row at a quality in hundredths: of (A, C), linear between rows, (C,)."""
    span = int(MAX_QUALITY) * QUALITY_UNIT
    position = units * (len(values) - 1)
    low = min(position // span, len(values) - 2)
    part = position - span * low
    return (values[low] * (span - part) + values[low + 1] * part) / span


def exponential(values: Array) -> Array:
    """Return e to the power of values, by products and sums alone."""
    part = values / 2**_SQUARINGS
    result = np.ones_like(part)
    for term in range(_TERMS, 0, -1):
        result = result * part / term + 1
    for _ in range(_SQUARINGS):
        result = result * result
    return result


def table_values(table: QualityTable) -> Array:
    """Return a table's rows (A, C) in float64."""
    return table.values.detach().double().numpy()
