"""Measure Butteraugli's 3-norm of codecs on a folder of images, and print BD-rates by it as JSON.

python bench/butteraugli.py DATASET [--codecs cae,cae-visual,jpeg,jxl,avif,avif-psnr] [--model NAME]
                            [--tool butteraugli_main] [--qualities 10,20,...]
                            [--keep EARLIER.json]

No package that pip installs brings Butteraugli, so this calls libjxl's own tool (Debian:
libjxl-devtools), with its default intensity of 80 nits. The 3-norm is 0 for equal images, and about
1 where a difference just shows. A curve is the means over images by quality; BD-rates follow
`caecodec.benchmark.bd_rate`, with the negative norm as the value that rises.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from caecodec.benchmark.bd_rate import BD_ANCHORS, Sample, bd_rate, rising
from caecodec.benchmark.codecs import CAE_QUALITIES, ImageCodec, is_cae, library_versions
from caecodec.benchmark.loading import load_codecs
from caecodec.benchmark.measure import load_dataset
from caecodec.config import DEFAULT_TUNE
from caecodec.errors import CodecError, ConfigError

Images = list[tuple[str, Image.Image]]


def three_norm(tool: str, original: Image.Image, decoded: Image.Image, folder: Path) -> float:
    """Return Butteraugli's 3-norm of a decoded image."""
    paths = folder / "original.png", folder / "decoded.png"
    for path, image in zip(paths, (original, decoded), strict=True):
        image.save(path, compress_level=1)
    try:
        done = subprocess.run(  # noqa: S603 - the user's own tool
            [tool, *map(str, paths)], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"no {tool}: install libjxl's tools (Debian: libjxl-devtools), or give --tool"
        ) from error
    found = re.search(r"^3-norm: ([\d.]+)", done.stdout, re.MULTILINE)
    if found is None:
        raise ConfigError(f"{tool} printed no 3-norm: {done.stdout[:100]!r}")
    return float(found[1])


def curve_of(codec: ImageCodec, images: Images, tool: str) -> list[dict[str, float]]:
    """Return mean rate and mean 3-norm at each quality."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for quality in codec.qualities:
            rates, norms = [], []
            for _, image in images:
                data = codec.encode(image, quality)
                decoded = codec.decode(data).convert("RGB")
                rates.append(8 * len(data) / (image.width * image.height))
                norms.append(three_norm(tool, image, decoded, Path(name)))
            rows.append(
                {
                    "quality": quality,
                    "bpp": statistics.fmean(rates),
                    "norm": statistics.fmean(norms),
                }
            )
            print(codec.name, rows[-1], file=sys.stderr)
    return rows


def samples_of(name: str, rows: list[dict[str, float]]) -> list[Sample]:
    """Return the points of a curve that count: of caecodec's own eleven, the nine in between."""
    is_whole = is_cae(name) and len(rows) == len(CAE_QUALITIES)
    chosen = rows[1:-1] if is_whole else rows
    return rising(Sample(row["bpp"], -row["norm"]) for row in chosen)


def main() -> None:
    """Print curves and BD-rates by anchor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--codecs", default="cae,cae-visual,jpeg,jxl,avif,avif-psnr")
    parser.add_argument("--qualities")
    parser.add_argument("--model", default=DEFAULT_TUNE)
    parser.add_argument("--tool", default="butteraugli_main")
    parser.add_argument("--keep", type=Path, help="results whose other curves are taken over")
    options = parser.parse_args()
    names = options.codecs.split(",")
    qualities = [float(q) for q in options.qualities.split(",")] if options.qualities else None
    try:
        images = load_dataset(options.dataset)
        digests, codecs = load_codecs(names, options.model, qualities)
        curves = {codec.name: curve_of(codec, images, options.tool) for codec in codecs}
    except CodecError as error:
        sys.exit(f"error: {error}")
    versions = library_versions(names)
    if options.keep:
        kept = json.loads(options.keep.read_text())
        if kept["metadata"]["dataset"] != options.dataset.name:
            sys.exit(f"error: {options.keep} is of {kept['metadata']['dataset']}")
        curves = {**kept["curves"], **curves}
        digests = {**kept["metadata"]["models"], **digests}
        versions = {**kept["metadata"]["versions"], **versions}
    samples = {name: samples_of(name, rows) for name, rows in curves.items()}
    results = {
        "metadata": {
            "dataset": options.dataset.name,
            "images": len(images),
            "models": digests,
            "versions": versions,
        },
        "curves": curves,
        "bd_rates": {
            anchor: {name: bd_rate(samples[anchor], own) for name, own in samples.items()}
            for anchor in BD_ANCHORS
            if anchor in samples
        },
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
