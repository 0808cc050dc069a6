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

_QUINTICS = (
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
)
"""Odd polynomials, each the nearest to 1 on the interval that the ones before leave of 0.003 to 1.

Source: the construction of Amsel et al., 2025, "The Polar Express".
"""
_SAFETY = 1.01
"""Keeps rounding in bfloat16 from lifting a singular value above 1."""
_GRADIENTS_PER_UPDATE = 3
"""Momentum turns so little with one gradient that the next update would be nearly the same."""


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum and orthogonalised updates, for dense kernels alone.

    Weights move in every third step, three times as far: orthogonalisation costs as much as a third
    of a step's gradients.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float = 0.95,
        half_precision: bool = True,
    ) -> None:
        """Take groups of parameters, `params`, each with its learning rate, `lr`."""
        super().__init__(groups, {"momentum": momentum})
        self._dtype = torch.bfloat16 if half_precision else torch.float32
        self._steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take in the gradients, and every third time move the parameters that have one."""
        del closure
        self._steps += 1
        is_due = self._steps % _GRADIENTS_PER_UPDATE == 0
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum(parameter, parameter.grad, group["momentum"]).flatten(1)
                if is_due:
                    shape = update.shape[0], update.shape[1]
                    by_shape.setdefault(shape, []).append((parameter, update))
            for (rows, columns), pairs in by_shape.items():
                stacked = torch.stack([update for _, update in pairs])
                orthogonal = orthogonalize(stacked, self._dtype)
                factor = max(1.0, rows / columns) ** 0.5
                for (parameter, _), update in zip(pairs, orthogonal, strict=True):
                    parameter.add_(
                        update.reshape(parameter.shape).to(parameter.dtype),
                        alpha=-_GRADIENTS_PER_UPDATE * group["lr"] * factor,
                    )

    def _momentum(self, parameter: nn.Parameter, gradient: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Push the singular values of matrices (K, rows, columns) towards 1 in four steps.

    Those above 0.003 of the Frobenius norm end between 0.8 and 1.2.
    """
    x = matrices.to(dtype)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.flatten(1).float().norm(dim=1)[:, None, None].to(dtype) * _SAFETY + 1e-12)
    for a, b, c in _QUINTICS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
