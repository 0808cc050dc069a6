"""BD-rates: the difference in bits that codecs need for the same value of a metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from caecodec.benchmark.codecs import CAE_QUALITIES, is_cae
from caecodec.benchmark.extras import import_extra
from caecodec.benchmark.measure import Point

BD_ANCHORS = ("jpeg", "webp", "avif", "avif-psnr", "jxl", "cae-e1")
"""The codecs that others are compared with."""
BD_CAE_QUALITIES = CAE_QUALITIES[1:-1]
"""caecodec's default qualities that its BD-rate uses: 10 to 90, without the knob's two ends."""
MIN_BD_POINTS = 4
"""Fewest points of a curve that has a BD-rate."""

BdMatrix = dict[str, dict[str, float | None]]
"""BD-rate in percent by anchor, then by codec."""


class Metric(NamedTuple):
    """A measure of how close a decoded image is to its original.

    Attributes:
        label: name with unit.
        value: value at a point; None where it was not measured, infinite for equal images.
    """

    label: str
    value: Callable[[Point], float | None]


def _decibels(point: Point) -> float | None:
    """Return MS-SSIM as -10 log10(1 - MS-SSIM), which spreads values close to 1."""
    if point.ms_ssim is None:
        return None
    return math.inf if point.ms_ssim >= 1 else -10 * math.log10(1 - point.ms_ssim)


METRICS = {
    "psnr": Metric("RGB PSNR, dB", lambda point: point.psnr),
    "ms_ssim": Metric("MS-SSIM, dB", _decibels),
    "ssimulacra2": Metric(
        "SSIMULACRA2", lambda point: math.inf if math.isinf(point.psnr) else point.ssimulacra2
    ),
}
"""Metrics by name; BD-rates use the first by default."""


class Sample(NamedTuple):
    """One point of a curve: bits per pixel, and the value of a metric that rises with quality."""

    bpp: float
    value: float


def bd_rates(
    points: Iterable[Point], anchor: str = "jpeg", *, metric: str = "psnr"
) -> dict[str, float | None]:
    """Return each lossy codec's BD-rate against an anchor, in percent.

    The mean difference of log-rate at equal value over the range of values that both curves share;
    negative means smaller files. A point that spends more bits for no gain is left out, and so is
    one at which every image is lossless. With its default qualities, caecodec counts from
    BD_CAE_QUALITIES alone.

    Args:
        points: as from `summarize`.
        anchor: name of a codec.
        metric: name in METRICS.

    Returns:
        Percent by codec, the anchor's own 0 included; None when either curve has fewer than
        MIN_BD_POINTS points, when there is no such anchor, or when the curves do not overlap.

    Raises:
        ConfigError: bjontegaard is not installed.

    Source: Bjontegaard, VCEG-M33, 2001, with Akima interpolation as in `bjontegaard.bd_rate`.
    """
    curves = _curves(points, METRICS[metric])
    reference = curves.get(anchor, [])
    return {codec: bd_rate(reference, curve) for codec, curve in curves.items()}


def bd_rates_against(
    reference: Sequence[Point], points: Iterable[Point]
) -> dict[str, float | None]:
    """Return each lossy codec's BD-rate by PSNR against a curve, by the rules of `bd_rates`.

    Args:
        reference: the points of one curve; they need not come from this benchmark.
        points: as from `summarize`.
    """
    metric = METRICS["psnr"]
    anchor = _samples(reference, metric)
    return {codec: bd_rate(anchor, curve) for codec, curve in _curves(points, metric).items()}


def bd_matrix(
    points: Sequence[Point], anchors: Sequence[str] = BD_ANCHORS, *, metric: str = "psnr"
) -> BdMatrix:
    """Return `bd_rates` against each of the anchors that the points hold."""
    codecs = {point.codec for point in points}
    return {
        anchor: bd_rates(points, anchor, metric=metric) for anchor in anchors if anchor in codecs
    }


def shared_ranges(
    points: Sequence[Point], anchor: str, *, metric: str
) -> dict[str, tuple[float, float] | None]:
    """Return the values that each codec's curve and the anchor's share, over which BD-rates hold.

    None where they share none.
    """
    curves = _curves(points, METRICS[metric])
    reference = curves.get(anchor, [])
    return {codec: _overlap(reference, curve) for codec, curve in curves.items()}


def bd_rate(anchor: Sequence[Sample], test: Sequence[Sample]) -> float | None:
    """Return the BD-rate of one curve against another, each as from `rising`; see `bd_rates`."""
    if min(len(anchor), len(test)) < MIN_BD_POINTS or _overlap(anchor, test) is None:
        return None
    percent = import_extra("bjontegaard").bd_rate(
        [sample.bpp for sample in anchor],
        [sample.value for sample in anchor],
        [sample.bpp for sample in test],
        [sample.value for sample in test],
        method="akima",
        require_matching_points=False,
        min_overlap=0,
    )
    return float(percent)


def rising(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples by rate, without those that spend more bits for no gain."""
    curve: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: (sample.bpp, -sample.value)):
        if not curve or sample.value > curve[-1].value:
            curve.append(sample)
    return curve


def _curves(points: Iterable[Point], metric: Metric) -> dict[str, list[Sample]]:
    """Group the points that a BD-rate uses by codec, rate and value both rising."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.codec, []).append(point)
    for codec, group in groups.items():
        if is_cae(codec) and {point.quality for point in group} == set(CAE_QUALITIES):
            groups[codec] = [point for point in group if point.quality in BD_CAE_QUALITIES]
    lossy = {
        codec: [point for point in group if math.isfinite(metric.value(point) or 0)]
        for codec, group in groups.items()
    }
    return {codec: _samples(group, metric) for codec, group in lossy.items() if group}


def _samples(group: Iterable[Point], metric: Metric) -> list[Sample]:
    values = ((point.bpp, metric.value(point)) for point in group)
    return rising(Sample(bpp, value) for bpp, value in values if value is not None)


def _overlap(anchor: Sequence[Sample], test: Sequence[Sample]) -> tuple[float, float] | None:
    if not anchor or not test:
        return None
    low, high = max(anchor[0].value, test[0].value), min(anchor[-1].value, test[-1].value)
    return (low, high) if low < high else None
