"""From residuals to symbols: to the nearest, or nearer to zero where that saves enough bits.

At the quantiser step that is optimal for lambda, an error of one step costs 6 / ln 2 = 8.7 bits of
R + lambda D (`config.optimal_step`); the trained gains keep to this, at every quality and in every
channel, within a few tenths. So lambda cancels out, but for what zeroed symbols have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from caecodec.config import MAX_QUALITY, NUM_SCALES
from caecodec.format.tables import CodingTables

DEAD_ZONE_COSTS = (35.5, 12.0)
"""Bits for a squared error of one step when ones become zeros and each saves TYPICAL_SAVING, at
quality 0 and at 100.

The best on validation images, as is COST_POWER. At high qualities they come close to the 8.7 of a
lone error; at low ones most symbols are zeros, which err all in one direction, and the means of
later symbols see less.
"""
TYPICAL_SAVING = 3.0
COST_POWER = -0.4
"""Power of the saved bits: where ones are many, and save little, zeroing them costs more."""
LEAST_SAVING = 1e-3

Rounding = Callable[[Tensor, Tensor], Tensor]
"""Residuals y - mean, in quantiser steps, and their scale indexes, int64, to a fresh tensor of
symbols; all of one shape."""


def dead_zone_cost(quality: Tensor | float, saved: Tensor) -> Tensor:
    """Return the cost of a squared error of one step, in bits, where a move saves so many bits.

    It is geometric between those of quality 0 and 100.
    """
    low, high = DEAD_ZONE_COSTS
    typical = low * (high / low) ** (quality / MAX_QUALITY)
    return typical * (saved.clamp(min=LEAST_SAVING) / TYPICAL_SAVING) ** COST_POWER


def nearest(residual: Tensor, indexes: Tensor) -> Tensor:  # noqa: ARG001 - as in DeadZones
    """Round half to even."""
    return residual.round()


def dead_zone_edge(
    saved: Tensor, *, cost: Tensor | float, magnitude: Tensor | float = 1.0
) -> Tensor:
    """Return the |residual| below which a magnitude drops by one, from the bits that this saves."""
    return magnitude + (saved / cost - 1) / 2


class DeadZones:
    """Rate-distortion optimised rounding: a symbol moves one step to zero where that saves bits.

    The symbol s of magnitude |s| = round(|r|) moves if the bits saved exceed the distortion added:
    bits(|s|) - bits(|s| - 1) > cost * ((|r| - |s| + 1)**2 - (|r| - |s|)**2). That is an edge on |r|
    for every table and magnitude.
    """

    def __init__(
        self, tables: CodingTables, *, magnitudes: int, num_y_tables: int = NUM_SCALES
    ) -> None:
        """Look up the bits that a move saves.

        Args:
            tables: what symbols cost.
            magnitudes: only symbols up to this magnitude move.
            num_y_tables: the tables from index 0 that are those of y.
        """
        saved = np.zeros((num_y_tables, magnitudes + 2))
        for index in range(1, num_y_tables):
            costs = tables.magnitude_bits(index, magnitudes)
            saved[index, 1:-1] = np.diff(costs)
        self._saved = torch.from_numpy(saved)

    def at(self, cost: Tensor | float) -> Rounding:
        """Return the rounding for a cost, in bits for an error of one step, squared."""
        magnitude = torch.arange(self._saved.shape[1])
        edges = dead_zone_edge(self._saved, cost=cost, magnitude=magnitude).float()
        edges[:, 0] = edges[:, -1] = -1.0  # zeros, and whatever is larger, stay
        return partial(_round_by_edges, edges)

    def at_quality(self, quality: float, strength: float = 1.0) -> Rounding:
        """Return the rounding that is best for a quality, or for a multiple of its costs."""
        return self.at(strength * dead_zone_cost(quality, self._saved))


def _round_by_edges(edges: Tensor, residual: Tensor, indexes: Tensor) -> Tensor:
    last = edges.shape[1] - 1
    size = residual.abs()
    magnitude = size.round()
    bounded = magnitude.nan_to_num(nan=last).clamp(max=last)
    edge = edges.take(indexes * (last + 1) + bounded.long())
    return (magnitude - (size < edge).float()) * residual.sign()
