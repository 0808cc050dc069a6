"""Butteraugli with gradients: its map of visible differences and their norm, as a loss.

Source: Alakuijala et al., "Guetzli: Perceptually Guided JPEG Encoder" (2017), as libjxl 0.7
measures it, at 80 nits; the constants are that library's. A training step stays short by two
shortcuts: of sixteen directions in which errors are summed along lines, a few stand for all; and
wide blurs are computed on averaged pixels. The norm is within a sixth of libjxl's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

NITS = 80.0
"""Luminance of white."""
NORMS = (3, 6, 12)
"""Powers of the norms whose mean the tool calls the 3-norm."""
HALF_SIZE_SHARE = 0.5
"""Weight of the differences seen at half the size."""
_LOST_TO_HALF = 0.3
"""What of that weight the differences at full size lose."""

_ABSORBANCE = (
    (0.29956550340058319, 0.63373087833825936, 0.077705617820981968, 1.7557483643287353),
    (0.22158691104574774, 0.69391388044116142, 0.0987313588422, 1.7557483643287353),
    (0.02, 0.02, 0.20480129041026129, 12.226454707163354),
)
"""By kind of cone: shares of linear red, green and blue in it, and its least response."""
_GAMMA = (19.245013259874995, 9.9710635769299145, -23.16046239805755)
_SIGMAS = {"adapt": 1.2, "low": 7.15593339443, "high": 3.22489901262, "finest": 1.56416327805}
_MASK_SIGMA = 2.7
_GOOD = 17.1984479671 * 0.79079917404
"""Difference that just shows."""
_LINES = (
    ((-4, 0), (-3, 0), (-2, 0), (-1, 0)),
    ((0, -4), (0, -3), (0, -2), (0, -1)),
    ((-3, -3), (-2, -2), (-1, -1)),
    ((-3, 3), (-2, 2), (-1, 1)),
    ((-4, 1), (-3, 1), (-2, 1), (-1, 0)),
    ((-4, -1), (-3, -1), (-2, -1), (-1, 0)),
    ((-1, -4), (-1, -3), (-1, -2), (0, -1)),
    ((1, -4), (1, -3), (1, -2), (0, -1)),
    ((-3, -2), (-2, -1), (-1, -1)),
    ((-3, 2), (-2, 1), (-1, 1)),
    ((-2, -3), (-1, -2), (-1, -1)),
    ((-2, 3), (-1, 2), (-1, 1)),
    ((1, -4), (1, -3), (1, -2), (0, -1)),
    ((-1, -4), (-1, -3), (-1, -2), (0, -1)),
    ((-4, -1), (-3, -1), (-2, -1), (-1, 0)),
    ((-4, 1), (-3, 1), (-2, 1), (-1, 0)),
)
"""Half of each line through a position, as (rows, columns) from it; the other half mirrors it."""
_SPARSE_LINES = (
    ((-4, 0), (-2, 0)),
    ((0, -4), (0, -2)),
    ((-3, -3), (-2, -2)),
    ((-3, 3), (-2, 2)),
    ((-4, 1), (-2, 1)),
    ((-4, -1), (-2, -1)),
    ((-1, -4), (-1, -2)),
    ((1, -4), (1, -2)),
    ((-3, -2), (-2, -1)),
    ((-3, 2), (-2, 1)),
    ((-2, -3), (-1, -2)),
    ((-2, 3), (-1, 2)),
    ((2, -4), (1, -2)),
    ((-2, -4), (-1, -2)),
    ((-4, -2), (-2, -1)),
    ((-4, 2), (-2, 1)),
)
"""The same for coarser bands."""
NUM_LINES = len(_LINES)
CROSS = (0, 1, 2, 3)
"""Numbers of the lines along rows, columns and diagonals."""


class _Bands(NamedTuple):
    """An image by frequency, finest first: each (1, C B, H, W), channels X, Y and at last B."""

    finest: Tensor
    high: Tensor
    middle: Tensor
    low: Tensor


def butteraugli_norm(x: Tensor, x_hat: Tensor, lines: Sequence[int] = CROSS) -> Tensor:
    """Return the norm of visible differences, (B,): 0 for equal images; 1 where one just shows.

    Args:
        x: the original, sRGB (B, 3, H, W) in [0, 1], sides 16 or more.
        x_hat: what became of it, taken to [0, 1].
        lines: numbers, below NUM_LINES, of the directions in which errors are summed.
    """
    with torch.autocast(x.device.type, enabled=False):
        linear, linear_hat = _linear(x.float()), _linear(x_hat.float())
        differences = _differences(linear, linear_hat, lines)
        half, half_hat = (
            functional.avg_pool2d(image, 2, ceil_mode=True) for image in (linear, linear_hat)
        )
        coarse = functional.interpolate(_differences(half, half_hat, lines), scale_factor=2)
        coarse = coarse[..., : x.shape[-2], : x.shape[-1]]
        kept = 1 - _LOST_TO_HALF * HALF_SIZE_SHARE
        powers = (kept * differences + HALF_SIZE_SHARE * coarse)[0] ** NORMS[0]
        norms = []
        for power in NORMS:
            norms.append(powers.mean((1, 2)) ** (1 / power))
            powers = powers.square()
        return torch.stack(norms).mean(0)


def _linear(image: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB -> (1, 3 B, H, W) in nits, channels first, in memory by pixels."""
    planes = image.transpose(0, 1).reshape(1, -1, *image.shape[-2:]).clamp(0, 1)
    planes = planes.contiguous(memory_format=torch.channels_last)
    power = ((planes.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return NITS * torch.where(planes <= 0.04045, planes / 12.92, power)


def _differences(linear: Tensor, linear_hat: Tensor, lines: Sequence[int]) -> Tensor:
    """Return the map of visible differences (1, B, H, W)."""
    with torch.no_grad():
        bands = _bands(_opsin(linear))
        active = _activity(bands)
    bands_hat = _bands(_opsin(linear_hat))
    active_hat = _activity(bands_hat)
    errors = 10.0 * (active - active_hat).square() + _band_errors(bands, bands_hat, lines)
    x, y, b = (bands.low - bands_hat.low).square().chunk(3, 1)
    low = 29.2353797994 * x + 0.844626970982 * y + 0.703646627719 * b
    with torch.no_grad():
        mask = _eroded(active)
        weight = ((1 + 2.5485944793 / (0.451936922203 * mask + 0.829591754942)) / _GOOD).square()
        low_weight = (
            (1 + 0.505054525019 / (3.87449418804 * mask + 0.20025578522)) / _GOOD
        ).square()
    return (weight * errors + low_weight * low + 1e-6).sqrt()


def _opsin(linear: Tensor) -> Tensor:
    """Return responses of the eye (1, 3 B, H, W): red against green, light, blue."""
    adapted = _blurred(linear, _SIGMAS["adapt"])
    slope, bias, offset = _GAMMA
    cones = []
    for *shares, least in _ABSORBANCE:
        seen, around = (_mixed(image, shares) + least for image in (linear, adapted))
        sensitivity = (slope * (around + bias).log() + offset) / around
        cones.append((seen * sensitivity).clamp(min=least))
    return torch.cat([cones[0] - cones[1], cones[0] + cones[1], cones[2]], 1)


def _mixed(image: Tensor, shares: Sequence[float]) -> Tensor:
    """Return the sum of red, green and blue by their shares."""
    red, green, blue = image.chunk(3, 1)
    return shares[0] * red + shares[1] * green + shares[2] * blue


def _bands(xyb: Tensor) -> _Bands:
    low = _blurred(xyb, _SIGMAS["low"], 4)
    rest = xyb - low
    middle = _blurred(rest, _SIGMAS["high"], 2)
    x, y, b = middle.chunk(3, 1)
    high_x, high_y, _ = (rest - middle).chunk(3, 1)
    middle = torch.cat([_without_smallest(x, 0.29), _with_smallest(y, 0.1), b], 1)
    high_x = high_x * (0.653020556257 + (1 - 0.653020556257) * 46.0 / (high_y.square() + 46.0))
    coarse_x, coarse_y = _blurred(torch.cat([high_x, high_y], 1), _SIGMAS["finest"]).chunk(2, 1)
    finest_x = _without_smallest(high_x - coarse_x, 0.04)
    coarse_y = _compressed(coarse_y, 28.4691806922)
    finest_y = 2.69313763794 * _compressed(high_y - coarse_y, 5.19175294647)
    high = torch.cat([_without_smallest(coarse_x, 1.5), _with_smallest(2.155 * coarse_y, 0.132)], 1)
    x, y, b = low.chunk(3, 1)
    low = torch.cat(
        [32.2217497012 * x, 13.7697791434 * y, 47.504615728 * (b - 0.362267051518 * y)], 1
    )
    return _Bands(torch.cat([finest_x, finest_y], 1), high, middle, low)


def _without_smallest(values: Tensor, width: float) -> Tensor:
    return functional.softshrink(values, width)


def _with_smallest(values: Tensor, width: float) -> Tensor:
    return values + values.clamp(-width, width)


def _compressed(values: Tensor, start: float) -> Tensor:
    inside = values.clamp(-start, start)
    return inside + 0.724216145665 * (values - inside)


def _activity(bands: _Bands) -> Tensor:
    """Return how busy each place is (1, B, H, W): errors hide there."""
    finest_x, finest_y = bands.finest.chunk(2, 1)
    high_x, high_y = bands.high.chunk(2, 1)
    x = 8.75000241361 * (finest_x + high_x)
    y = 0.620978104816 * finest_y + 0.307585098253 * high_y
    gain, bias = 6.19424080439, 6.19424080439 * 12.61050594197
    busy = (gain * (x.square() + y.square() + 1e-12).sqrt() + bias).sqrt() - bias**0.5
    return _blurred(busy, _MASK_SIGMA, 2)


def _eroded(active: Tensor) -> Tensor:
    """Return a mean of the three least active of nine places around each."""
    inside = functional.pad(active, (3, 3, 3, 3), value=float("inf"))
    height, width = active.shape[-2:]
    least, second, third = active, 2 * active, 2 * active
    for row in (0, 3, 6):
        for column in (0, 3, 6):
            if row == column == 3:
                continue
            value = inside[..., row : row + height, column : column + width]
            least, value = torch.minimum(least, value), torch.maximum(least, value)
            second, value = torch.minimum(second, value), torch.maximum(second, value)
            third = torch.minimum(third, value)
    return 0.45 * least + 0.3 * second + 0.25 * third


def _band_errors(bands: _Bands, bands_hat: _Bands, lines: Sequence[int]) -> Tensor:
    """Return the squared errors of all but the lowest band, weighted (1, B, H, W)."""
    count = bands.high.shape[1] // 2
    total = _along_lines(
        _emphasised(
            bands.finest,
            bands_hat.finest,
            (173.5, 1.10039032555),
            (5.0, 71.7800275169),
            0.39905817637,
        ),
        [_LINES[line] for line in lines],
    )
    sparse = [_SPARSE_LINES[line] for line in lines]
    high = _emphasised(
        bands.high,
        bands_hat.high,
        (6923.99476109, 18.7237414387),
        (8051.15833247, 4498534.45232),
        0.611612573796,
    )
    middle, middle_hat = bands.middle[:, : 2 * count], bands_hat.middle[:, : 2 * count]
    middle_errors = _emphasised(
        middle,
        middle_hat,
        (8246.75321353, 37.0819870399),
        (1009002.70582, 130262059.556),
        0.611612573796,
    )
    total = total + _along_lines(high, sparse) + _along_lines(middle_errors, sparse)
    x, y = total.chunk(2, 1)
    errors = x + y
    high_weights = (400.0, 1.50815703118)
    for weight, band, band_hat in zip(
        high_weights, bands.high.chunk(2, 1), bands_hat.high.chunk(2, 1), strict=True
    ):
        aligned = band_hat * band.sign()
        size = band.abs()
        beyond = (0.4 * size - aligned).clamp(min=0) + (aligned - size).clamp(min=0)
        errors = errors + 0.8 * weight * ((band - band_hat).square() + beyond.square())
    middle_weights = (2150.0, 10.6195433239, 16.2176043152)
    for weight, band, band_hat in zip(
        middle_weights, bands.middle.chunk(3, 1), bands_hat.middle.chunk(3, 1), strict=True
    ):
        errors = errors + weight * (band - band_hat).square()
    return errors


def _emphasised(
    band: Tensor,
    band_hat: Tensor,
    weights: tuple[float, float],
    knees: tuple[float, float],
    gain: float,
) -> Tensor:
    """Return errors of X and Y, larger where what was there is gone or where there is too much."""
    found = []
    for weight, knee, value, value_hat in zip(
        weights, knees, band.chunk(2, 1), band_hat.chunk(2, 1), strict=True
    ):
        scale, scale_beyond = (gain * (share * weight) ** 0.5 / 8.5 * knee for share in (0.5, 0.33))
        size = value.abs()
        error = value - value_hat
        aligned = value_hat * torch.where(value < 0, -1.0, 1.0)
        beyond = (0.55 * size - aligned).clamp(min=0) + (aligned - 1.05 * size).clamp(min=0)
        side = torch.where(error < 0, -1.0, 1.0)
        found.append(
            (scale * error + scale_beyond * side * beyond) / (knee + 0.5 * (size + value_hat.abs()))
        )
    return torch.cat(found, 1)


def _along_lines(errors: Tensor, lines: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Return the sum of the squared sums of errors on the lines through each place."""
    padded = functional.pad(errors, (4, 4, 4, 4))
    height, width = errors.shape[-2:]
    total = torch.zeros_like(errors)
    for half in lines:
        line = errors
        for row, column in (*half, *((-row, -column) for row, column in half)):
            line = line + padded[..., 4 + row : 4 + row + height, 4 + column : 4 + column + width]
        total = total + line.square()
    return total * (len(_LINES) / len(lines))


def _blurred(planes: Tensor, sigma: float, step: int = 1) -> Tensor:
    """Return planes (1, n, H, W) under a Gaussian window, of means over step x step pixels."""
    height, width = planes.shape[-2:]
    coarse = functional.avg_pool2d(planes, step, ceil_mode=True) if step > 1 else planes
    sigma /= step
    radius = max(1, int(2.25 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device)
    window = torch.exp(-0.5 * (offsets / sigma) ** 2)
    window = window / window.sum()
    groups = coarse.shape[1]
    kernel = window.expand(groups, 1, -1)
    rows = functional.conv2d(coarse, kernel[:, :, None], padding=(0, radius), groups=groups)
    found = functional.conv2d(rows, kernel[..., None], padding=(radius, 0), groups=groups)
    inside = [
        functional.conv1d(
            torch.ones(1, 1, size, device=planes.device), window[None, None], padding=radius
        )[0, 0]
        for size in coarse.shape[-2:]
    ]
    found = found / (inside[0][:, None] * inside[1])
    if step > 1:
        size = (coarse.shape[-2] * step, coarse.shape[-1] * step)
        found = functional.interpolate(found, size=size, mode="bilinear")[..., :height, :width]
    return found
