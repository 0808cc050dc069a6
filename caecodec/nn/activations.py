"""Activations of the main architecture, by the name that a configuration has for them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

UNITS = {"silu": 23943 / 1824, "hardswish": 1 / 6}
"""What `activate_exactly_` leaves to the layer that follows: its results are in these units."""


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply SiLU or its piecewise quadratic form, in place where no gradient is wanted.

    hardswish(x) = x clamp(x + 3, 0, 6) / 6 (Howard et al., ICCV 2019).
    """
    function = functional.hardswish if activation == "hardswish" else functional.silu
    return function(x, inplace=not torch.is_grad_enabled())


def scratch_for(x: Tensor) -> list[Tensor]:
    """Return what `activate_exactly_` needs for tensors of the shape of x, or with less rows."""
    return [torch.empty_like(x) for _ in range(3)]


def activate_exactly_(x: Tensor, activation: str, scratch: list[Tensor]) -> None:
    """Activate x in place, in `UNITS`, by one rounded operation of IEEE 754 after the other.

    SiLU becomes x (t (t^2 + 50) / ((t^2 + 269) t^2 + 2631) + 912 / 23943), t being x clamped to
    [-8, 8], which is within 0.0032 of it and equal to 0 and x beyond. FORMAT.md section 7.7.
    """
    if x.shape != scratch[0].shape:
        scratch = [own[..., : x.shape[-2], :] for own in scratch]
    t, square, above = scratch
    if activation == "hardswish":
        x.mul_(torch.add(x, _THREE, out=t).clamp_(0.0, 6.0))
        return
    torch.clamp(x, -8.0, 8.0, out=t)
    torch.mul(t, t, out=square)
    torch.add(square, _ABOVE, out=above).mul_(t)
    below = torch.add(square, _BELOW[0], out=t).mul_(square).add_(_BELOW[1])
    x.mul_(torch.addcdiv(_HALF, above, below, out=above))  # divides, then adds: two roundings


_THREE, _ABOVE, _HALF = torch.tensor(3.0), torch.tensor(50.0), torch.tensor(912 / 23943)
_BELOW = torch.tensor(269.0), torch.tensor(2631.0)  # tensors, as torch makes them of numbers slowly
