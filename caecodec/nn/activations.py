"""Activations of the main architecture, by the name that a configuration has for them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EXACT = "exact "
"""Before the name of an activation: its form that is the same on every machine."""
_AT_ONCE = 65536
"""Values that an exact activation holds at a time, so that they stay in cache."""
_SILU_END = 9.0
_SILU_ABOVE = (0.2479399, 0.00450044)
_SILU_BELOW = (0.09831552, 0.00031413)


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply SiLU or its piecewise quadratic form, in place where no gradient is wanted.

    hardswish(x) = x clamp(x + 3, 0, 6) / 6 (Howard et al., ICCV 2019).
    """
    if activation.startswith(EXACT):
        activation = activation.removeprefix(EXACT)
        if not torch.is_grad_enabled():
            return _in_parts(x, activation)
    function = functional.hardswish if activation == "hardswish" else functional.silu
    return function(x, inplace=not torch.is_grad_enabled())


def _in_parts(x: Tensor, activation: str) -> Tensor:
    """Apply an exact activation in place: one rounded operation at a time."""
    apply = _hardswish_ if activation == "hardswish" else _silu_
    height = max(1, _AT_ONCE // (x.shape[1] * x.shape[-1]))
    for rows in torch.split(x, height, dim=-2):
        apply(rows)
    return x


def _silu_(x: Tensor) -> None:
    """Replace x by x (1/2 + t p(t^2) / q(t^2)), t being x clamped: within 0.0016 of SiLU.

    FORMAT.md section 7.7.
    """
    t = x.clamp(-_SILU_END, _SILU_END)
    square = t * t
    above = (square * _SILU_ABOVE[1]).add_(_SILU_ABOVE[0]).mul_(t)
    below = (square * _SILU_BELOW[1]).add_(_SILU_BELOW[0]).mul_(square).add_(1.0)
    x.mul_(above.div_(below).add_(0.5))


def _hardswish_(x: Tensor) -> None:
    x.mul_((x + 3.0).clamp_(0.0, 6.0).div_(6.0))
