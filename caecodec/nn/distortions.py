"""What training counts as distortion, on the scale of an MSE on [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from caecodec.nn.ssimulacra2 import ssimulacra2_sum

Distortion = Callable[[Tensor, Tensor], Tensor]
"""x_hat and x, (B, C, H, W) in [0, 1], to what the loss counts, (B,), on the scale of an MSE."""

MSE_SHARE = 0.11
"""Share of the squared error in the visual distortion: it keeps colours and flat areas in place."""
SUM_SCALE = 5.3e-5
"""MSE that counts as much as 1 of SSIMULACRA2's weighted sum: at every quality the two are about
equal."""


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


def visual(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return a mean of the squared error and of SSIMULACRA2's weighted sum of errors (B,)."""
    seen = SUM_SCALE * ssimulacra2_sum(x, x_hat)
    return MSE_SHARE * squared_error(x_hat, x) + (1 - MSE_SHARE) * seen


DISTORTIONS: dict[str, Distortion] = {"mse": squared_error, "visual": visual}
"""What models of the main architecture are trained for, by the name that their weights carry."""
