"""Muon: momentum whose matrix updates are orthogonalised.

Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks". torch's own
`torch.optim.Muon` takes two-dimensional parameters alone and one matrix at a time; here kernels of
convolutions are seen as (out, in * kh * kw), and those of equal shape are orthogonalised together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum and orthogonalised updates, for dense kernels alone."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        momentum: float = 0.95,
        half_precision: bool = True,
    ) -> None:
        super().__init__(list(parameters), {"lr": learning_rate, "momentum": momentum})
        self._dtype = torch.bfloat16 if half_precision else torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        del closure
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum(parameter, parameter.grad, group["momentum"]).flatten(1)
                by_shape.setdefault((update.shape[0], update.shape[1]), []).append(
                    (parameter, update)
                )
            for (rows, columns), pairs in by_shape.items():
                stacked = torch.stack([update for _, update in pairs])
                orthogonal = orthogonalize(stacked, self._dtype)
                factor = max(1.0, rows / columns) ** 0.5
                for (parameter, _), update in zip(pairs, orthogonal, strict=True):
                    parameter.add_(
                        update.reshape(parameter.shape).to(parameter.dtype),
                        alpha=-group["lr"] * factor,
                    )

    def _momentum(self, parameter: nn.Parameter, gradient: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Push the singular values of matrices (K, rows, columns) towards 1 by Newton-Schulz steps."""
    a, b, c = _COEFFICIENTS
    x = matrices.to(dtype)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.flatten(1).float().norm(dim=1)[:, None, None].to(dtype) + 1e-12)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if wide else x.mT
