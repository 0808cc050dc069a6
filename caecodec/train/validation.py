"""What a model does on validation images, in training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from caecodec.config import MAX_QUALITY
from caecodec.train.branches import BranchReading, read_branches
from caecodec.train.data import at_least

QUALITIES = (10.0, 50.0, 90.0)
MAX_IMAGES = 8
MULTIPLE = 64
"""Sides of validation images are cut to multiples of it, in pixels."""


def chosen_images(images: list[Tensor]) -> list[Tensor]:
    """Return the images that a run is validated on, none smaller than MULTIPLE."""
    return [at_least(image, MULTIPLE) for image in images[:MAX_IMAGES]]


@torch.no_grad()
def rates_and_psnrs(
    model: nn.Module, images: list[Tensor], device: torch.device
) -> Iterator[tuple[float, float, float]]:
    """Yield quality, mean estimated rate in bpp and mean PSNR in dB over images uint8 (C, H, W)."""
    for quality in QUALITIES:
        rates, psnrs = [], []
        for image in images:
            height, width = (side - side % MULTIPLE for side in image.shape[1:])
            x = image[None, :, :height, :width].to(device).float().div(255)
            estimate = model(x, torch.tensor([quality], device=device))
            bits = estimate.y_bits + estimate.z_bits
            rates.append(bits.item() / (height * width))
            psnrs.append(-10 * estimate.mse.log10().item())
        yield quality, sum(rates) / len(rates), sum(psnrs) / len(psnrs)


def readings_of(
    model: nn.Module, images: list[Tensor], device: torch.device
) -> list[BranchReading]:
    """Return what the branches do on the largest upper left squares that all images have."""
    side = min(min(image.shape[1:]) for image in images) // MULTIPLE * MULTIPLE
    x = torch.stack([image[:, :side, :side] for image in images]).to(device).float().div(255)
    quality = torch.linspace(0, MAX_QUALITY, len(images), device=device)
    return read_branches(model, x.contiguous(memory_format=torch.channels_last), quality)
