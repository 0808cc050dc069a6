"""Show what limits a model: where its bits go at each quality, and on which images it loses.

python bench/limits.py DATASET RESULTS.csv [--model NAME] [--anchor CODEC]

RESULTS.csv is `caecodec bench`'s, of the same images; the anchor one of its codecs. The rates of y
and z are what the tables promise; the rest of a file is its header, boxes and checksums.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

from caecodec.benchmark.bd_rate import bd_rates
from caecodec.benchmark.measure import MAX_PSNR, load_dataset, summarize
from caecodec.benchmark.results import read_records
from caecodec.codec.codec import Codec
from caecodec.config import DEFAULT_TUNE
from caecodec.image.metrics import psnr

QUALITIES = (0, 25, 50, 75, 100)


def by_quality(codec: Codec, images: list[tuple[str, Image.Image]]) -> list[dict[str, float]]:
    """Return mean bits per pixel of z, y and the rest, symbols that are not 0, and PSNR."""
    rows = []
    for quality in QUALITIES:
        measured = [_one(codec, image, quality) for _, image in images]
        means = {name: statistics.fmean(one[name] for one in measured) for name in measured[0]}
        rows.append({"quality": quality, **{name: round(x, 4) for name, x in means.items()}})
    return rows


def _one(codec: Codec, image: Image.Image, quality: int) -> dict[str, float]:
    pixels = image.width * image.height
    bits, nonzero = {"z": 0.0, "y": 0.0}, 0
    for number, (symbols, indexes) in enumerate(codec.start(image).symbols(quality)):
        bits["zy"[number % 2]] += codec.tables.bits(symbols, indexes)
        nonzero += int(np.count_nonzero(symbols)) if number % 2 else 0
    data = codec.compress(image, quality=quality)
    return {
        "z_bpp": bits["z"] / pixels,
        "y_bpp": bits["y"] / pixels,
        "rest_bpp": (8 * len(data) - bits["z"] - bits["y"]) / pixels,
        "nonzero_per_pixel": nonzero / pixels,
        "psnr": min(psnr(np.array(image), np.array(codec.decompress(data))), MAX_PSNR),
    }


def by_image(results: Path, anchor: str) -> dict[str, float | None]:
    """Return caecodec's BD-rate against the anchor on each image, worst first."""
    records = read_records(results)
    rates = {
        name: bd_rates(summarize(one for one in records if one.image == name), anchor).get("cae")
        for name in dict.fromkeys(record.image for record in records)
    }
    return dict(sorted(rates.items(), key=lambda item: -(item[1] or 0.0)))


def main() -> None:
    """Print both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--model", default=DEFAULT_TUNE)
    parser.add_argument("--anchor", default="avif")
    options = parser.parse_args()
    codec = Codec(options.model)
    found = {
        "model": codec.digest.hex(),
        "by_quality": by_quality(codec, load_dataset(options.dataset)),
        f"bd_rate_against_{options.anchor}": by_image(options.results, options.anchor),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
