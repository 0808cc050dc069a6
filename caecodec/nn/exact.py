"""The scale head in fixed point: the one network whose output decides bits.

Every value is an integer carried in float64, where sums below 2**53 are exact in any order, on any
backend; int64 gives the same. FORMAT.md section 7; Balle et al., "Integer networks for data
compression with latent-variable models" (ICLR 2019), for the need.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional

from caecodec.config import NUM_SCALES
from caecodec.format.constants import QUALITY_UNIT
from caecodec.nn.entropy_models import HEAD_UNIT, ScaleHead
from caecodec.nn.layers import bias_of

ACTIVATION_BITS = 8
"""Fractional bits of z and of every hidden activation."""
INDEX_BITS = 8
"""Fractional bits of a scale index before the last rounding."""
OUTPUT_BITS = INDEX_BITS + int(math.log2(HEAD_UNIT))
"""Fractional bits of the last layer, whose unit is HEAD_UNIT scale indexes."""
MAX_ACTIVATION = 2**15 - 1
MAX_WEIGHT = 2**15 - 1
MAX_SHIFT = 20
LEAK_SHIFT = 3


@dataclasses.dataclass(frozen=True)
class IntegerLayer:
    """One convolution: floor((W a + b + 2**(shift - 1)) / 2**shift), clamped to 16 bits.

    Attributes:
        weight: int64 (out, in, k, k), k 1 or 3, within 16 bits.
        bias: int64 (out,), within 2**40, on the scale of the accumulator.
        shift: bits dropped from the accumulator, 1 or more.
    """

    weight: Tensor
    bias: Tensor
    shift: int


class IntegerScaleHead:
    """Scale indexes of y from z symbols, the same on every machine."""

    def __init__(
        self, layers: list[IntegerLayer], offsets: Tensor, *, dtype: torch.dtype = torch.float64
    ) -> None:
        """Hold the layers and the offsets int64 (anchors, M); compute in `dtype`."""
        self.layers = layers
        self.offsets = offsets
        self._dtype = dtype
        self._weights = [_flatten(layer.weight).to(dtype) for layer in layers]
        self._biases = [
            (layer.bias + 2 ** (layer.shift - 1)).to(dtype)[:, None] for layer in layers
        ]

    def __call__(self, z: Tensor, quality_units: int) -> Tensor:
        """Map z symbols int (N, h, w) to scale indexes int64 (M, 4h, 4w) in [0, NUM_SCALES)."""
        a = z.to(self._dtype).clamp(-127, 127) * 2**ACTIVATION_BITS
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            a = self._convolve(a, number)
            a = _shift_(a, layer.shift).clamp_min_(-MAX_ACTIVATION).clamp_max_(MAX_ACTIVATION)
            if number % 2:
                a = functional.pixel_shuffle(a, 2)
            if number < last:
                a = torch.maximum(a, _shift_(a.clone(), LEAK_SHIFT))
        offset = interpolate_offsets(self.offsets, quality_units).to(self._dtype)
        indexes = _shift_(a.add_(offset[:, None, None] + 2 ** (INDEX_BITS - 1)), INDEX_BITS)
        return indexes.clamp_min_(0).clamp_max_(NUM_SCALES - 1).to(torch.int64)

    def _convolve(self, a: Tensor, number: int) -> Tensor:
        _, height, width = a.shape
        kernel = self.layers[number].weight.shape[-1]
        patches = a.reshape(len(a), -1) if kernel == 1 else _patches(a)
        product = (self._weights[number] @ patches).add_(self._biases[number])
        return product.reshape(-1, height, width)


def interpolate_offsets(offsets: Tensor, quality_units: int) -> Tensor:
    """Return the offsets (M,) of a quality, linear between the rows of int64 (anchors, M)."""
    span = 100 * QUALITY_UNIT
    steps = len(offsets) - 1
    low = min(quality_units * steps // span, steps - 1)
    weight = quality_units * steps - low * span
    mixed = offsets[low] * (span - weight) + offsets[low + 1] * weight
    offset: Tensor = torch.div(mixed, span, rounding_mode="floor")
    return offset


def export_scale_head(head: ScaleHead) -> IntegerScaleHead:
    """Round a trained scale head to fixed point."""
    layers = []
    count = len(head.layers)
    for number, convolution in enumerate(head.layers):
        weight = convolution.weight.detach().double()
        bias = bias_of(convolution).detach().double()
        bits = math.floor(math.log2(MAX_WEIGHT / max(weight.abs().max().item(), 1e-6)))
        out_bits = OUTPUT_BITS if number == count - 1 else ACTIVATION_BITS
        bits = max(min(bits, MAX_SHIFT), out_bits - ACTIVATION_BITS + 1)
        layers.append(
            IntegerLayer(
                (weight * 2**bits).round().clamp(-MAX_WEIGHT, MAX_WEIGHT).long(),
                (bias * 2 ** (bits + ACTIVATION_BITS)).round().long(),
                bits + ACTIVATION_BITS - out_bits,
            )
        )
    offsets = (head.offset.values.detach().double() * 2**OUTPUT_BITS).round().long()
    return IntegerScaleHead(layers, offsets)


def thaw_scale_head(integer: IntegerScaleHead, head: ScaleHead) -> None:
    """Put a fixed-point scale head back into a float one, in place: the inverse of its export."""
    count = len(integer.layers)
    with torch.no_grad():
        for number, (layer, convolution) in enumerate(
            zip(integer.layers, head.layers, strict=True)
        ):
            out_bits = OUTPUT_BITS if number == count - 1 else ACTIVATION_BITS
            bits = layer.shift + out_bits - ACTIVATION_BITS
            convolution.weight.copy_(layer.weight.double() * 2.0**-bits)
            bias_of(convolution).copy_(layer.bias.double() * 2.0 ** -(bits + ACTIVATION_BITS))
        head.offset.values.copy_(integer.offsets.double() * 2.0**-OUTPUT_BITS)


def _shift_(a: Tensor, bits: int) -> Tensor:
    """Return floor(a / 2**bits), an arithmetic shift, in place."""
    if a.dtype == torch.int64:
        return a.bitwise_right_shift_(bits)
    return a.mul_(2.0**-bits).floor_()


def _flatten(weight: Tensor) -> Tensor:
    """(out, in, k, k) -> (out, k * k * in), the order of `_patches`."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _patches(a: Tensor) -> Tensor:
    """Gather zero-padded 3x3 neighbourhoods: (C, h, w) -> (9 C, h w), by dy, dx, channel."""
    _, height, width = a.shape
    padded = functional.pad(a, (1, 1, 1, 1))
    views = [padded[:, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return torch.cat(views).reshape(-1, height * width)
