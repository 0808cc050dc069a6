"""What each residual branch does: one that is a straight line is work for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caecodec.nn.layers import Block, convolve

DEAD = 1e-4
"""Bend below which a branch is a straight line: a fortieth of a level, where features are on the
scale of x."""


class BranchReading(NamedTuple):
    """One branch on some images.

    Attributes:
        name: of its block, and mix or wide.
        output: standard deviation of what it adds to a channel, over all of them.
        bend: what is left of that when a line, the best for each hidden channel, is taken off the
            activation.
    """

    name: str
    output: float
    bend: float


@torch.no_grad()
def read_branches(model: nn.Module, x: Tensor, quality: Tensor) -> list[BranchReading]:
    """Return a reading of every branch of every block that runs.

    Args:
        model: called with the two below.
        x: (B, 3, H, W) in [0, 1].
        quality: (B,) in [0, 100].
    """
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, Block)}
    first = [layer for block in blocks.values() for layer in (block.mix_in, block.expand)]
    with _outputs([layer for layer in first if layer is not None]) as hidden:
        model(x, quality)
    readings = []
    for name, block in blocks.items():
        branches: dict[str, tuple[nn.Conv2d, ...]] = {
            "mix": (block.mix_in, block.mix_space, block.mix_out)
        }
        if block.expand is not None and block.contract is not None:
            branches["wide"] = (block.expand, block.contract)
        for kind, (entry, *rest) in branches.items():
            output, bend = _measure(block, hidden[entry], rest, quality)
            readings.append(BranchReading(f"{name}.{kind}", output, bend))
    return readings


@contextmanager
def _outputs(layers: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """Collect what layers return."""
    found: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    handles = [
        layer.register_forward_hook(lambda own, _, output: found[own].append(output.clone()))
        for layer in layers
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _measure(
    block: Block, hidden: list[Tensor], rest: Sequence[nn.Conv2d], quality: Tensor
) -> tuple[float, float]:
    """Return output and bend of a branch, from what its first layer returned."""
    before = torch.cat(hidden, -2)  # rows come in parts, calls one after the other
    after = block.activate(before.clone())
    centred = before - before.mean((0, 2, 3), keepdim=True)
    variance = centred.square().mean((0, 2, 3), keepdim=True).clamp(min=1e-12)
    slope = (centred * after).mean((0, 2, 3), keepdim=True) / variance
    return _spread(after, rest, quality), _spread(after - slope * before, rest, quality)


def _spread(h: Tensor, layers: Sequence[nn.Conv2d], quality: Tensor) -> float:
    """Return the standard deviation of a channel behind linear layers, over all of them."""
    for layer in layers:
        h = convolve(layer, h, quality)
    return h.sub_(h.mean((2, 3), keepdim=True)).square().mean().sqrt().item()
