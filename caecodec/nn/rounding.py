"""From residuals to symbols: to the nearest, or nearer to zero where the rate says so.

At the quantiser step that is optimal for lambda, an error of one step costs 6 / ln 2 = 8.7 bits of
R + lambda D (`config.optimal_step`); the trained gains keep to this, at every quality and in every
channel, within a few tenths. So lambda cancels out, and one set of edges serves all qualities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from caecodec.config import NUM_SCALES
from caecodec.tables import CodingTables

DEAD_ZONE_COST = 22.0
"""Bits for a squared error of one step when ones become zeros; the best on validation images.

Above the 8.7 of a lone error: zeroed symbols err all in one direction, and the means of later
symbols see less.
"""

Rounding = Callable[[Tensor, Tensor], Tensor]
"""Residuals y - mean, in quantiser steps, and their scale indexes, int64, to a fresh tensor of
symbols; all of one shape."""


def nearest(residual: Tensor, indexes: Tensor) -> Tensor:  # noqa: ARG001 - as in DeadZones
    """Round half to even."""
    return residual.round()


def dead_zone_edge(
    saved: Tensor, *, magnitude: Tensor | float = 1.0, cost: float = DEAD_ZONE_COST
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
        self,
        tables: CodingTables,
        *,
        cost: float,
        magnitudes: int,
        num_y_tables: int = NUM_SCALES,
    ) -> None:
        """Compute the edges.

        Args:
            tables: what symbols cost.
            cost: bits for an error of one step, squared.
            magnitudes: only symbols up to this magnitude move.
            num_y_tables: the tables from index 0 that are those of y.
        """
        saved = np.zeros((num_y_tables, magnitudes + 2))
        for index in range(1, num_y_tables):
            costs = tables.magnitude_bits(index, magnitudes)
            saved[index, 1:-1] = np.diff(costs)
        magnitude = torch.arange(magnitudes + 2)
        edges = dead_zone_edge(torch.from_numpy(saved), magnitude=magnitude, cost=cost)
        edges[:, 0] = edges[:, -1] = -1.0  # zeros, and whatever is larger, stay
        self._edges = edges.float()

    def __call__(self, residual: Tensor, indexes: Tensor) -> Tensor:
        """Round residuals, nearer to zero where that saves bits; see `Rounding`."""
        last = self._edges.shape[1] - 1
        size = residual.abs()
        magnitude = size.round()
        bounded = magnitude.nan_to_num(nan=last).clamp(max=last)
        edge = self._edges.take(indexes * (last + 1) + bounded.long())
        return (magnitude - (size < edge).float()) * residual.sign()
