"""SSIMULACRA2 with gradients: what it sums up before its polynomial, as a loss.

Source: Sneyers, "SSIMULACRA 2" (Cloudinary, 2022), whose constants these are. Of its 108 weights
those below 0.01 are left out: a score moves by less than a tenth.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SIGMA = 1.5
RADIUS = 5
"""Radius of the Gaussian windows, in pixels of each scale."""
MIN_SIDE = 8
"""Pixels of the smallest scale that counts."""
_STABILITY = 0.0009
_OPSIN = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.55180986650955360),
)
_OPSIN_BIAS = 0.0037930732552754493
_TINY = 1e-24
X, Y, B = range(3)
"""Channels of the colour space: red against green, light, blue."""


class Term(NamedTuple):
    """One addend: a weight times the norm of a map of errors.

    Attributes:
        channel: X, Y or B.
        kind: structure, or what edges gained (artifact) or lost (detail).
        power: of the norm over the image, 1 or 4.
        weight: of the norm.
    """

    channel: int
    kind: str
    power: int
    weight: float


_SCALES = (
    (
        Term(Y, "structure", 4, 7.466890328078848),
        Term(Y, "detail", 4, 17.445833984131262),
    ),
    (
        Term(X, "structure", 4, 1.1041726426657346),
        Term(Y, "structure", 4, 6.683678146179332),
        Term(Y, "detail", 4, 1.027889937768264),
    ),
    (
        Term(X, "structure", 4, 1.8422455520539298),
        Term(X, "artifact", 4, 11.441172603757666),
        Term(Y, "structure", 1, 225.20515300849274),
        Term(Y, "structure", 4, 19.213238186143016),
    ),
    (
        Term(X, "structure", 4, 1.8787594979546387),
        Term(X, "artifact", 4, 10.94906990605142),
        Term(Y, "structure", 1, 176.39317598450694),
        Term(Y, "structure", 4, 24.43300999870476),
        Term(Y, "artifact", 4, 0.28520802612117757),
        Term(B, "structure", 4, 8.826982764996862),
        Term(B, "artifact", 4, 23.19243343998926),
    ),
    (
        Term(X, "artifact", 1, 0.9677937080626833),
        Term(X, "artifact", 4, 0.9981766977854967),
        Term(Y, "structure", 4, 34.77906344483772),
        Term(Y, "artifact", 4, 44.835625328877896),
        Term(B, "structure", 1, 95.1080498811086),
        Term(B, "artifact", 1, 0.9863978034400682),
        Term(B, "detail", 1, 0.9834382792465353),
        Term(B, "artifact", 4, 171.2667255897307),
        Term(B, "detail", 4, 0.9807858872435379),
    ),
)
"""By scale, each half as large as the one before; the sixth has no weight."""


def ssimulacra2_sum(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return the weighted sum of errors, (B,): 0 for equal images, some 30 for poor ones.

    Args:
        x: the original, sRGB (B, 3, H, W) in [0, 1].
        x_hat: what became of it, taken to [0, 1].
    """
    with torch.autocast(x.device.type, enabled=False):  # variances are small differences
        return _weighted_sum(x.float(), x_hat.float())


def _weighted_sum(x: Tensor, x_hat: Tensor) -> Tensor:
    count = len(x)
    linear = [_linear(_planes(image)) for image in (x, x_hat)]
    total = x.new_zeros(count)
    for number, terms in enumerate(_SCALES):
        if number:
            linear = [functional.avg_pool2d(image, 2, ceil_mode=True) for image in linear]
        if min(linear[0].shape[-2:]) < MIN_SIDE:
            break
        channels = sorted({term.channel for term in terms})
        original, distorted = (_opsin(image, channels) for image in linear)
        maps = _maps(original, distorted, {term.kind for term in terms})
        for channel, kind, power, weight in terms:
            start = channels.index(channel) * count
            total = total + weight * _norm(maps[kind][0, start : start + count], power)
    return total


