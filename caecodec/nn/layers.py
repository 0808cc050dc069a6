"""The few building blocks: convolution in float32, residual block, quality table, bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from caecodec.config import MAX_QUALITY
from caecodec.nn.activations import activate

POSITIONS_AT_ONCE = 4096
"""Positions of a block's wide layer that inference holds at a time, so that they stay in cache."""


class Conv2d(nn.Conv2d):
    """A convolution that keeps oneDNN's kernels with one thread, where no gradient is wanted.

    With one thread and few images torch sends 1x1 convolutions to a kernel of its own, which takes
    twice as long or more.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size == (1, 1) and not torch.is_grad_enabled() and _leaves_onednn(x):
            return torch.mkldnn_convolution(
                x, weight, bias, (0, 0), self.stride, self.dilation, self.groups
            )
        return super()._conv_forward(x, weight, bias)


class Fp32Conv2d(Conv2d):
    """A convolution that ignores autocast, but for its gradients.

    The linear path from pixels to latents and back carries values whose eighth bit is visible, so
    it stays in float32 while the residual branches may run in bfloat16. Gradients need no more than
    bfloat16 has, and are computed in it on CPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve in float32: (B, in, h, w) -> (B, out, h', w')."""
        device = x.device.type
        is_training = torch.is_grad_enabled() and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False):
            if is_training and device == "cpu":
                return _convolve_mixed(x.float(), self)
            return super().forward(x.float())


class _MixedConvolution(torch.autograd.Function):
    """A convolution in float32 whose gradients are computed in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: Fp32Conv2d) -> Tensor:
        ctx.save_for_backward(x.bfloat16(), weight)
        ctx.layer = layer
        return layer._conv_forward(x, weight, bias)  # noqa: SLF001 - no gradient is wanted here

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layer: Fp32Conv2d = ctx.layer
        own = torch.ops.aten.convolution_backward(
            grads[0].bfloat16(),
            x,
            weight.bfloat16(),
            [layer.out_channels],
            layer.stride,
            layer.padding,
            layer.dilation,
            False,  # noqa: FBT003 - positional alone
            [0, 0],
            layer.groups,
            ctx.needs_input_grad[:3],
        )
        return *(None if grad is None else grad.float() for grad in own), None


def _convolve_mixed(x: Tensor, layer: Fp32Conv2d) -> Tensor:
    output: Tensor = _MixedConvolution.apply(  # type: ignore[no-untyped-call]
        x, layer.weight, layer.bias, layer
    )
    return output


class QualityTable(nn.Module):
    """Per-channel values at equally spaced qualities, linear between them.

    Source: the gain units of Cui et al. (CVPR 2021) and EVC (ICLR 2023).
    """

    def __init__(self, anchors: int, channels: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, quality: Tensor) -> Tensor:
        """Interpolate: quality (B,) in [0, 100] -> (B, C, 1, 1)."""
        last = self.values.shape[0] - 1
        position = quality * (last / MAX_QUALITY)
        low = position.floor().clamp(0, last - 1)
        fraction = (position - low)[:, None]
        index = low.long()
        values: Tensor = torch.lerp(self.values[index], self.values[index + 1], fraction)
        return values[:, :, None, None]

    def factors(self, quality: Tensor) -> Tensor:
        """Return e to the power of the values, (B, C, 1, 1)."""
        return self(quality).exp()


class QualityConv2d(Conv2d):
    """A 1x1 convolution whose outputs are scaled and shifted by quality, channel by channel.

    It starts without effect. For one quality the tables become part of the kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, anchors: int) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.gain = QualityTable(anchors, out_channels)
        self.shift = QualityTable(anchors, out_channels)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve: (B, in, h, w), quality (B,) in [0, 100] -> (B, out, h, w)."""
        gain, shift = self.gain.factors(quality), self.shift(quality)
        if torch.is_grad_enabled() or len(quality) > 1:
            h = super().forward(x)
            return h * gain.to(h.dtype) + shift.to(h.dtype)
        bias = bias_of(self) * gain.flatten() + shift.flatten()
        return self._conv_forward(x, self.weight * gain[0, ..., None], bias)


