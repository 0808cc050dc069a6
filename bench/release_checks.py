"""Measure what a release promises beyond the R-D curve, on a folder of images.

python bench/release_checks.py DATASET

Prints as JSON: how far file bits lie above what the tables promise, the images on which size or
PSNR fail to rise with quality or a file is larger than a lossless one, warm encode and decode times
with 2 threads, and the process time of commands that must start fast.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from caecodec.benchmark.measure import load_dataset
from caecodec.codec.codec import Codec
from caecodec.config import DEFAULT_TUNE
from caecodec.image.metrics import psnr
from caecodec.inspection import info
from caecodec.weights.complexity import kmac_per_pixel

QUALITIES = tuple(range(0, 101, 10))
RATE_QUALITIES = (0, 50, 100)
REPEATS = 15


def rate_overhead(codec: Codec, images: list[tuple[str, Image.Image]]) -> dict[str, float]:
    """Compare file bits with the promise of the tables; excess is beyond 1 % plus 400 bits.

    Files with lossless parts are left out: the tables promise nothing of these.
    """
    ratios, excesses = [], []
    for _, image in images:
        for quality in RATE_QUALITIES:
            data = codec.compress(image, quality=quality)
            if info(data).lossless_share:
                continue
            sections = codec.start(image).symbols(quality)
            promised = sum(codec.tables.bits(*section) for section in sections)
            bits = 8 * len(data)
            ratios.append(bits / promised)
            excesses.append(bits - 1.01 * promised - 400)
    return {
        "mean_percent_above_tables": 100 * (statistics.mean(ratios) - 1),
        "worst_percent_above_tables": 100 * (max(ratios) - 1),
        "worst_bits_beyond_1_percent_and_400": max(excesses),
    }


def failures(codec: Codec, images: list[tuple[str, Image.Image]]) -> dict[str, list[str]]:
    """Name the images and qualities at which a file is not as one expects.

    Size and PSNR rise with quality until the file is lossless, and no file is larger than that.
    """
    found: dict[str, list[str]] = {"not_rising": [], "larger_than_lossless": []}
    for name, image in images:
        lossless = len(codec.compress(image, lossless=True))
        size, level = 0, 0.0
        for quality in QUALITIES:
            data = codec.compress(image, quality=quality)
            decibels = psnr(np.array(image), np.array(codec.decompress(data)))
            has_risen = len(data) > size and decibels > level
            if not has_risen and not math.isinf(level):
                found["not_rising"].append(f"{name} at {quality}")
            if len(data) > lossless:
                found["larger_than_lossless"].append(f"{name} at {quality}")
            size, level = len(data), decibels
    return found


def median_seconds(work: Callable[[], object]) -> float:
    """Return the median wall time of repeated calls, after two to warm up."""
    work()
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def gemm_gflops() -> float:
    """Return the fp32 rate of a matrix product of a block's size, 2 operations a MAC."""
    a, b = torch.rand(6144, 192), torch.rand(192, 384)
    return 2 * 6144 * 192 * 384 / median_seconds(lambda: a @ b) / 1e9


def warm_times(codec: Codec, image: Image.Image) -> dict[str, float]:
    """Time one image in a warm process, beside what its MACs alone would take."""
    torch.set_num_threads(2)
    data = codec.compress(image)
    encode_kmac, decode_kmac = kmac_per_pixel(codec.weights.config)
    rate = gemm_gflops()
    pixels = image.width * image.height
    with torch.inference_mode():
        encode = median_seconds(lambda: codec.compress(image))
        decode = median_seconds(lambda: codec.decompress(data))
    return {
        "encode_seconds": encode,
        "decode_seconds": decode,
        "fp32_gemm_gflops": rate,
        "encode_times_gemm": encode / (2 * encode_kmac * 1000 * pixels / rate / 1e9),
        "decode_times_gemm": decode / (2 * decode_kmac * 1000 * pixels / rate / 1e9),
    }


def process_seconds(*args: str) -> float:
    """Return the median processor time of a command, in seconds."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "caecodec", *args]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def main() -> None:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default=DEFAULT_TUNE)
    options = parser.parse_args()
    codec = Codec(options.model)
    images = load_dataset(options.dataset)
    sample = Path(__file__).parents[1] / "tests" / "golden" / "decode" / "rgb-2x2.cae"
    results = {
        "dataset": options.dataset.name,
        "model": codec.digest.hex(),
        "warm": warm_times(codec, images[0][1]),
        "rate": rate_overhead(codec, images),
        **failures(codec, images),
        "process_seconds": {
            "--help": process_seconds("--help"),
            "info": process_seconds("info", str(sample)),
        },
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
