"""How exact models round: integers of 16 bits, whose sums of products have 32.

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

MAX_LEVELS = 2**14 - 1
"""Most that the largest magnitude of rounded inputs may be."""
WEIGHT_BOUND = 2**15
"""What the magnitude of a rounded weight stays below: weights and inputs have 16 bits."""
MAX_SHIFT = 40
"""Most fractional bits of an output."""
SUM_BOUND = 2**31
"""What the magnitude of every sum of products stays below: they have 32 bits."""
FLOAT_BOUND = 2**24
"""Below it float32 holds sums exactly, in any order."""
GIVEN_STEPS = "mix_out"
"""The layer of a block that is given its own steps: the one before it, in space, scales to them."""

Array = NDArray[np.float64]

_SQUARINGS = 10
_TERMS = 9


class Form(NamedTuple):
    """How finely a layer rounds.

    Attributes:
        step: float32 (in,), what a unit of each rounded input is worth.
        levels: int16 (1,), the largest magnitude of rounded inputs.
        shift: int8 (out,), fractional bits of each output.
    """

    step: NDArray[Any]
    levels: NDArray[Any]
    shift: NDArray[Any]


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


def largest_sums(weight: Array, bias: Array, levels: int) -> Array:
    """Return what sums may reach in magnitude (out,), of W (out, in, k, k) and B (out,)."""
    return np.asarray(np.abs(weight).sum((1, 2, 3)) * levels + np.abs(bias))


def norms(weight: Array) -> Array:
    """Return the Euclidean norm (out,) of the weights (out, in, k, k) of each output.

    Times that of a position's rounded inputs it is more than any sum over some of them reaches, by
    the inequality of Cauchy and Schwarz.
    """
    return np.asarray(np.sqrt(np.square(weight).sum((1, 2, 3))))


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
