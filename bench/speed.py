"""Measure time and memory of caecodec beside common codecs, in one run on one machine.

python bench/speed.py DATASET [--out FILE] [--repeats N] [--model NAME] [--codecs NAMES]
                      [--threads NUMBERS] [--sizes MEGAPIXELS]

Each codec runs at the lowest whole quality with which the first image reaches 35 dB, so that all do
work of about equal worth; bpp and PSNR over all images stand beside the times.

Everything is measured in child processes that may use so many cores and no more. Times are warm:
one call unmeasured, then the median of the repeats for each image, then the median over images.
Memory is the peak of a fresh process that loads the first image and encodes it, or decodes its
file, once, less the peak of one that only imports what the codec needs: a model's weights count.

The last table shows caecodec alone on larger images, the first one mirrored and repeated. One
process takes the sizes in turns; memory is that of another that encodes and decodes one of them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

import caecodec
from caecodec.benchmark.codecs import (
    FIXED_MODELS,
    ImageCodec,
    is_cae,
    library_versions,
    make_codecs,
)
from caecodec.config import DEFAULT_TUNE
from caecodec.image.image_files import image_suffixes
from caecodec.image.metrics import psnr

CODECS = ("cae", "jpeg", "webp", "jp2", "jxl", "avif")
THREADS = (1, 2)
SIZES = (0.4, 1.6, 6.4, 16.0)
REPEATS = 5
TARGET_PSNR = 35.0
DIRECTIONS = ("encode", "decode")

Job = dict[str, Any]
"""What a child is to do: "task" and "codec", and what the task needs; see `TASKS`."""


def build_codec(job: Job) -> ImageCodec:
    """Return the codec of a job; of two JPEG curves the first, 4:2:0."""
    name, models = job["codec"], {}
    if is_cae(name):
        from caecodec.codec.codec import Codec  # noqa: PLC0415 - loads torch, where it is measured

        models = {name: Codec(FIXED_MODELS.get(name, job["model"]))}
    return make_codecs([name], models=models)[0]


def load_image(job: Job) -> Image.Image:
    """Return the first image of a job, mirrored and repeated to the job's size where it has one."""
    image = Image.open(job["paths"][0]).convert("RGB")
    return grow(image, job["megapixels"]) if job.get("megapixels") else image


def grow(image: Image.Image, megapixels: float) -> Image.Image:
    """Return a 3:2 image of this size, filled with mirrored copies of another."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(1.5 * height)
    below, right = max(0, height - image.height), max(0, width - image.width)
    tiled = np.pad(np.asarray(image), ((0, below), (0, right), (0, 0)), mode="symmetric")
    return Image.fromarray(np.ascontiguousarray(tiled[:height, :width]))


def choose_quality(job: Job) -> dict[str, float]:
    """Find by bisection the lowest whole quality that reaches the target, or 100."""
    codec, image = build_codec(job), load_image(job)
    low, high = 0, 100
    while low < high:
        middle = (low + high) // 2
        decoded = codec.decode(codec.encode(image, middle)).convert("RGB")
        if psnr(np.asarray(image), np.asarray(decoded)) >= TARGET_PSNR:
            high = middle
        else:
            low = middle + 1
    return {"quality": float(high)}


def warm_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of repeated calls, after one that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_times(job: Job) -> dict[str, float]:
    """Time both directions on every image of a job, and take rate and PSNR along."""
    codec = build_codec(job)
    rows = []
    for path in job["paths"]:
        image = load_image({**job, "paths": [path]})
        megapixels = image.width * image.height / 1e6
        data = codec.encode(image, job["quality"])
        decoded = codec.decode(data).convert("RGB")
        encode = partial(codec.encode, image, job["quality"])
        rows.append(
            (
                warm_seconds(encode, job["repeats"]) / megapixels,
                warm_seconds(partial(codec.decode, data), job["repeats"]) / megapixels,
                8 * len(data) / megapixels / 1e6,
                psnr(np.asarray(image), np.asarray(decoded)),
            )
        )
    encode_seconds, decode_seconds, rates, levels = zip(*rows, strict=True)
    return {
        "encode_seconds_per_megapixel": statistics.median(encode_seconds),
        "decode_seconds_per_megapixel": statistics.median(decode_seconds),
        "bpp": statistics.fmean(rates),
        "psnr": statistics.fmean(levels),
    }


def time_sizes(job: Job) -> dict[str, Any]:
    """Time both directions on the first image at every size of a job, the sizes in turns."""
    codec = build_codec(job)
    works: list[partial[object]] = []
    rows = []
    for size in job["sizes"]:
        image = load_image({**job, "megapixels": size})
        data = codec.encode(image, job["quality"])
        works += [partial(codec.encode, image, job["quality"]), partial(codec.decode, data)]
        rows.append({"megapixels": size, "bpp": 8 * len(data) / image.width / image.height})
    turns = [[warm_seconds(work, 1) for work in works] for _ in range(job["repeats"])]
    medians = [statistics.median(seconds) for seconds in zip(*turns, strict=True)]
    for number, row in enumerate(rows):
        for direction, seconds in zip(DIRECTIONS, medians[2 * number :], strict=False):
            row[f"{direction}_seconds_per_megapixel"] = seconds / row["megapixels"]
    return {"rows": rows}


def encode_and_decode(job: Job) -> dict[str, float]:
    """Encode and decode the first image once."""
    codec = build_codec(job)
    codec.decode(codec.encode(load_image(job), job["quality"]))
    return {}


def only_import(job: Job) -> dict[str, float]:
    """Import what the codec needs, and load no weights."""
    if is_cae(job["codec"]):
        importlib.import_module("caecodec.codec.codec")
    else:
        build_codec(job)
    return {}


def encode_once(job: Job) -> dict[str, float]:
    """Encode the first image into the job's file."""
    Path(job["file"]).write_bytes(build_codec(job).encode(load_image(job), job["quality"]))
    return {}


