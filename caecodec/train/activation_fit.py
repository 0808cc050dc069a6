"""Hardswish in the place of SiLU, in a model that was trained with SiLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from caecodec.config import MAX_QUALITY
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.folding import test_card
from caecodec.nn.layers import Block, QualityConv2d, bias_of

CONTRASTS = (1.0, 0.5, 0.25)
BLURS = (1, 2, 4)
"""Contrasts of the test card, and pixels that are averaged: together about as photographs are."""
NUM_SEEN = 16
"""Values of each channel that are looked at, of each card and quality."""
SCALES = (0.6, 0.75, 0.9, 1.0, 1.15, 1.3, 1.5, 1.7)
SHIFTS = (-0.6, -0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4, 0.6)


class Fit(NamedTuple):
    """SiLU(x) is about gain hardswish(scale x + shift), by channel (C,)."""

    scale: Tensor
    shift: Tensor
    gain: Tensor


@torch.no_grad()
def fit_hardswish_(model: MainAutoencoder) -> None:
    """Let hardswish do what SiLU does on the values that test cards give rise to, in place."""
    blocks = [
        block
        for block in model.modules()
        if isinstance(block, Block) and block.activation == "hardswish"
    ]
    layers: dict[nn.Module, list[Tensor]] = {
        layer: [] for block in blocks for layer, _ in _activated(block)
    }
    handles = [
        layer.register_forward_hook(lambda own, _, found: layers[own].append(_some(found)))
        for layer in layers
    ]
    try:
        _run(model, blocks)
    finally:
        for handle in handles:
            handle.remove()
    for block in blocks:
        for layer, after in _activated(block):
            _put(fit(torch.cat(layers[layer], 1)), layer, after)


def fit(values: Tensor) -> Fit:
    """Return the fit with the least squared error for values (C, n)."""
    wanted = functional.silu(values)
    least = torch.full_like(values[:, 0], torch.inf)
    found = torch.ones(len(values), 3)
    for scale in SCALES:
        for shift in SHIFTS:
            given = functional.hardswish(scale * values + shift)
            gain = (given * wanted).sum(1) / given.square().sum(1).clamp(min=1e-12)
            gain = gain.clamp(0.2, 5.0)
            error = (gain[:, None] * given - wanted).square().mean(1)
            own = torch.stack((torch.full_like(gain, scale), torch.full_like(gain, shift), gain), 1)
            found = torch.where((error < least)[:, None], own, found)
            least = torch.minimum(least, error)
    return Fit(*found.T)


def _activated(block: Block) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
    """Yield the layers of a block before and after each activation."""
    yield block.mix_in, block.mix_space
    if block.expand is not None and block.contract is not None:
        yield block.expand, block.contract


def _run(model: MainAutoencoder, blocks: list[Block]) -> None:
    """Code the test cards at all qualities, with SiLU."""
    card = test_card()
    for block in blocks:
        block.activation = "silu"
    for contrast in CONTRASTS:
        for blur in BLURS:
            soft = functional.interpolate(
                functional.avg_pool2d(card, blur), scale_factor=blur, mode="bilinear"
            )
            for quality in torch.linspace(0, MAX_QUALITY, model.config.quality_anchors):
                model(0.5 + contrast * (soft - 0.5), quality[None])
    for block in blocks:
        block.activation = "hardswish"


def _some(found: Tensor) -> Tensor:
    """(1, C, h, w) -> (C, n)."""
    values = found[0].flatten(1)
    return values[:, :: max(1, values.shape[1] // NUM_SEEN)].clone()  # it is activated in place


def _put(fitted: Fit, before: nn.Conv2d, after: nn.Conv2d) -> None:
    """Give a fit to the layers around an activation."""
    scale, shift, gain = fitted
    if isinstance(before, QualityConv2d):
        before.gain.values.add_(scale.log())
        before.shift.values.mul_(scale).add_(shift)
    else:
        before.weight.mul_(scale[:, None, None, None])
        bias_of(before).mul_(scale).add_(shift)
    after.weight.mul_(gain[:, None, None, None] if after.groups > 1 else gain[:, None, None])