class SpaceConv2d(nn.Conv2d):
    """A 3x3 convolution of each channel by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, padding: tuple[int, int] = (1, 1)) -> Tensor:
        """Convolve: (B, C, h, w) -> (B, C, h', w'), with zeros around it as `padding` says."""
        return functional.conv2d(x, self.weight, self.bias, padding=padding, groups=self.groups)


class Slab(NamedTuple):
    """The next positions (1, C, h, w) of a feature map along one dimension; the rest is whole."""

    features: Tensor
    is_last: bool


class Block(nn.Module):
    """Residual block of 1x1 and depthwise 3x3 convolutions, no normalisation.

        x ─┬─ 1x1 ─ act ─ dw3x3 ─ 1x1 ─(+)─┬─ 1x1 (2C) ─ act ─ 1x1 ─(+)─
           └───────────────────────────┘   └──────────────────────┘

    The last 1x1 of each branch starts at zero, so the block starts as the identity. Not every block
    has the second, wide branch; `folding` makes straight ones part of other layers. With tables,
    both 1x1 of the first branch go by quality.
    Source: the depthwise block of DCVC-RT (Jia et al., CVPR 2025), with expansion 2.
    """

    def __init__(
        self, channels: int, *, wide: bool = True, activation: str = "silu", anchors: int = 0
    ) -> None:
        """Take the width, which branches there are, and the rows of the tables, 0 for none."""
        super().__init__()
        self.activation = activation
        self.is_exact = False
        self.mix_in = _pointwise(channels, anchors)
        self.mix_space = SpaceConv2d(channels)
        self.mix_out = _pointwise(channels, anchors)
        zero_(self.mix_out)
        self.expand = self.contract = None
        if wide:
            self.expand = Conv2d(channels, 2 * channels, 1)
            self.contract = Conv2d(2 * channels, channels, 1)
            zero_(self.contract)

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return a tensor of the shape of x, (B, C, h, w); quality (B,) serves the tables alone."""
        h = self.mix_space(self.activate(convolve(self.mix_in, x, quality)))
        x = _add(convolve(self.mix_out, h, quality), x)
        if not torch.is_grad_enabled():
            return self.widen_(x)
        return x if self.expand is None else x + self.wide(x)

    def activate(self, x: Tensor) -> Tensor:
        """Apply the activation, in place without gradients; in exact models the next layer does."""
        if self.is_exact and not torch.is_grad_enabled():
            return x
        return activate(x, self.activation)

    def wide(self, x: Tensor) -> Tensor:
        """Return what the second branch adds to x."""
        if self.expand is None or self.contract is None:
            return torch.zeros_like(x)
        branch: Tensor = self.contract(self.activate(self.expand(x)))
        return branch

    def widen_(self, x: Tensor) -> Tensor:
        """Add the second branch, in place, a few rows at a time."""
        if self.expand is None:
            return x
        height = max(1, POSITIONS_AT_ONCE // x.shape[-1])
        for rows in torch.split(x, height, dim=-2):
            rows += self.wide(rows)  # noqa: PLW2901 - in place
        return x

    def drop_wide(self) -> None:
        """Leave the second branch out from now on."""
        self.expand = self.contract = None


class BlockStream:
    """What a block makes of a feature map, slab by slab along one dimension, without gradients.

    The convolution in space waits for the position after it, so each slab ends one position before
    the one it is made of, but for the last one. The first must have two positions or be the last.
    """

    def __init__(self, block: Block, dim: int, quality: Tensor) -> None:
        """Start before the first slab of rows, `dim` -2, or of columns, -1."""
        self._block = block
        self._quality = quality
        self._dim = dim
        self._before: Tensor | None = None  # the last two inputs of the convolution in space
        self._kept: Tensor | None = None  # the last input, whose output is due

    def __call__(self, slab: Slab) -> Slab:
        """Return the next slab."""
        block, dim, (x, is_last) = self._block, self._dim, slab
        if is_last and self._kept is None:
            return Slab(block(x, self._quality), is_last)
        h = convolve(block.mix_in, x, self._quality)
        edge = torch.zeros_like(h.narrow(dim, 0, 1))  # as the convolution pads
        before = edge if self._before is None else self._before
        h = torch.cat((before, h, edge) if is_last else (before, h), dim)
        self._before = h.narrow(dim, -2, 2).clone()
        h = convolve(block.mix_out, self._mix_space(block.activate(h)), self._quality)
        start = 0
        if self._kept is not None:
            h.narrow(dim, 0, 1).add_(self._kept)
            start = 1
        self._kept = x.narrow(dim, -1, 1).clone()
        length = h.shape[dim] - start
        h.narrow(dim, start, length).add_(x.narrow(dim, 0, length))
        return Slab(block.widen_(h), is_last)

    def _mix_space(self, h: Tensor) -> Tensor:
        """Convolve in space without the padding along the dimension of the slabs."""
        found: Tensor = self._block.mix_space(h, (0, 1) if self._dim == -2 else (1, 0))
        return found


class Blocks(nn.Sequential):
    """Blocks of equal width in a row."""

    def __init__(self, channels: int, count: int, *, wide: int, **options: Any) -> None:
        """Take the width, how many blocks, how many of them wide, from the first, and `Block`'s."""
        super().__init__(
            *(Block(channels, wide=number < wide, **options) for number in range(count))
        )

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return a tensor of the shape of x, (B, C, h, w)."""
        for block in self:
            x = block(x, quality)
        return x

    def stream(self, slabs: Iterable[Slab], dim: int, quality: Tensor) -> Iterable[Slab]:
        """Run slabs through the blocks; `map` lets each go as soon as the next block has it."""
        for block in self:
            slabs = map(BlockStream(cast("Block", block), dim, quality), slabs)
        return slabs


def convolve(layer: nn.Module, x: Tensor, quality: Tensor | None) -> Tensor:
    """Apply a convolution, by quality (B,) if it has tables; what stands for one may have some."""
    if isinstance(layer, QualityConv2d) or not isinstance(layer, nn.Conv2d):
        return cast("Tensor", layer(x, quality))
    return cast("Tensor", layer(x))


def _pointwise(channels: int, anchors: int) -> Conv2d:
    return QualityConv2d(channels, channels, anchors) if anchors else Conv2d(channels, channels, 1)


def _leaves_onednn(x: Tensor) -> bool:
    """Return whether torch would convolve x by a kernel that is not oneDNN's, which could."""
    return (
        torch.get_num_threads() == 1
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def _add(branch: Tensor, x: Tensor) -> Tensor:
    """Return x + branch, in place of the branch where no gradient is wanted."""
    if torch.is_grad_enabled() or branch.dtype != x.dtype:
        return x + branch
    return branch.add_(x)


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x >= bound)
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        (grad,) = grads
        return grad * (inside | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """Return max(x, bound) whose gradient still passes where it would push x back up.

    Source: CompressAI and TensorFlow Compression `LowerBound`.
    """
    bounded: Tensor = _LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded


def round_straight_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient is that of the identity."""
    return x + (x.round() - x).detach()


def bias_of(convolution: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """Return the bias, which every convolution of this package has."""
    if convolution.bias is None:
        raise TypeError("a convolution without bias, expected one")
    return convolution.bias


def zero_(convolution: nn.Conv2d) -> None:
    """Set weight and bias to zero, in place."""
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(bias_of(convolution))


def keep_variance_(convolution: nn.Conv2d) -> None:
    """Start so that a rectified input keeps its variance, in place (He et al., ICCV 2015)."""
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(bias_of(convolution))
