"""The layers of exact models in `make_vectors.py`: FORMAT.md section 7.7 in plain Python.

A Python float is a float64; `single` rounds one to float32. Sums, differences, products and
quotients of two float32 that are rounded to float64 first and then to float32 are those rounded
once, as float64 has more than twice the bits.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

Vector = dict[str, Any]
Planes = list[list[list[float]]]
Weights = list[list[list[list[float]]]]
UNITS = {"silu": 23943 / 1824, "hardswish": 1 / 6}
ANCHORS = 3


def single(value: float) -> float:
    """Round to float32."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def half(value: float) -> float:
    """Round to float16, as weights are stored."""
    rounded: float = struct.unpack("<e", struct.pack("<e", value))[0]
    return rounded


def clamp(value: float, bound: float) -> float:
    """Return a value, or the bound that is nearest to it."""
    return max(-bound, min(value, bound))


def silu(v: float) -> float:
    """Return SiLU in its unit."""
    t = clamp(v, 8.0)
    u = single(t * t)
    above = single(single(u + 50) * t)
    below = single(single(single(u + 269) * u) + 2631)
    return single(v * single(single(above / below) + single(912 / 23943)))


def hardswish(v: float) -> float:
    """Return hardswish in its unit."""
    return single(v * max(0.0, min(single(v + 3), 6.0)))


ACTIVATIONS: dict[str, Callable[[float], float]] = {"silu": silu, "hardswish": hardswish}