def decode_once(job: Job) -> dict[str, float]:
    """Decode the job's file."""
    build_codec(job).decode(Path(job["file"]).read_bytes())
    return {}


TASKS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "quality": choose_quality,
    "times": measure_times,
    "sizes": time_sizes,
    "both": encode_and_decode,
    "imports": only_import,
    "encode": encode_once,
    "decode": decode_once,
}


def peak_megabytes() -> float:
    """Return the most memory that this process had resident, in 10^6 bytes.

    Linux starts `ru_maxrss` of a child with the parent's peak, so its own counter is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024 / 1e6
    import resource  # noqa: PLC0415 - absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def child() -> None:
    """Do the job on stdin in this process, and print its result as JSON."""
    job = json.load(sys.stdin)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    result = TASKS[job["task"]](job)
    print(json.dumps({**result, "peak_megabytes": peak_megabytes()}))


def run_child(job: Job) -> dict[str, Any]:
    """Do a job in a fresh process with its number of threads."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job["threads"]))
    command = [sys.executable, __file__, "--child"]
    done = subprocess.run(  # noqa: S603 - our own command
        command,
        input=json.dumps(job),
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def measure_codec(job: Job) -> dict[str, Any]:
    """Return the times and the memory of one codec with one number of threads."""
    times = run_child({**job, "task": "times"})
    with tempfile.TemporaryDirectory() as folder:
        memory_job = {**job, "file": str(Path(folder) / "file")}
        imports, encode, decode = (
            run_child({**memory_job, "task": task})["peak_megabytes"]
            for task in ("imports", *DIRECTIONS)
        )
    return {
        **{key: job[key] for key in ("codec", "threads", "quality")},
        **{key: value for key, value in times.items() if key != "peak_megabytes"},
        "encode_megabytes": encode - imports,
        "decode_megabytes": decode - imports,
    }


def measure_growth(job: Job, sizes: list[float]) -> list[dict[str, Any]]:
    """Return the times and the memory of one codec on larger and larger images."""
    imports = run_child({**job, "task": "imports"})["peak_megabytes"]
    rows = run_child({**job, "task": "sizes", "sizes": sizes})["rows"]
    first = {**job, "paths": job["paths"][:1]}
    return [
        {
            "codec": job["codec"],
            "threads": job["threads"],
            **row,
            "megabytes": run_child({**first, "task": "both", "megapixels": row["megapixels"]})[
                "peak_megabytes"
            ]
            - imports,
        }
        for row in rows
    ]


def codecs_table(rows: list[dict[str, Any]], threads: int) -> Table:
    """Lay out the codecs, with ratios against caecodec where it was measured."""
    rows = [row for row in rows if row["threads"] == threads]
    ours = next((row for row in rows if row["codec"] == "cae"), None)
    table = Table(title=f"threads: {threads}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("codec")
    for heading in ("quality", "bpp", "PSNR dB"):
        table.add_column(heading, justify="right")
    units = {"seconds_per_megapixel": "s/MP", "megabytes": "MB"}
    keys = [f"{direction}_{unit}" for unit in units for direction in DIRECTIONS]
    for unit in units.values():
        for direction in DIRECTIONS:
            table.add_column(f"{direction} {unit}", justify="right")
            table.add_column("/ cae", justify="right")
    for row in rows:
        cells = [f"{row['quality']:g}", f"{row['bpp']:.3f}", f"{row['psnr']:.2f}"]
        for key in keys:
            cells.append(f"{row[key]:.4g}" if row[key] < 1 else f"{row[key]:.3g}")
            cells.append(f"{row[key] / ours[key]:.3g}" if ours and ours[key] else "-")
        table.add_row(row["codec"], *cells)
    return table


def growth_table(rows: list[dict[str, Any]]) -> Table:
    """Lay out time per pixel over size, with ratios against the smallest size."""
    table = Table(title="caecodec by size", title_justify="left", box=box.SIMPLE_HEAD)
    headings = ("threads", "megapixels", "encode s/MP", "/ first", "decode s/MP", "/ first", "MB")
    for heading in headings:
        table.add_column(heading, justify="right")
    keys = [f"{direction}_seconds_per_megapixel" for direction in DIRECTIONS]
    for row in rows:
        first = next(other for other in rows if other["threads"] == row["threads"])
        cells = [f"{row['threads']}", f"{row['megapixels']:g}"]
        for key in keys:
            cells += [f"{row[key]:.3f}", f"{row[key] / first[key]:.2f}"]
        table.add_row(*cells, f"{row['megabytes']:.0f}")
    return table


def arguments(text: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--model", default=DEFAULT_TUNE)
    parser.add_argument("--codecs", type=lambda names: names.split(","), default=list(CODECS))
    parser.add_argument("--threads", type=numbers(int), default=list(THREADS))
    parser.add_argument("--sizes", type=numbers(float), default=list(SIZES))
    return parser.parse_args(text)


def numbers(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return a reader of numbers with commas between."""
    return lambda text: [kind(part) for part in text.split(",") if part]


def metadata(options: argparse.Namespace, num_images: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "dataset": options.dataset.resolve().name,
        "images": num_images,
        "repeats": options.repeats,
        "target_psnr": TARGET_PSNR,
        "caecodec": caecodec.__version__,
        "model": options.model,
        "torch": importlib.metadata.version("torch"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        **library_versions(options.codecs),
    }


def main() -> None:
    """Measure everything, print the tables, and write the JSON."""
    if sys.argv[1:] == ["--child"]:
        child()
        return
    options = arguments()
    found = sorted(options.dataset.rglob("*"))
    suffixes = image_suffixes()
    paths = [str(path) for path in found if path.suffix.lower() in suffixes]
    if not paths:
        sys.exit(f"error: no image in {options.dataset}")
    base = {"paths": paths, "repeats": options.repeats, "model": options.model}
    codecs: list[dict[str, Any]] = []
    growth: list[dict[str, Any]] = []
    for name in options.codecs:
        job = {**base, "codec": name, "threads": max(options.threads)}
        job["quality"] = run_child({**job, "task": "quality"})["quality"]
        for threads in options.threads:
            print(f"{name}, threads: {threads}", file=sys.stderr)
            codecs.append(measure_codec({**job, "threads": threads}))
            if name == "cae":
                growth += measure_growth({**job, "threads": threads}, options.sizes)
    console = Console(width=130)
    for threads in options.threads:
        console.print(codecs_table(codecs, threads))
    if growth:
        console.print(growth_table(growth))
    if options.out:
        facts = metadata(options, len(paths))
        content = {"metadata": facts, "codecs": codecs, "growth": growth}
        options.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
