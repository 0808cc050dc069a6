"""The implementation of `bench` and `compare`."""

from __future__ import annotations

import platform
from math import isfinite
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caecodec import __version__
from caecodec.benchmark.baselines import KODAK_FILE, compare, is_kodak, load_baselines
from caecodec.benchmark.bd_rate import METRICS, BdMatrix, bd_matrix
from caecodec.benchmark.codecs import ImageCodec, library_versions
from caecodec.benchmark.equal_size import at_equal_size
from caecodec.benchmark.extras import import_extra
from caecodec.benchmark.loading import load_codecs
from caecodec.benchmark.measure import (
    Point,
    Record,
    load_dataset,
    run_benchmark,
    summarize,
)
from caecodec.benchmark.plot import label_of, plot_name
from caecodec.benchmark.report import Picture, svg_section, table_section, tabs_section, write_page
from caecodec.benchmark.results import bd_cells, format_table, read_records, write_results
from caecodec.cli.console import print_line, stderr
from caecodec.errors import ConfigError
from caecodec.image.image_files import open_image
from caecodec.image.picture import take_apart

_EXTRA_MODULES = ("matplotlib", "bjontegaard", "pytorch_msssim")
_BD_HEADING = "<h3>BD-rate, percent: negative is smaller</h3>"


def run(
    dataset: Path,
    names: list[str],
    *,
    qualities: list[float] | None,
    out: Path,
    model: str,
    baselines: Path | None = None,
    num_pictures: int = 0,
    bits_per_pixel: float = 0.25,
    with_ssimulacra2: bool = False,
    known: Path | None = None,
) -> None:
    """Measure, print the tables to stdout, and write the results.

    Args:
        dataset: folder of images.
        names: names of the codecs, as for `make_codecs`.
        qualities: qualities for every lossy codec instead of its own.
        out: folder for the results.
        model: name or path of the model behind "cae" and its efforts.
        baselines: file of published curves for these images; the shipped one when they are Kodak.
        num_pictures: number of images under a slider in report.html, spread over the data set.
        bits_per_pixel: rate of their files.
        with_ssimulacra2: also measure SSIMULACRA2.
        known: results.csv of an earlier run, for the metrics of files that are the same.
    """
    digests, codecs = load_codecs(names, model, qualities)
    for module in (
        *_EXTRA_MODULES,
        *(["ssimulacra2"] if with_ssimulacra2 else []),
    ):  # before an hour of work, not after it
        import_extra(module)
    earlier = read_records(known) if known else []
    images = load_dataset(dataset)
    if baselines is None and is_kodak(images):
        baselines = KODAK_FILE
    published = load_baselines(baselines) if baselines else []
    records = _measure(images, codecs, with_ssimulacra2=with_ssimulacra2, known=earlier)
    points = summarize(records)
    rates = bd_matrix(points)
    others = {metric: bd_matrix(points, metric=metric) for metric in _others(points)}
    comparisons = compare(points, published)
    metadata = {
        "dataset": dataset.resolve().name,
        "caecodec": __version__,
        "models": digests,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "baselines": baselines.name if baselines else None,
        **library_versions(names),
    }
    write_results(
        out, records, points, rates, metadata=metadata, comparisons=comparisons, others=others
    )
    chosen = images[:: max(1, -(-len(images) // max(1, num_pictures)))][:num_pictures]
    _write_report(
        out / "report.html",
        title=f"caecodec on {metadata['dataset']}",
        sections=[
            ("Rate and distortion", _curves_section(out, {"psnr": rates, **others})),
            ("Median seconds per megapixel", _time_section(points)),
        ],
        pictures=_pictures(chosen, codecs, bits_per_pixel),
    )
    Console(width=110).print(format_table(points, rates, comparisons, others=others))
    print_line(f"wrote results.csv, results.json, plots and report.html in {out}")


def compare_image(
    path: Path, names: list[str], *, bits_per_pixel: float, out: Path, model: str
) -> None:
    """Write a page that shows one image by several codecs at equal file size.

    Raises:
        ConfigError: no lossy codec among the names.
    """
    _, codecs = load_codecs(names, model)
    if all(codec.is_lossless for codec in codecs):
        raise ConfigError(f"{', '.join(names)}: expected a lossy codec, which has sizes to choose")
    image = take_apart(open_image(path, str(path)))
    pixels = Image.fromarray(image.color).convert("RGB")
    pictures = _pictures([(path.name, pixels)], codecs, bits_per_pixel)
    rows = [
        [
            label_of(version.codec),
            f"{version.quality:g}",
            f"{len(version.data):,}",
            f"{8 * len(version.data) / (pixels.width * pixels.height):.3f}",
            version.fidelity,
        ]
        for version in pictures[0].versions
    ]
    heads = ("codec", "quality", "bytes", "bpp", "PSNR")
    _write_report(
        out,
        title=path.name,
        sections=[("Files", table_section(heads, rows))],
        pictures=pictures,
    )
    print_line(f"wrote {out}")


def _measure(
    images: list[tuple[str, Image.Image]],
    codecs: list[ImageCodec],
    *,
    with_ssimulacra2: bool,
    known: list[Record],
) -> list[Record]:
    with _bar() as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, record: Record) -> None:
            bar.update(task, completed=done, total=total, description=record.image)

        return run_benchmark(
            images, codecs, with_ssimulacra2=with_ssimulacra2, known=known, on_progress=show
        )


def _pictures(
    images: list[tuple[str, Image.Image]], codecs: list[ImageCodec], bits_per_pixel: float
) -> list[Picture]:
    with _bar() as bar:
        return [
            Picture(name, image, at_equal_size(codecs, image, bits_per_pixel))
            for name, image in bar.track(images, description="images at equal size")
        ]


def _write_report(
    path: Path, *, title: str, sections: list[tuple[str, str]], pictures: list[Picture]
) -> None:
    subtitle = f"Files written and read back by caecodec {__version__}; PSNR over RGB."
    write_page(path, title=title, subtitle=subtitle, sections=sections, pictures=pictures)


def _others(points: list[Point]) -> list[str]:
    """Return the metrics other than PSNR that lossy points have."""
    lossy = [point for point in points if isfinite(point.psnr)]
    names = list(METRICS)[1:]
    return [name for name in names if any(METRICS[name].value(one) is not None for one in lossy)]


def _curves_section(out: Path, matrices: dict[str, BdMatrix]) -> str:
    """Return plot and BD-rates by metric, one shown at a time."""
    parts = {}
    for metric, matrix in matrices.items():
        plot = svg_section((out / plot_name(metric)).read_text(encoding="utf-8"), metric)
        parts[METRICS[metric].label] = plot + _BD_HEADING + _bd_section(matrix)
    return tabs_section(parts)


def _bd_section(rates: BdMatrix) -> str:
    rows = [[label_of(codec), *cells] for codec, cells in bd_cells(rates).items()]
    return table_section(["codec", *(f"against {label_of(anchor)}" for anchor in rates)], rows)


def _time_section(points: list[Point]) -> str:
    curves: dict[str, list[Point]] = {}
    for point in points:
        curves.setdefault(point.codec, []).append(point)
    rows = [
        [
            label_of(codec),
            f"{median(point.encode_seconds_per_megapixel for point in curve):.3f}",
            f"{median(point.decode_seconds_per_megapixel for point in curve):.3f}",
        ]
        for codec, curve in curves.items()
    ]
    return table_section(["codec", "encode", "decode"], rows)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    )