def ssimulacra2_score(weighted_sum: Tensor) -> Tensor:
    """Return the score of a sum: 100 without loss; from 90 up, differences are hard to see."""
    s = weighted_sum * 0.9562382616834844
    s = 2.326765642916932 * s - 0.020884521182843837 * s**2 + 6.248496625763138e-05 * s**3
    return 100 - 10 * s.clamp(min=0) ** 0.6276336467831387


def _planes(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (1, 3 B, H, W), channels first, in memory by pixels: convolved at once."""
    planes = image.transpose(0, 1).reshape(1, -1, *image.shape[-2:])
    return planes.contiguous(memory_format=torch.channels_last)


def _linear(planes: Tensor) -> Tensor:
    """Undo sRGB's transfer function."""
    planes = planes.clamp(0, 1)
    power = ((planes.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(planes <= 0.04045, planes / 12.92, power)


def _opsin(linear: Tensor, channels: list[int]) -> Tensor:
    """Map linear RGB to the wanted channels of XYB, shifted and scaled as the metric has them."""
    red, green, blue = linear.chunk(3, 1)
    bias = _OPSIN_BIAS ** (1 / 3)
    rows = range(3) if B in channels else range(2)
    cones = [
        (r * red + g * green + b * blue + _OPSIN_BIAS) ** (1 / 3) - bias
        for r, g, b in (_OPSIN[row] for row in rows)
    ]
    light = 0.5 * (cones[0] + cones[1])
    found = []
    for channel in channels:
        if channel == X:
            found.append(7.0 * (cones[0] - cones[1]) + 0.42)
        elif channel == Y:
            found.append(light + 0.01)
        else:
            found.append(cones[2] - light + 0.55)
    return torch.cat(found, 1)


def _maps(image: Tensor, image_hat: Tensor, kinds: set[str]) -> dict[str, Tensor]:
    """Return the maps of errors of each kind, all of the shape of the images (1, C B, h, w)."""
    mean, square = _blurred(image, image * image)
    mean_hat, square_hat, product = _blurred(image_hat, image_hat * image_hat, image * image_hat)
    maps = {}
    if "structure" in kinds:
        means = 1 - (mean - mean_hat) ** 2
        covariance = 2 * (product - mean * mean_hat) + _STABILITY
        variances = square - mean**2 + square_hat - mean_hat**2 + _STABILITY
        maps["structure"] = (1 - means * covariance / variances).clamp(min=0)
    if kinds & {"artifact", "detail"}:
        gained = (1 + (image_hat - mean_hat).abs()) / (1 + (image - mean).abs()) - 1
        maps["artifact"] = gained.clamp(min=0)
        maps["detail"] = (-gained).clamp(min=0)
    return maps


def _blurred(*images: Tensor) -> tuple[Tensor, ...]:
    """Return each (1, n, h, w) under a Gaussian window.

    Images are mirrored beyond the upper and the lower edge and end at the others.
    """
    planes = torch.cat(images, 1)
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=planes.dtype, device=planes.device)
    window = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernels = (window / window.sum()).expand(planes.shape[1], 1, -1)
    groups = planes.shape[1]
    rows = functional.conv2d(planes, kernels[:, :, None], padding=(0, RADIUS), groups=groups)
    mirrored = (rows[..., :RADIUS, :].flip(-2), rows, rows[..., -RADIUS:, :].flip(-2))
    rows = torch.cat(mirrored, -2).contiguous(memory_format=torch.channels_last)
    return functional.conv2d(rows, kernels[..., None], groups=groups).chunk(len(images), 1)


def _norm(errors: Tensor, power: int) -> Tensor:
    """Return the norm of each map (B, h, w) over its positions, (B,)."""
    if power == 1:
        return errors.mean((1, 2))
    return (errors.square().square().mean((1, 2)) + _TINY) ** 0.25
