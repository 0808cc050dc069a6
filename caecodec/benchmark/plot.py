"""The rate-distortion plot: measured and published curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from caecodec.benchmark.baselines import Baseline, Comparison
from caecodec.benchmark.bd_rate import BD_ANCHORS, METRICS, BdMatrix, Metric
from caecodec.benchmark.extras import import_extra
from caecodec.benchmark.measure import Point
from caecodec.config import EFFORTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class _Style(NamedTuple):
    label: str
    color: str
    marker: str


_STYLES = {
    "cae": _Style("caecodec", "#d1242f", "o"),
    **{
        f"cae-e{effort}": _Style(f"caecodec, effort {effort}", color, "o")
        for effort, color in zip(
            EFFORTS,
            ("#ffb3a7", "#f96b60", "#b61a22", "#8a1119", "#56080f"),
            strict=True,
        )
    },
    "cae-visual": _Style("caecodec, for the eye", "#bf3989", "o"),
    "cae-psnr": _Style("caecodec, for PSNR", "#e16f24", "o"),
    "classic": _Style("classic autoencoder", "#bc4c00", "v"),
    "avif": _Style("AVIF", "#0969da", "s"),
    "avif-psnr": _Style("AVIF, tuned for PSNR", "#54aeff", "s"),
    "jxl": _Style("JPEG XL", "#8250df", "P"),
    "webp": _Style("WebP", "#1a7f37", "^"),
    "jp2": _Style("JPEG 2000", "#bf8700", "X"),
    "mozjpeg": _Style("JPEG 4:2:0 + mozjpeg's scan search\n(lossless, no trellis)", "#24292f", "d"),
    "jpeg": _Style("JPEG 4:2:0", "#57606a", "D"),
    "jpeg-444": _Style("JPEG 4:4:4", "#9aa4ae", "D"),
}
# Muted; 12 styles, distinguished by colour and dashes together.
_DASH_COLORS = ("#7a6a9c", "#5f8a8b", "#a3785a", "#6b7f4f", "#8c6570", "#5d7796")
_DASHES = ((5, 2), (2, 1.5), (6, 1.5, 1.5, 1.5), (9, 3))
_INK = "#24292f"
_GRID = "#d8dee4"
_BPP_TICKS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_LEGEND = {
    "fontsize": 9,
    "title_fontsize": 9,
    "edgecolor": _GRID,
    "framealpha": 1.0,
    "alignment": "left",
    "handlelength": 2.6,
}
_RC_PARAMS = {
    "svg.hashsalt": "caecodec",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def plot_rd(
    points: Sequence[Point],
    bd: BdMatrix,
    *,
    title: str,
    comparisons: Sequence[Comparison] = (),
    metric: str = "psnr",
) -> Figure:
    """Draw a metric over rate, one line per lossy codec, caecodec's in front.

    The rate axis is logarithmic: a horizontal distance is a ratio of file sizes, as in BD-rate. It
    spans the measured points; published curves are dashed and clipped to it.

    Args:
        points: as from `summarize`; lossless ones and those without the metric are left out.
        bd: as from `bd_matrix` for this metric; the first of BD_ANCHORS in it adds its BD-rates to
            the legend.
        title: the dataset and its number of images.
        comparisons: published curves, and caecodec's BD-rates against them for their legend; for
            PSNR only.
        metric: name in METRICS.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    with import_extra("matplotlib").rc_context(_RC_PARAMS):
        figure: Figure = import_extra("matplotlib.figure").Figure(
            figsize=(9, 6.5) if comparisons else (8, 5.5),
            dpi=150,
            layout="constrained",
            facecolor="white",
        )
        axes = figure.add_subplot()
        measure = METRICS[metric]
        lossy = [point for point in points if math.isfinite(measure.value(point) or math.inf)]
        anchor = next((name for name in BD_ANCHORS if name in bd), None)
        rates = bd[anchor] if anchor else {}
        lines = [
            _draw_curve(axes, codec, curve, measure, suffix=_legend_suffix(codec, anchor, rates))
            for codec, curve in _by_codec(lossy).items()
        ]
        _decorate(axes, lossy, title, measure.label)
        if lossy:
            legend = _draw_legend(axes, lines, anchor)
            if comparisons:
                _draw_published(axes, comparisons)
                axes.add_artist(legend)  # the second legend has replaced it
    return figure


