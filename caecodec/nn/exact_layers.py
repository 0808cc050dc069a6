"""Layers whose results are the same on every machine, for the networks that make pixels and means.

A convolution rounds what it is given, and its weights, to integers of 16 bits. The sums of their
products have 32, of which float32 keeps 24. In most layers no sum can reach 2**24: float32 holds
them exactly, in any order, in any library, with or without fused multiplication. In the others
hardly any does, and those float64 computes. All else is done element by element, one rounded
operation of IEEE 754 at a time, and so is the same everywhere, too. FORMAT.md section 7.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from caecodec.errors import ModelError
from caecodec.format.constants import QUALITY_UNIT
from caecodec.nn.activations import UNITS, activate_exactly_, scratch_for
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.exact_form import (
    FLOAT_BOUND,
    GIVEN_STEPS,
    MAX_LEVELS,
    MAX_SHIFT,
    SUM_BOUND,
    WEIGHT_BOUND,
    Array,
    Form,
    exponential,
    in_steps,
    interpolate,
    largest_sums,
    norms,
    out_step,
    table_values,
    weight_and_bias,
)
from caecodec.nn.layers import Block, Conv2d, QualityConv2d, QualityTable, SpaceConv2d, convolve

PREFIX = "exact."
"""What the names of the tensors that only exact models have start with."""
ACTIVATED = ("mix_space", "contract")
"""The layers of a block that take activations."""
IN_PLACE = (*ACTIVATED, GIVEN_STEPS)
"""The layers of a block whose inputs nothing else needs."""
VALUES_AT_ONCE = 2**18
"""Inputs that are activated and rounded at a time, so that they stay in cache."""
CAUTION = 1 - 2.0**-10
"""Share of what `Kernel.reach` could be, as norms are rounded."""

Tensors = TypeVar("Tensors")


class Kernel(NamedTuple):
    """What a layer multiplies by at one quality.

    Attributes:
        weight: (out, in, k, k), multiples of each output's unit.
        bias: (out,), the same.
        reach: None if float32 holds all sums; else the Euclidean norm of the rounded inputs at a
            position below which it does.
    """

    weight: Tensor
    bias: Tensor
    reach: float | None


class ExactConv2d(nn.Module):
    """A convolution of rounded inputs and weights: each sum is exact, and rounded once to float32.

    Where gradients are wanted it is the convolution that it stands for.
    """

    def __init__(
        self, layer: nn.Conv2d, form: Form, *, name: str, activation: str, out_step: Array
    ) -> None:
        """Stand for a layer.

        Args:
            layer: as trained.
            form: how finely it rounds.
            name: of the layer in the model.
            activation: of its block.
            out_step: (out,) or 1, what a unit of each output is worth.

        Raises:
            ModelError: the form is of another shape, or a value is out of range.
        """
        super().__init__()
        shapes = [(layer.in_channels,), (1,), (layer.out_channels,)]
        if [values.shape for values in form] != shapes:
            raise ModelError(f"the exact form of layer {name} has the wrong shape")
        is_inside = 0 < form.levels[0] <= MAX_LEVELS and form.shift.min() >= 0
        if not is_inside or form.shift.max() > MAX_SHIFT or not form.step.min() > 0:
            raise ModelError(f"the exact form of layer {name} is beyond its range")
        self.layer, self.name = layer, name
        self.levels = int(form.levels[0])
        self._activation = activation if name.endswith(ACTIVATED) else None
        self._in_place = name.endswith(IN_PLACE)
        self._step, self._out_step = form.step.astype(np.float64), out_step
        self._shift = form.shift.astype(np.int64)
        unit = UNITS[activation] if self._activation else 1.0
        self._scale: Tensor | None = None
        if not name.endswith(GIVEN_STEPS):
            scale = (unit / self._step).astype(np.float32)
            self._scale = torch.from_numpy(scale)[:, None, None]
        self._made: tuple[int, Kernel] | None = None

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Convolve: (1, in, h, w), quality (1,) if it has tables -> (1, out, h', w')."""
        if torch.is_grad_enabled():
            return convolve(self.layer, x, quality)
        kernel, rounded = self._kernel(quality), self._received(x)
        y = self._convolve(rounded, kernel.weight, kernel.bias)
        return _mend_(y, rounded, kernel)

    def _received(self, x: Tensor) -> Tensor:
        """Return inputs rounded to whole steps, in place where nobody else needs them."""
        out = x if self._in_place else torch.empty_like(x)
        height = max(1, VALUES_AT_ONCE // (x.shape[1] * x.shape[-1]))
        parts = torch.split(x, height, -2)
        made = parts if self._in_place else torch.split(out, height, -2)
        scratch = scratch_for(parts[0]) if self._activation else []
        for rows, own in zip(parts, made, strict=True):
            if self._activation:
                activate_exactly_(rows, self._activation, scratch)
            if self._scale is not None:
                torch.mul(rows, self._scale, out=own)
            own.round_().clamp_(-self.levels, self.levels)
        return out

    def _convolve(self, rounded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.layer._conv_forward(rounded, weight, bias)  # noqa: SLF001 - as it convolves

    def _kernel(self, quality: Tensor | None) -> Kernel:
        """Return what it multiplies by, at the last quality asked for."""
        units = 0
        if quality is not None and isinstance(self.layer, QualityConv2d):
            units = _units(quality)
        if self._made is None or self._made[0] != units:
            self._made = units, self._rounded(units)
        return self._made[1]

    def _rounded(self, units: int) -> Kernel:
        """Return the kernel at a quality in hundredths.

        Raises:
            ModelError: a sum might reach the bound.
        """
        weight, bias = weight_and_bias(self.layer, units)
        weight, bias = in_steps(weight, bias, self._step, self._out_step)
        unit = 2.0**self._shift
        weight, bias = np.rint(weight * unit[:, None, None, None]), np.rint(bias * unit)
        reached = largest_sums(weight, bias, self.levels).max()
        for what, value, bound in (
            ("sums", reached, SUM_BOUND if self.layer.groups == 1 else FLOAT_BOUND),
            ("weights", np.abs(weight).max(), WEIGHT_BOUND),
            ("biases", np.abs(bias).max(), FLOAT_BOUND),
        ):
            if value >= bound:
                raise ModelError(
                    f"layer {self.name} has {what} of up to {value:.0f}, expected less than {bound}"
                )
        reach = None
        if reached >= FLOAT_BOUND:
            largest = np.maximum(norms(weight), 1)
            reach = CAUTION * float(((FLOAT_BOUND - np.abs(bias)) / largest).min())
        weight, bias = weight / unit[:, None, None, None], bias / unit
        return Kernel(
            torch.from_numpy(weight.astype(np.float32)).contiguous(
                memory_format=torch.channels_last
            ),
            torch.from_numpy(bias.astype(np.float32)),
            reach,
        )


class ExactSpaceConv2d(ExactConv2d):
    """The same of a block's convolution in space.

    Its weight is not contiguous: where weight and features are, torch may use Winograd's algorithm
    on other processors than x86, whose sums are not these.
    """

    def forward(self, x: Tensor, padding: tuple[int, int] = (1, 1)) -> Tensor:  # type: ignore[override]
        """Convolve: (1, C, h, w) -> (1, C, h', w'), with zeros around it as `padding` says."""
        if torch.is_grad_enabled():
            return convolve(self.layer, x, None)
        weight, bias, _ = self._kernel(None)
        return functional.conv2d(
            self._received(x), weight, bias, padding=padding, groups=self.layer.groups
        )

    def _rounded(self, units: int) -> Kernel:
        kernel = super()._rounded(units)
        return kernel._replace(weight=functional.pad(kernel.weight, (0, 1))[..., :-1])


class ExactTable(nn.Module):
    """The factors of a quality table, e to the power of its values, the same on every machine."""

    def __init__(self, table: QualityTable) -> None:
        """Stand for a table."""
        super().__init__()
        self.table = table

    def factors(self, quality: Tensor) -> Tensor:
        """Return the factors (1, C, 1, 1) at a quality (1,)."""
        if torch.is_grad_enabled():
            return self.table.factors(quality)
        factors = exponential(interpolate(table_values(self.table), _units(quality)))
        return torch.from_numpy(factors.astype(np.float32))[None, :, None, None]


def is_exact(tensors: Mapping[str, Any]) -> bool:
    """Return whether the tensors of a weights file are an exact model's."""
    return any(name.startswith(PREFIX) for name in tensors)


def without_exact(tensors: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """Return the tensors of the same model as it was trained, in floats."""
    return {name: values for name, values in tensors.items() if not name.startswith(PREFIX)}


def make_exact(networks: MainAutoencoder, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Put exact layers in the place of those that the tensors name, in place.

    Raises:
        ModelError: a tensor is missing, unknown, or of the wrong shape, or sums are not exact here.
    """
    check_sums()
    forms: dict[str, Form] = {}
    layers = dict(exact_layers(networks))
    for name in layers:
        try:
            form = Form(*(np.array(tensors[f"{PREFIX}{name}.{part}"]) for part in Form._fields))
        except KeyError as error:
            raise ModelError(
                f"the weights lack {error}, which an exact model has:"
                " make it exact anew with `caecodec export --exact`"
            ) from error
        forms[name] = form
    expected = {f"{PREFIX}{name}.{part}" for name in forms for part in Form._fields}
    if unknown := {name for name in tensors if name.startswith(PREFIX)} - expected:
        raise ModelError(f"the weights hold an unknown part of an exact model: {min(unknown)}")
    steps = {name: form.step for name, form in forms.items()}
    for name, layer in layers.items():
        kind = ExactSpaceConv2d if isinstance(layer, SpaceConv2d) else ExactConv2d
        exact = kind(
            layer,
            forms[name],
            name=name,
            activation=networks.config.activation,
            out_step=out_step(name, steps),
        )
        _replace(networks, name, exact)
    for name, module in networks.named_modules():
        if isinstance(module, Block) and _makes_pixels(name):
            module.is_exact = True
    for name in ("inverse_gain", "synthesis.gain", "mean_features.gain"):
        table = cast("QualityTable", networks.get_submodule(name))
        _replace(networks, name, ExactTable(table))


def exact_layers(networks: MainAutoencoder) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield the name and the convolution of each layer that pixels or means come from."""
    for name, module in networks.named_modules():
        if isinstance(module, nn.Conv2d) and _makes_pixels(name):
            yield name, module


@torch.inference_mode()
def check_sums() -> None:
    """Convolve integers whose sums need all of float32's 24 bits.

    Raises:
        ModelError: torch uses fewer bits, as it can be told to.
    """
    x = torch.arange(-512.0, 512.0).reshape(1, 64, 4, 4)
    layer = Conv2d(64, 2, 1)
    weight = (torch.arange(128.0) * 37 % 257 - 128).reshape(2, 64, 1, 1)
    found = layer._conv_forward(x, weight, None)  # noqa: SLF001 - as exact layers convolve
    expected = weight[..., 0, 0].double() @ x[0].flatten(1).double()
    if not torch.equal(found[0].flatten(1).double(), expected):
        raise ModelError(
            "torch computes convolutions with reduced precision here, which would change pixels:"
            " leave DNNL_DEFAULT_FPMATH_MODE and torch.backends.mkldnn.conv.fp32_precision as they"
            " are by default"
        )


def _mend_(y: Tensor, rounded: Tensor, kernel: Kernel) -> Tensor:
    """Compute the sums that float32 may not hold in float64, in place."""
    if kernel.reach is None:
        return y
    is_beyond = torch.linalg.vector_norm(rounded[0], dim=0) >= kernel.reach
    if is_beyond.any():
        inputs, outputs = (features[0].permute(1, 2, 0) for features in (rounded, y))
        sums = inputs[is_beyond].double() @ kernel.weight.flatten(1).double().T
        outputs[is_beyond] = (sums + kernel.bias.double()).float()
    return y


def _units(quality: Tensor) -> int:
    return round(quality.item() * QUALITY_UNIT)


def _makes_pixels(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in ("synthesis", "mean_features", "mean_context")


def _replace(networks: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(networks.get_submodule(parent), last, module)
