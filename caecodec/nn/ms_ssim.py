"""MS-SSIM with gradients, for refinement: how alike the structures of two images are.

Source: Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality
assessment".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""By scale, each half as large as the one before."""
SIGMA = 1.5
RADIUS = 5
"""Of the Gaussian window, in pixels."""
MEAN_STABILITY = 0.01**2
VARIANCE_STABILITY = 0.03**2
LEAST = 1e-4
"""Likenesses of a whole image below it, which photographs do not reach, have no gradient."""


def ms_ssim_loss(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return 1 - MS-SSIM, (B,): 0 for equal images, the mean over channels.

    An image that is too small for all five scales is compared at those that it has, their weights
    scaled to a sum of 1, and below the size of a window not at all: the loss is 0.

    Args:
        x: the original (B, C, H, W) in [0, 1].
        x_hat: what became of it.
    """
    with torch.autocast(x.device.type, enabled=False):  # variances are small differences
        return _loss(x.float(), x_hat.float())


def _loss(x: Tensor, x_hat: Tensor) -> Tensor:
    weights = SCALE_WEIGHTS[: _num_scales(min(x.shape[-2:]))]
    likeness = torch.ones_like(x[:, :, 0, 0])
    for number, weight in enumerate(weights, 1):
        luminance, structure = _likeness(x, x_hat)
        if number == len(weights):
            structure = structure * luminance
        else:
            x, x_hat = _halved(x), _halved(x_hat)
        own = structure.mean((2, 3)).clamp(min=LEAST)
        likeness = likeness * own ** (weight / sum(weights))
    return 1 - likeness.mean(1)


def _num_scales(side: int) -> int:
    """Return the scales at which an image of this smaller side holds a window."""
    count = 0
    while count < len(SCALE_WEIGHTS) and side > 2 * RADIUS:
        count += 1
        side = -(-side // 2)
    return count


def _likeness(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Return how alike means, and how alike deviations are, at each place of a window."""
    mean, mean_hat, square, square_hat, product = _blurred(
        x, x_hat, x * x, x_hat * x_hat, x * x_hat
    )
    crossed, squares = mean * mean_hat, mean * mean + mean_hat * mean_hat
    luminance = (2 * crossed + MEAN_STABILITY) / (squares + MEAN_STABILITY)
    covariance, variances = product - crossed, square + square_hat - squares
    return luminance, (2 * covariance + VARIANCE_STABILITY) / (variances + VARIANCE_STABILITY)


def _halved(image: Tensor) -> Tensor:
    """Return the means of 2 x 2 pixels; an odd side counts a row or column of zeros around it."""
    odd = (image.shape[-2] % 2, image.shape[-1] % 2)
    return functional.avg_pool2d(image, 2, padding=odd)


def _blurred(*images: Tensor) -> tuple[Tensor, ...]:
    """Return each (B, C, h, w) under a Gaussian window, where it lies inside the image."""
    planes = torch.cat(images, 1).contiguous(memory_format=torch.channels_last)
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=planes.dtype, device=planes.device)
    window = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    groups = planes.shape[1]
    kernels = (window / window.sum()).expand(groups, 1, -1)
    rows = functional.conv2d(planes, kernels[:, :, None], groups=groups)
    return functional.conv2d(rows, kernels[..., None], groups=groups).chunk(len(images), 1)