def table(rows: list[list[float]], units: int) -> list[float]:
    """Return a table's values at a quality in hundredths."""
    position = units * (len(rows) - 1)
    low = min(position // 10_000, len(rows) - 2)
    part = position - 10_000 * low
    pairs = zip(rows[low], rows[low + 1], strict=True)
    return [(one * (10_000 - part) + other * part) / 10_000 for one, other in pairs]


def exponential(value: float) -> float:
    """Return e to the power of a value, in float64."""
    v, e = value / 1024, 1.0
    for k in range(9, 0, -1):
        e = e * v / k + 1
    for _ in range(10):
        e = e * e
    return e


def layer(given: Vector) -> Vector:
    """Return the rounded inputs `a`, the numerators `W` and `B`, and the outputs `y` of a layer."""
    name, tensors = given["layer"], given["tensors"]
    last = name.rpartition(".")[2]
    step, shift = tensors[f"exact.{name}.step"], tensors[f"exact.{name}.shift"]
    x, unit = given["x"], 1.0
    if last in {"mix_space", "contract"}:
        act, unit = ACTIVATIONS[given["activation"]], UNITS[given["activation"]]
        x = [[[act(value) for value in row] for row in plane] for plane in x]
    (bound,) = tensors[f"exact.{name}.levels"]
    scales = [1.0 if last == "mix_out" else single(unit / own) for own in step]
    a = [
        [[clamp(round(single(value * scale)), bound) for value in row] for row in plane]
        for plane, scale in zip(x, scales, strict=True)
    ]
    numerators, biases = rounded(given, step, shift)
    y = sums(numerators, a, biases, shift)
    return given | {"a": a, "W": numerators, "B": biases, "y": y}


def sums(weights: Any, a: Planes, biases: list[int], shift: list[int]) -> Planes:
    """Return the sums of an output each, rounded to float32."""
    return [
        [
            [single(at(own, a, (o, i, j), bias=bias)) / 2**bits for j in range(len(a[0][0]))]
            for i in range(len(a[0]))
        ]
        for o, (own, bias, bits) in enumerate(zip(weights, biases, shift, strict=True))
    ]


def rounded(
    given: Vector, step: list[float], shift: list[int]
) -> tuple[list[list[list[list[int]]]], list[int]]:
    """Return the numerators of W (out, in or 1, k, k) and of B (out,)."""
    name, tensors, units = given["layer"], given["tensors"], given["units"]
    gains, shifts = [1.0] * len(shift), [0.0] * len(shift)
    if f"{name}.gain.values" in tensors:
        gains = [exponential(value) for value in table(tensors[f"{name}.gain.values"], units)]
        shifts = table(tensors[f"{name}.shift.values"], units)
    is_depthwise = name.endswith("mix_space")
    following = [1.0] * len(shift)
    if is_depthwise:
        following = tensors[f"exact.{name.replace('mix_space', 'mix_out')}.step"]
    weights, biases = [], []
    for o, (own, bias) in enumerate(
        zip(tensors[f"{name}.weight"], tensors[f"{name}.bias"], strict=True)
    ):
        steps = [step[o]] if is_depthwise else step
        weights.append([
            [[round(w * gains[o] * size / following[o] * 2.0 ** shift[o]) for w in row]
             for row in plane]
            for plane, size in zip(own, steps, strict=True)
        ])  # fmt: skip
        biases.append(round((bias * gains[o] + shifts[o]) / following[o] * 2.0 ** shift[o]))
    return weights, biases


def at(weights: list[list[list[int]]], a: Planes, place: tuple[int, int, int], bias: int) -> int:
    """Return the numerator of a sum at (o, i, j)."""
    o, i, j = place
    planes = a if len(weights) == len(a) else [a[o]]
    margin = len(weights[0]) // 2
    total = bias
    for plane, kernel in zip(planes, weights, strict=True):
        for dy, row in enumerate(kernel):
            for dx, weight in enumerate(row):
                r, c = i + dy - margin, j + dx - margin
                if 0 <= r < len(plane) and 0 <= c < len(plane[0]):
                    total += weight * int(plane[r][c])
    assert abs(total) < 2**31
    return total


def layers() -> Iterator[Vector]:
    """Yield a layer of each kind, with what comes of some x."""
    block, patch = "synthesis.blocks.0", "synthesis.patch"
    plans = (
        ("plain", "mean_context.block.mix_in", "silu", (3, 4), 5000),
        ("by-quality", f"{block}.mix_in", "silu", (3, 4), 3777),
        ("in-space", f"{block}.mix_space", "silu", (3, 3), 0),
        ("in-space-hardswish", f"{block}.mix_space", "hardswish", (3, 3), 0),
        ("given-steps", f"{block}.mix_out", "silu", (3, 2), 10_000),
        ("activated", f"{block}.contract", "silu", (4, 2), 0),
        ("activated-hardswish", f"{block}.contract", "hardswish", (4, 2), 0),
        ("beyond-float32", patch, "silu", (3, 4), 0),
    )
    for seed, (kind, name, activation, sizes, units) in enumerate(plans):
        chance = random.Random(seed)
        own = _tensors(chance, name, sizes, has_tables=kind in {"by-quality", "given-steps"})
        scale = 500.0 if kind == "given-steps" else 6.0
        places = [
            [[single(chance.gauss(0, scale)) for _ in range(4)] for _ in range(3)]
            for _ in range(sizes[0])
        ]
        yield layer({
            "name": kind, "layer": name, "activation": activation, "units": units,
            "tensors": own, "x": places,
        })  # fmt: skip


def _tensors(
    chance: random.Random, name: str, sizes: tuple[int, int], *, has_tables: bool
) -> Vector:
    inputs, outputs = sizes
    is_depthwise = name.endswith("mix_space")
    side = 3 if is_depthwise else 1

    def kernel() -> list[list[float]]:
        return [[half(chance.gauss(0, 0.4)) for _ in range(side)] for _ in range(side)]

    is_fine = name.endswith("patch")
    bits = 22 if is_fine else 9 if is_depthwise else 17
    steps = 3000 if is_fine else 1000 if is_depthwise else 200
    levels = 16_383 if is_fine else 8191 if is_depthwise else 1023
    tensors: Vector = {
        f"{name}.weight": [
            [kernel() for _ in range(1 if is_depthwise else inputs)] for _ in range(outputs)
        ],
        f"{name}.bias": [half(chance.gauss(0, 1)) for _ in range(outputs)],
        f"exact.{name}.step": [single(chance.uniform(1, 2) / steps) for _ in range(inputs)],
        f"exact.{name}.levels": [levels],
        f"exact.{name}.shift": [bits - chance.randrange(3) for _ in range(outputs)],
    }
    if is_depthwise:
        following = [single(chance.uniform(1, 2) / 300) for _ in range(outputs)]
        tensors[f"exact.{name.replace('mix_space', 'mix_out')}.step"] = following
    if has_tables:
        for kind, spread in (("gain", 0.5), ("shift", 1.0)):
            tensors[f"{name}.{kind}.values"] = [
                [half(chance.gauss(0, spread)) for _ in range(outputs)] for _ in range(ANCHORS)
            ]
    return tensors
