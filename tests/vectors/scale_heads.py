"""The scale heads of `make_vectors.py`: drawn ones, and ones whose results lie on edges."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from plain import Planes, scale_indexes

Vector = dict[str, Any]


def drawn(chance: random.Random, limit: int, *shape: int) -> Any:
    """Draw nested lists of integers from -limit to limit."""
    if not shape:
        return chance.randint(-limit, limit)
    return [drawn(chance, limit, *shape[1:]) for _ in range(shape[0])]


def head_of(seed: int, sizes: tuple[int, int, int], limits: Vector) -> Vector:
    """Draw a scale head of N, M, A: weights, biases and offsets of each sign, within limits."""
    n, m, anchors = sizes
    chance = random.Random(seed)
    layers = _layers(n, m)
    center, spread = limits["offsets"]
    return {
        "weights": [
            drawn(chance, limit, out, n, side, side)
            for limit, (out, side) in zip(limits["weights"], layers, strict=True)
        ],
        "biases": [
            drawn(chance, limit, out)
            for limit, (out, _) in zip(limits["biases"], layers, strict=True)
        ],
        "shifts": limits["shifts"],
        "offsets": [[center + own for own in row] for row in drawn(chance, spread, anchors, m)],
    }


def scale_heads() -> Iterator[Vector]:
    """Yield scale heads with what they make of some z."""
    usual = {
        "weights": [160] * 5, "biases": [50_000] * 5, "shifts": [7, 7, 7, 7, 6],
        "offsets": (8000, 5000),
    }  # fmt: skip
    clamping = {
        "weights": [32_767] * 5, "biases": [2**30, 2**40, 2**31, 2**30, 2**30],
        "shifts": [17, 25, 17, 15, 16], "offsets": (8000, 9000),
    }  # fmt: skip
    flooring = {
        "weights": [3, 3, 3, 3, 900], "biases": [999, 5, 9, 9, 99], "shifts": [7, 2, 2, 3, 1],
        "offsets": (6000, 6000),
    }  # fmt: skip
    shifting = {
        "weights": [32_767] * 5, "biases": [2**40, 2**22, 2**27, 2**25, 2**25],
        "shifts": [30, 13, 17, 15, 13], "offsets": (8000, 9000),
    }  # fmt: skip
    small, wide = (-2, -1, 0, 0, 0, 1, 3), (-32_768, -128, -127, -126, 0, 126, 127, 128, 32_767)
    plans = {
        "usual": (2, 4, 3, usual, small, [(1, 1, 5000), (3, 2, 3333), (1, 5, 10_000), (2, 1, 0)]),
        "clamps": (3, 4, 2, clamping, wide, [(1, 1, 0), (2, 3, 4321), (3, 1, 10_000)]),
        "floors": (2, 8, 4, flooring, small, [(1, 1, 1), (1, 3, 3333), (3, 1, 3334), (2, 1, 9999)]),
        "shift-30": (4, 4, 9, shifting, wide, [(1, 1, 1250), (1, 2, 6249)]),
    }
    for seed, (name, (n, m, anchors, limits, values, cases)) in enumerate(plans.items()):
        head = head_of(seed, (n, m, anchors), limits)
        chance = random.Random(seed)
        drawn_cases = []
        for rows, columns, units in cases:
            places = [[chance.choices(values, k=columns) for _ in range(rows)] for _ in range(n)]
            drawn_cases.append((places, units))
        yield _with_cases(name, head, drawn_cases)
    yield from scale_heads_of_edges()


def scale_heads_of_edges() -> Iterator[Vector]:
    """Yield scale heads whose results lie on edges: of clamps, of divisions, between indexes."""
    same = [[[0, 0, 0], [0, 2, 0], [0, 0, 0]]]
    edges = {
        "weights": [
            [same],
            [[[[weight]]] for weight in (1, 3, -1, -3)],
            [same],
            [[[[weight]]] for weight in (2, 3, -2, -16)],
            [[[[weight]]] for weight in (3, 8, -8, -3)],
        ],
        "biases": [[0], [0] * 4, [0], [0] * 4, [0] * 4],
        "shifts": [1, 1, 1, 1, 2],
        "offsets": [[-23_936, -32_128, 33_407, 25_215]] * 2,
    }
    yield _with_cases("edges", edges, [([[[value]]], 0) for value in (1, -127, 127, -128, 32_767)])
    offsets = {
        "weights": [[[[[0] * side] * side] * 2] * out for out, side in _layers(2, 4)],
        "biases": [[0, 0], [0] * 8, [0, 0], [0] * 8, [10_000, 0, 20_000, -200]],
        "shifts": [1] * 5,
        "offsets": [
            [-4360, 127, -(2**24), 2**24],
            [-4361, 128, 2**24, -(2**24)],
            [-4358, 129, 0, 2**24 - 1],
        ],
    }
    units = (0, 2499, 2500, 2501, 5000, 7500, 10_000)
    yield _with_cases("offsets", offsets, [([[[1]], [[-1]]], own) for own in units])


def _with_cases(name: str, head: Vector, cases: list[tuple[Planes, int]]) -> Vector:
    found = [
        {"units": units, "z": z, "indexes": scale_indexes(head, z, units)} for z, units in cases
    ]
    return {"name": name, **head, "cases": found}


def _layers(n: int, m: int) -> list[tuple[int, int]]:
    """Return outputs and kernel's side of each layer."""
    return [(n, 3), (4 * n, 1), (n, 3), (4 * n, 1), (m, 1)]
