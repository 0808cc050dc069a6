"""The results of a benchmark: tables for the terminal, CSV and JSON, and the R-D plot."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.table import Table

from caecodec.bench.extras import import_extra
from caecodec.bench.runner import BD_ANCHORS, BdMatrix, Point, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Style(NamedTuple):
    label: str
    color: str
    marker: str
    line: str


_STYLES = {
    "cae": _Style("caecodec", "#d1242f", "o", "-"),
    "avif": _Style("AVIF", "#0969da", "s", "-"),
    "webp": _Style("WebP", "#1a7f37", "^", "-"),
    "jpeg": _Style("JPEG 4:2:0", "#57606a", "D", "-"),
    "jpeg-444": _Style("JPEG 4:4:4", "#9aa4ae", "D", "--"),
}
_INK = "#24292f"
_GRID = "#d8dee4"
_BPP_TICKS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_RC_PARAMS = {
    "svg.hashsalt": "caecodec",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def format_table(points: Sequence[Point], bd: BdMatrix) -> Table:
    """Lay out the points and, below them, the BD-rates for the terminal.

    Args:
        points: as from `summarize`.
        bd: as from `bd_matrix`; when it is empty, so is its part of the table.

    Returns:
        A table without borders that holds one table or two.
    """
    layout = Table.grid(padding=(0, 0, 1, 0))
    layout.add_row(_points_table(points))
    if bd:
        layout.add_row(_bd_table(bd))
    return layout


def write_results(
    folder: Path,
    records: Sequence[Record],
    points: Sequence[Point],
    bd: BdMatrix,
    *,
    metadata: dict[str, Any],
) -> None:
    """Write results.csv, results.json, rd.svg and rd.png; the same input gives the same bytes.

    Args:
        folder: made when missing; files of these names in it are replaced.
        records: one row of results.csv each; ms_ssim is empty where there is none.
        points: "points" of results.json; an infinite PSNR (lossless) is null there.
        bd: "bd_rates" of results.json, percent by anchor and codec; null where there is none.
        metadata: "metadata" of results.json; its "dataset" is named in the plot's title.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "results.csv", records)
    content = {
        "metadata": metadata,
        "points": [dataclasses.asdict(point) for point in points],
        "bd_rates": bd,
    }
    text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    num_images = len({record.image for record in records})
    images = f"{num_images} image{'' if num_images == 1 else 's'}"
    _write_plots(folder, points, bd, f"{metadata.get('dataset', 'dataset')}, {images}")


def plot_rd(points: Sequence[Point], bd: BdMatrix, *, title: str) -> Figure:
    """Draw PSNR over rate, one line per lossy codec, caecodec's in front.

    The rate axis is logarithmic: a horizontal distance is a ratio of file sizes, as in BD-rate.

    Args:
        points: as from `summarize`; those without loss are left out.
        bd: as from `bd_matrix`; the first of BD_ANCHORS in it adds its BD-rates to the legend.
        title: the dataset and its number of images.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    with import_extra("matplotlib").rc_context(_RC_PARAMS):
        figure: Figure = import_extra("matplotlib.figure").Figure(
            figsize=(8, 5.5), dpi=150, layout="constrained", facecolor="white"
        )
        axes = figure.add_subplot()
        lossy = [point for point in points if math.isfinite(point.psnr)]
        anchor = next((name for name in BD_ANCHORS if name in bd), None)
        rates = bd[anchor] if anchor else {}
        for codec, curve in _by_codec(lossy).items():
            _draw_curve(axes, codec, curve, suffix=_legend_suffix(codec, anchor, rates))
        _decorate(axes, lossy, title)
        if lossy:
            _draw_legend(axes, anchor)
    return figure


def _points_table(points: Sequence[Point]) -> Table:
    table = Table(title="Means over images", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("codec")
    for heading in ("quality", "bpp", "PSNR dB", "MS-SSIM", "encode s/MP", "decode s/MP"):
        table.add_column(heading, justify="right")
    for codec, curve in groupby(points, key=lambda point: point.codec):
        for index, point in enumerate(curve):
            table.add_row("" if index else codec, *_cells(point))
        table.add_section()
    return table


def _cells(point: Point) -> tuple[str, ...]:
    is_lossless = math.isinf(point.psnr)
    return (
        "-" if is_lossless else f"{point.quality:g}",
        f"{point.bpp:.3f}",
        "lossless" if is_lossless else f"{point.psnr:.2f}",
        "-" if point.ms_ssim is None else f"{point.ms_ssim:.4f}",
        f"{point.encode_seconds_per_megapixel:.3f}",
        f"{point.decode_seconds_per_megapixel:.3f}",
    )


def _bd_table(bd: BdMatrix) -> Table:
    title = "BD-rate in %, negative is smaller"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("codec")
    for anchor in bd:
        table.add_column(f"vs {anchor}", justify="right")
    for codec in next(iter(bd.values())):
        cells = (_percent(None if codec == anchor else bd[anchor].get(codec)) for anchor in bd)
        table.add_row(codec, *cells)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _write_csv(path: Path, records: Iterable[Record]) -> None:
    names = [field.name for field in dataclasses.fields(Record)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(record) for record in records)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_plots(folder: Path, points: Sequence[Point], bd: BdMatrix, title: str) -> None:
    figure = plot_rd(points, bd, title=title)
    with import_extra("matplotlib").rc_context(_RC_PARAMS):
        figure.savefig(folder / "rd.svg", metadata={"Date": None})
        figure.savefig(folder / "rd.png", metadata={"Software": None})


def _by_codec(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Group points into curves of rising rate, in the order of the legend."""
    curves: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.bpp):
        curves.setdefault(point.codec, []).append(point)
    order = [*_STYLES, *sorted(set(curves) - set(_STYLES))]
    return {codec: curves[codec] for codec in order if codec in curves}


def _draw_curve(axes: Axes, codec: str, curve: Sequence[Point], *, suffix: str) -> None:
    style = _STYLES.get(codec, _Style(codec, "#8250df", "v", "-"))
    is_ours = codec == "cae"
    axes.plot(
        [point.bpp for point in curve],
        [point.psnr for point in curve],
        style.line,
        color=style.color,
        marker=style.marker,
        markersize=6 if is_ours else 4,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=2.6 if is_ours else 1.6,
        zorder=5 if is_ours else 3,
        label=style.label + suffix,
    )


def _legend_suffix(codec: str, anchor: str | None, rates: Mapping[str, float | None]) -> str:
    if codec == anchor:
        return "  (anchor)"
    rate = rates.get(codec)
    return "" if rate is None else f"  {rate:+.0f} %".replace("-", "\N{MINUS SIGN}")


def _draw_legend(axes: Axes, anchor: str | None) -> None:
    label = _STYLES[anchor].label if anchor else ""
    legend = axes.legend(
        loc="lower right",
        title=f"BD-rate against {label}" if anchor else None,
        title_fontsize=9.5,
        fontsize=10,
        edgecolor=_GRID,
        framealpha=1.0,
        alignment="left",
        handlelength=2.4,
    )
    legend.set_zorder(6)


def _decorate(axes: Axes, points: Sequence[Point], title: str) -> None:
    axes.set_title(f"Rate and distortion: {title}", loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel("rate, bits per pixel (logarithmic)")
    axes.set_ylabel("RGB PSNR, dB")
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
