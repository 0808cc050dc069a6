"""What the layers of a model are, and what they show: read by running it once with hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caecodec.nn.inference import FrozenModel

SIDE = 256
"""Side of the image that shapes are given for, in pixels."""
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)
_UNITS = 5000


class LayerRow(NamedTuple):
    """One layer of a transform.

    Attributes:
        name: as in the weights file.
        kind: the class and, of a convolution, the kernel.
        shape: (C, h, w) of the output, for an image of SIDE x SIDE pixels.
        num_parameters: weights and biases.
        kmac_per_pixel: thousands of MACs per image pixel.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    num_parameters: int
    kmac_per_pixel: float


@torch.inference_mode()
def layer_rows(model: FrozenModel) -> tuple[list[LayerRow], list[LayerRow]]:
    """Return the layers of the analysis and of the synthesis transform, in the order they run."""
    names = {module: name for name, module in model.networks.named_modules()}
    encoder: list[LayerRow] = []
    decoder: list[LayerRow] = []

    def collect(rows: list[LayerRow]) -> Callable[[nn.Module, Tensor, Tensor], None]:
        return lambda layer, before, after: rows.append(_row(names[layer], layer, before, after))

    layers = [module for module in names if isinstance(module, _LAYERS)]
    with _watching(layers, collect(encoder)):
        y = model.at(_UNITS).analyze(model.stem(torch.zeros(1, 3, SIDE, SIDE)))
    with _watching(layers, collect(decoder)):
        model.at(_UNITS).synthesize(torch.zeros_like(y))
    return encoder, decoder


@torch.inference_mode()
def feature_maps(model: FrozenModel, x: Tensor, layer: int) -> Tensor:
    """Return the outputs (C, h, w) of a layer of `model.feature_layers`, counted from 1.

    Args:
        model: of any architecture.
        x: (1, 3, H, W) in [0, 1], H and W multiples of the model's stride.
        layer: 1 to the number of layers.
    """
    found: list[Tensor] = []
    with _watching([model.feature_layers[layer - 1]], lambda _, __, after: found.append(after[0])):
        model.at(_UNITS).analyze(model.stem(x))
    return found[0]


@contextmanager
def _watching(
    layers: Sequence[nn.Module], see: Callable[[nn.Module, Tensor, Tensor], None]
) -> Iterator[None]:
    """Call `see` with each of the layers, its input and its output, whenever one runs."""
    handles = [
        layer.register_forward_hook(lambda own, inputs, output: see(own, inputs[0], output))
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _row(name: str, layer: nn.Module, before: Tensor, after: Tensor) -> LayerRow:
    kind, macs = type(layer).__name__, 0
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        height, width = layer.kernel_size
        positions = before if isinstance(layer, nn.ConvTranspose2d) else after
        macs = layer.weight.numel() * positions[0, 0].numel()
        kind = f"{kind.removeprefix('Fp32')} {height}x{width}"
    num_parameters = sum(parameter.numel() for parameter in layer.parameters())
    return LayerRow(name, kind, tuple(after.shape[1:]), num_parameters, macs / 1000 / SIDE**2)
