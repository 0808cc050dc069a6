"""Rounds the weights of an exact layer so that what rounding does to its outputs cancels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caecodec.nn.exact_form import Array, Form

DAMPING = 1e-4
"""What is added to the mean square of each input, relative to that of all: without it, inputs that
always move together would ask for large weights of opposite signs."""


def round_weights(weight: Array, form: Form, moments: Array) -> NDArray[Any]:
    """Return float16 weights (out, in) to store for a 1x1 convolution without quality tables.

    One input after the other, the strongest first, its weights are rounded as readers round them,
    and the weights of the inputs that are left take over what that does to the outputs. Source:
    GPTQ (Frantar et al., ICLR 2023).

    Args:
        weight: (out, in), as trained.
        form: how finely the layer rounds.
        moments: (in, in), the inputs' second moments.
    """
    stored = np.empty(weight.shape, np.float16)
    step, unit = form.step.astype(np.float64), 2.0 ** form.shift.astype(np.int64)
    order = np.argsort(-np.diag(moments))
    carried = _carried(moments[np.ix_(order, order)])
    left = weight[:, order].copy()
    for place, channel in enumerate(order):
        steps = step[channel] * unit
        stored[:, channel] = np.rint(left[:, place] * steps) / steps
        error = left[:, place] - np.rint(stored[:, channel] * steps) / steps
        left[:, place + 1 :] -= np.outer(error, carried[place, place + 1 :])
    return stored


def _carried(moments: Array) -> Array:
    """Return what an error of an input's weight adds to the weights after it, (in, in)."""
    damping = DAMPING * max(np.diag(moments).mean(), 1e-12)
    factor = np.linalg.cholesky(np.linalg.inv(moments + damping * np.eye(len(moments)))).T
    return np.asarray(factor / np.diag(factor)[:, None])
