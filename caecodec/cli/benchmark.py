"""The work behind `caecodec bench`."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caecodec import __version__
from caecodec.bench.baselines import KODAK_FILE, compare, is_kodak, load_baselines
from caecodec.bench.codecs import CLASSIC, is_cae, library_versions, make_codecs
from caecodec.bench.extras import import_extra
from caecodec.bench.report import format_table, write_results
from caecodec.bench.runner import (
    Record,
    bd_matrix,
    load_dataset,
    run_benchmark,
    summarize,
)
from caecodec.cli.console import say, stderr
from caecodec.codec import shared_codec

_EXTRA_MODULES = ("matplotlib", "bjontegaard", "pytorch_msssim")


def run(
    dataset: Path,
    names: list[str],
    qualities: list[float] | None,
    out: Path,
    model: str,
    baselines: Path | None = None,
) -> None:
    """Measure, print the tables on stdout, and write the results.

    Args:
        dataset: folder of images.
        names: of the codecs, as for `make_codecs`.
        qualities: for every lossy codec instead of its own.
        out: folder of the results.
        model: name or path of the model behind "cae" and its efforts.
        baselines: file of published curves for these images; the shipped one when they are Kodak.
    """
    models = {name: CLASSIC if name == CLASSIC else model for name in names if is_cae(name)}
    loaded = {name: shared_codec(name) for name in set(models.values())}
    codecs = make_codecs(
        names, cae=loaded.get(model), classic=loaded.get(CLASSIC), qualities=qualities
    )
    for module in _EXTRA_MODULES:  # before an hour of work, not after it
        import_extra(module)
    images = load_dataset(dataset)
    if baselines is None and is_kodak(images):
        baselines = KODAK_FILE
    published = load_baselines(baselines) if baselines else []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, record: Record) -> None:
            bar.update(task, completed=done, total=total, description=record.image)

        records = run_benchmark(images, codecs, on_progress=show)
    points = summarize(records)
    rates = bd_matrix(points)
    comparisons = compare(points, published)
    metadata = {
        "dataset": dataset.resolve().name,
        "caecodec": __version__,
        "models": {name: loaded[used].digest.hex() for name, used in models.items()},
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "baselines": baselines.name if baselines else None,
        **library_versions(names),
    }
    write_results(out, records, points, rates, metadata=metadata, comparisons=comparisons)
    Console(width=110).print(format_table(points, rates, comparisons))
    say(f"wrote results.csv, results.json, rd.svg and rd.png in {out}")