def write_plots(
    folder: Path,
    points: Sequence[Point],
    matrices: Mapping[str, BdMatrix],
    *,
    title: str,
    comparisons: Sequence[Comparison] = (),
) -> None:
    """Write `plot_rd` as rd.svg and rd.png by PSNR, and as rd-METRIC.svg by other metrics.

    The same input gives the same bytes.
    """
    for metric, matrix in matrices.items():
        published = comparisons if metric == "psnr" else ()
        figure = plot_rd(points, matrix, title=title, comparisons=published, metric=metric)
        with import_extra("matplotlib").rc_context(_RC_PARAMS):
            figure.savefig(folder / plot_name(metric), metadata={"Date": None})
            if metric == "psnr":
                figure.savefig(folder / "rd.png", metadata={"Software": None})


def plot_name(metric: str) -> str:
    """Return the file of a metric's plot."""
    return "rd.svg" if metric == "psnr" else f"rd-{metric}.svg"


def label_of(codec: str) -> str:
    """Return what a codec is called in plots and pages."""
    return _style(codec).label.split("\n", 1)[0]


def _style(codec: str) -> _Style:
    return _STYLES.get(codec, _Style(codec, "#bc4c00", "v"))


def _by_codec(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Group points into curves of rising rate, in the order of the legend."""
    curves: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.bpp):
        curves.setdefault(point.codec, []).append(point)
    order = [*_STYLES, *sorted(set(curves) - set(_STYLES))]
    return {codec: curves[codec] for codec in order if codec in curves}


def _draw_curve(
    axes: Axes, codec: str, curve: Sequence[Point], metric: Metric, *, suffix: str
) -> Line2D:
    style = _style(codec)
    is_ours = codec == "cae"
    (line,) = axes.plot(
        [point.bpp for point in curve],
        [metric.value(point) or math.nan for point in curve],
        color=style.color,
        marker=style.marker,
        markersize=6 if is_ours else 4.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=2.6 if is_ours else 1.6,
        zorder=5 if is_ours else 3,
        label=style.label + suffix,
    )
    return line


def _draw_published(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    """Add the published curves, best first, without a change of the axes' limits."""
    axes.autoscale(enable=False)
    lines = []
    middle = math.sqrt(math.prod(axes.get_xlim()))
    ranked = sorted(comparisons, key=lambda item: -_psnr_at(item.baseline, middle))
    for rank, comparison in enumerate(ranked):
        rate = comparison.bd_rates.get("cae")
        (line,) = axes.plot(
            comparison.baseline.bpp,
            comparison.baseline.psnr,
            color=_DASH_COLORS[rank % len(_DASH_COLORS)],
            dashes=_DASHES[rank % len(_DASHES)],
            linewidth=1.1,
            zorder=2,
            label=comparison.baseline.label + ("" if rate is None else f"  {_signed(rate)}"),
        )
        lines.append(line)
    has_ours = any("cae" in comparison.bd_rates for comparison in comparisons)
    title = "Published, not measured here" + ("; BD-rate of caecodec against it" * has_ours)
    legend = axes.legend(handles=lines, loc="upper left", title=title, **_LEGEND)
    legend.set_zorder(6)


def _psnr_at(baseline: Baseline, bpp: float) -> float:
    return float(np.interp(math.log(bpp), np.log(baseline.bpp), baseline.psnr))


def _signed(percent: float) -> str:
    return f"{percent:+.0f} %".replace("-", "\N{MINUS SIGN}")


def _legend_suffix(codec: str, anchor: str | None, rates: Mapping[str, float | None]) -> str:
    if codec == anchor:
        return "  (anchor)"
    rate = rates.get(codec)
    return "" if rate is None else f"  {_signed(rate)}"


def _draw_legend(axes: Axes, lines: Sequence[Line2D], anchor: str | None) -> Legend:
    title = f"BD-rate against {_style(anchor).label}" if anchor else None
    legend = axes.legend(handles=lines, loc="lower right", title=title, **_LEGEND)
    legend.set_zorder(6)
    return legend


def _decorate(axes: Axes, points: Sequence[Point], title: str, label: str) -> None:
    axes.set_title(f"Rate and distortion: {title}", loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel("rate, bits per pixel (logarithmic)")
    axes.set_ylabel(label)
    axes.set_xscale("log")
    if points:
        rates = [point.bpp for point in points]
        axes.set_xlim(min(rates) / 1.12, max(rates) * 1.12)
    low, high = axes.get_xlim()
    ticks = [tick for tick in _BPP_TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.locator_params(axis="y", nbins=12, steps=[1, 2, 5, 10], integer=True)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(length=0)
