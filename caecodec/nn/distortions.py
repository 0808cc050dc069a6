"""What training counts as distortion, on the scale of an MSE on [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from caecodec.nn.butteraugli import NUM_LINES, butteraugli_norm
from caecodec.nn.ms_ssim import ms_ssim_loss
from caecodec.nn.ssimulacra2 import ssimulacra2_sum

Distortion = Callable[[Tensor, Tensor], Tensor]
"""x_hat and x, (B, C, H, W) in [0, 1], to what the loss counts, (B,), on the scale of an MSE."""

SUM_SCALE = 5.3e-5
"""MSE that counts as much as 1 of SSIMULACRA2's weighted sum: at every quality the two are about
equal."""
NORM_SCALE = 5e-5
"""MSE that counts as much as a norm of 1, squared: then it is one to six times SSIMULACRA2's."""
MS_SSIM_SCALE = 0.027
"""MSE that counts as much as 1 - MS-SSIM of 1: at every quality the two are about equal."""


class Shares(NamedTuple):
    """Of what a visual distortion is the mean; the squared error keeps colours in place."""

    squared_error: float
    ssimulacra2: float
    butteraugli: float
    ms_ssim: float = 0.0


IN_TRAINING = Shares(0.13, 0.62, 0.25)
IN_REFINEMENT = Shares(0.15, 0.54, 0.18, 0.13)
"""MS-SSIM, too: one image at a time, there is time for it."""
NORM_IMAGES = 3 / 8
"""Images of a batch whose norms stand for all, drawn anew for each: a norm takes long."""
NORM_SIDE = 144
"""Sides of the part of each of these images that is looked at, wherever it was drawn."""
NORM_LINES = 2
"""Directions in which these sum up errors, drawn for each batch."""


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return the mean squared error (B,)."""
    return (x_hat - x).square().mean((1, 2, 3))


def cross_entropy(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return half of the binary cross-entropy's excess over that of x itself (B,).

    Its gradient is that of the textbook's loss, and half the excess is the MSE at mid-gray, to
    second order: so lambda weighs both alike.
    """
    loss = functional.binary_cross_entropy(x_hat, x, reduction="none")
    least = functional.binary_cross_entropy(x, x, reduction="none")
    return 0.5 * (loss - least).mean((1, 2, 3))


def visual(x_hat: Tensor, x: Tensor, shares: Shares = IN_TRAINING) -> Tensor:
    """Return a mean of squared error, SSIMULACRA2, Butteraugli and MS-SSIM by their shares (B,)."""
    distortion = (
        shares.squared_error * squared_error(x_hat, x)
        + shares.ssimulacra2 * SUM_SCALE * ssimulacra2_sum(x, x_hat)
        + shares.butteraugli * NORM_SCALE * _squared_norm(x_hat, x)
    )
    if not shares.ms_ssim:
        return distortion
    return distortion + shares.ms_ssim * MS_SSIM_SCALE * ms_ssim_loss(x, x_hat)


def refined_visual(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return the visual distortion that refinement of one image follows (B,)."""
    return visual(x_hat, x, IN_REFINEMENT)


def _squared_norm(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return Butteraugli's norm, squared (B,): of a batch, that of parts of some for all."""
    if len(x) == 1:
        return butteraugli_norm(x, x_hat).square()
    count = round(NORM_IMAGES * len(x)) or 1
    chosen = torch.randperm(len(x))[:count]
    lines = torch.randperm(NUM_LINES)[:NORM_LINES].tolist()
    part = _any_part(x.shape[-2]), _any_part(x.shape[-1])
    norms = x_hat.new_zeros(len(x))
    own = butteraugli_norm(x[chosen][..., *part], x_hat[chosen][..., *part], lines)
    norms[chosen] = own.square() * len(x) / count
    return norms


def _any_part(side: int) -> slice:
    start = int(torch.randint(max(0, side - NORM_SIDE) + 1, ()))
    return slice(start, start + NORM_SIDE)


DISTORTIONS: dict[str, Distortion] = {"mse": squared_error, "visual": visual}
"""What models of the main architecture are trained for, by the name that their weights carry."""
REFINED_BY: dict[str, Distortion] = {"mse": squared_error, "visual": refined_visual}
"""What the encoder refines an image's symbols for, by the same name."""
