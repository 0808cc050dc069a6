"""The results of a benchmark: tables for the terminal, CSV and JSON, and the R-D plot's files."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from caecodec.benchmark.baselines import Comparison
from caecodec.benchmark.bd_rate import METRICS, BdMatrix, shared_ranges
from caecodec.benchmark.measure import Point, Record
from caecodec.benchmark.plot import write_plots
from caecodec.errors import ConfigError, first_line


def format_table(
    points: Sequence[Point],
    bd: BdMatrix,
    comparisons: Sequence[Comparison] = (),
    *,
    others: Mapping[str, BdMatrix] | None = None,
) -> Table:
    """Lay out the points and, below them, the BD-rates for the terminal.

    Args:
        points: as from `summarize`.
        bd: as from `bd_matrix`; when it is empty, so is its part of the table.
        comparisons: as from `compare`; likewise.
        others: BD-rates by further metrics, by their names in METRICS; likewise.

    Returns:
        A borderless table that holds one or more tables.
    """
    layout = Table.grid(padding=(0, 0, 1, 0))
    layout.add_row(_points_table(points))
    for metric, matrix in {"psnr": bd, **(others or {})}.items():
        if matrix:
            layout.add_row(_bd_table(matrix, metric))
    if comparisons:
        layout.add_row(_comparison_table(comparisons))
    return layout


def write_results(  # noqa: PLR0913 - all that a run gave
    folder: Path,
    records: Sequence[Record],
    points: Sequence[Point],
    bd: BdMatrix,
    *,
    metadata: dict[str, Any],
    comparisons: Sequence[Comparison] = (),
    others: Mapping[str, BdMatrix] | None = None,
) -> None:
    """Write results.csv, results.json and plots; the same input gives the same bytes.

    The plots are rd.svg and rd.png of PSNR, and for each further metric rd-METRIC.svg.

    Args:
        folder: created if missing; files of these names in it are replaced.
        records: one row of results.csv each; ms_ssim is empty where there is none.
        points: "points" of results.json; an infinite PSNR (lossless) is null there.
        bd: "bd_rates" of results.json, percent by anchor and codec; null where there is none.
        metadata: "metadata" of results.json; its "dataset" is named in the plot's title.
        comparisons: "published" of results.json: label, source and BD-rates by published curve.
        others: "bd_rates_by_metric" of results.json, as `bd` for each further metric, with the
            range of values that both curves share, over which alone a BD-rate holds.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "results.csv", records)
    content = {
        "metadata": metadata,
        "points": [dataclasses.asdict(point) for point in points],
        "bd_rates": bd,
        "bd_rates_by_metric": {
            metric: {
                anchor: {
                    codec: {"percent": rate, "range": ranges.get(codec)}
                    for codec, rate in rates.items()
                }
                for anchor, rates in matrix.items()
                for ranges in (shared_ranges(points, anchor, metric=metric),)
            }
            for metric, matrix in (others or {}).items()
        },
        "published": {
            item.baseline.name: {
                "label": item.baseline.label,
                "source": item.baseline.source,
                "bd_rates": item.bd_rates,
            }
            for item in comparisons
        },
    }
    text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    num_images = len({record.image for record in records})
    images = f"{num_images} image{'' if num_images == 1 else 's'}"
    title = f"{metadata.get('dataset', 'dataset')}, {images}"
    matrices = {"psnr": bd, **(others or {})}
    write_plots(folder, points, matrices, title=title, comparisons=comparisons)


def _points_table(points: Sequence[Point]) -> Table:
    table = Table(title="Means over images", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("codec")
    headings = ["quality", "bpp", "PSNR dB", "MS-SSIM", "encode s/MP", "decode s/MP"]
    if any(point.ssimulacra2 is not None for point in points):
        headings.append("SSIMULACRA2")
    for heading in headings:
        table.add_column(heading, justify="right")
    for codec, curve in groupby(points, key=lambda point: point.codec):
        for index, point in enumerate(curve):
            table.add_row("" if index else codec, *_cells(point)[: len(headings)])
        table.add_section()
    return table


def _cells(point: Point) -> tuple[str, ...]:
    return (
        f"{point.quality:g}",
        f"{point.bpp:.3f}",
        "lossless" if math.isinf(point.psnr) else f"{point.psnr:.2f}",
        "-" if point.ms_ssim is None else f"{point.ms_ssim:.4f}",
        f"{point.encode_seconds_per_megapixel:.3f}",
        f"{point.decode_seconds_per_megapixel:.3f}",
        "-" if point.ssimulacra2 is None else f"{point.ssimulacra2:.2f}",
    )


def _bd_table(bd: BdMatrix, metric: str) -> Table:
    title = f"BD-rate in % at equal {METRICS[metric].label.split(',')[0]}, negative is smaller"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("codec")
    for anchor in bd:
        table.add_column(f"vs {anchor}", justify="right")
    for codec, cells in bd_cells(bd).items():
        table.add_row(codec, *cells)
    return table


def bd_cells(bd: BdMatrix) -> dict[str, list[str]]:
    """Return each codec's BD-rates against the anchors as text; - against itself."""
    codecs = next(iter(bd.values()), {})
    return {
        codec: [percent(None if codec == anchor else bd[anchor].get(codec)) for anchor in bd]
        for codec in codecs
    }


def _comparison_table(comparisons: Sequence[Comparison]) -> Table:
    title = "BD-rate in % against published curves, negative is smaller"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("published, not measured here")
    for codec in comparisons[0].bd_rates:
        table.add_column(codec, justify="right")
    for item in comparisons:
        table.add_row(item.baseline.label, *map(percent, item.bd_rates.values()))
    return table


def percent(value: float | None) -> str:
    """Return a BD-rate as text; - where there is none."""
    return "-" if value is None else f"{value:+.1f}"


def _write_csv(path: Path, records: Iterable[Record]) -> None:
    names = [field.name for field in dataclasses.fields(Record)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(record) for record in records)


def read_records(path: Path) -> list[Record]:
    """Read the records of a results.csv.

    Raises:
        ConfigError: it cannot be read, or is not one.
    """
    kinds = {field.name: str(field.type) for field in dataclasses.fields(Record)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Record(**{name: _value(kinds[name], text) for name, text in row.items()})
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no results.csv of bench: {first_line(error)}") from error


def _value(kind: str, text: str) -> Any:
    if kind == "str":
        return text
    if not text:
        return None
    return int(text) if kind == "int" else float(text)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
