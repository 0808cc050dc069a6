"""Compare caecodec with Pillow's AVIF on screenshots and drawings, where parts are lossless.

python bench/screens.py [FOLDER] [--tune psnr|visual] > screens.json; without FOLDER, drawn images
python bench/screens.py FOLDER --lossless > lossless.json; sizes of lossless files alone

For every PSNR that AVIF reaches between its qualities 30 and 95, each codec's size is that of the
smallest file that has at least that PSNR, interpolated between neighbouring qualities; the excess
is the mean of log sizes against AVIF's, in percent, as BD-rate's. A lossless file has any PSNR.
SSIMULACRA2 likewise. Sizes are also set against the smallest lossless file of the image.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from caecodec.benchmark.extras import import_extra
from caecodec.codec.codec import Codec
from caecodec.image.image_files import open_image
from caecodec.image.metrics import psnr, ssimulacra2

QUALITIES = (5, 15, 30, 40, 50, 60, 70, 80, 90, 95)
AVIF_QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
COMPARED = 30
"""Lowest quality of AVIF whose values count."""
EXACT = {"psnr": 99.0, "ssimulacra2": 100.0}
"""Value of an image that is equal to its original."""
STEPS = 200
PHOTO = Path(__file__).parent.parent / "examples" / "coffee.png"


class Point(NamedTuple):
    """A file: its bytes, and how close it is."""

    size: int
    psnr: float
    ssimulacra2: float


def measured(original: np.ndarray, decoded: np.ndarray, size: int) -> Point:
    """Return the point of a decoded image."""
    if (original == decoded).all():
        return Point(size, EXACT["psnr"], EXACT["ssimulacra2"])
    return Point(size, psnr(original, decoded), ssimulacra2(original, decoded))


def with_avif(image: Image.Image, quality: int) -> Point:
    """Return the point of Pillow's AVIF."""
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=quality)
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    return measured(np.asarray(image), decoded, len(buffer.getvalue()))


def with_cae(codec: Codec, image: Image.Image, quality: int) -> Point:
    """Return the point of caecodec."""
    data = codec.compress(image, quality=quality)
    return measured(np.asarray(image), np.asarray(codec.decompress(data)), len(data))


def lossless_sizes(codec: Codec, image: Image.Image) -> dict[str, int]:
    """Return the bytes of lossless files."""
    options = {
        "webp": {"format": "WEBP", "lossless": True, "quality": 100, "method": 6},
        "png": {"format": "PNG", "optimize": True},
    }
    sizes = {"cae": len(codec.compress(image, lossless=True))}
    for name, chosen in options.items():
        buffer = io.BytesIO()
        image.save(buffer, **chosen)
        sizes[name] = len(buffer.getvalue())
    imagecodecs = import_extra("imagecodecs")
    jxl = imagecodecs.jpegxl_encode(np.asarray(image), lossless=True, effort=7)
    return sizes | {"jxl": len(jxl)}


def size_for(points: list[Point], metric: str, value: float) -> float:
    """Return the log of the size that at least a value takes."""
    pairs = sorted((getattr(point, metric), math.log(point.size)) for point in points)
    enough = [size for reached, size in pairs if reached >= value]
    options = [min(enough)] if enough else [pairs[-1][1]]
    for (low, small), (high, large) in itertools.pairwise(pairs):
        if low <= value < high < EXACT[metric]:
            options.append(small + (large - small) * (value - low) / (high - low))
    return min(options)


def excess(points: list[Point], avif: list[Point], metric: str) -> float:
    """Return the mean excess over AVIF in percent."""
    reached = [getattr(point, metric) for point in avif[AVIF_QUALITIES.index(COMPARED) :]]
    values = np.linspace(min(reached), max(reached), STEPS)
    logs = [size_for(points, metric, value) - size_for(avif, metric, value) for value in values]
    return 100 * (math.exp(statistics.fmean(logs)) - 1)


def compare(codec: Codec, image: Image.Image) -> dict[str, Any]:
    """Return the figures of one image."""
    avif = [with_avif(image, quality) for quality in AVIF_QUALITIES]
    cae = [with_cae(codec, image, quality) for quality in QUALITIES]
    lossless = lossless_sizes(codec, image)
    return {
        **{metric: round(excess(cae, avif, metric), 1) for metric in EXACT},
        "lossless bytes": lossless,
        "largest file": max(point.size for point in cae),
        "cae": cae,
        "avif": avif,
    }


WORDS = (
    "a",
    "codec",
    "of",
    "images",
    "keeps",
    "text",
    "as",
    "it",
    "is",
    "and",
    "how",
    "they",
    "look",
)


class Canvas:
    """A picture of a screen that is drawn here."""

    def __init__(self, color: str = "white") -> None:
        self.image = Image.new("RGB", (640, 480), color)
        self.draw = ImageDraw.Draw(self.image)
        self._random = np.random.default_rng(22)

    def write(self, box: tuple[int, int, int, int], *, size: int = 13, ink: str = "black") -> None:
        """Fill a rectangle, given by its left, top, right and bottom, with lines of words."""
        left, top, right, bottom = box
        font = ImageFont.load_default(size)
        for y in range(top, bottom - size, size * 3 // 2):
            words = self._random.choice(WORDS, (right - left) // (size * 3))
            self.draw.text((left, y), " ".join(words), font=font, fill=ink)

    def rule(self) -> None:
        """Draw a table of numbers."""
        for x, y in itertools.product(range(0, 640, 80), range(0, 480, 24)):
            self.draw.rectangle((x, y, x + 80, y + 24), outline="#c0c0c0")
            text = f"{self._random.integers(10**5)}"
            self.draw.text((x + 8, y + 5), text, font=ImageFont.load_default(12), fill="black")

    def plot(self) -> None:
        """Draw three curves."""
        for ink in ("#1f77b4", "#ff7f0e", "#2ca02c"):
            walk = 240 + np.cumsum(self._random.normal(0, 6, 120))
            self.draw.line([(20 + 5 * x, float(y)) for x, y in enumerate(walk)], fill=ink, width=2)


def drawn() -> dict[str, Image.Image]:
    """Return pictures of text, a terminal, a table, a chart, windows, a page with a photograph."""
    text, terminal, table, chart = Canvas(), Canvas("#101418"), Canvas(), Canvas()
    text.write((30, 20, 600, 470))
    terminal.write((10, 10, 620, 470), size=12, ink="#c8d0c8")
    table.rule()
    chart.plot()
    chart.write((40, 440, 600, 470))
    windows, page = Canvas("#336699"), Canvas()
    for left, top in ((40, 30), (180, 120), (320, 220)):
        windows.draw.rectangle(
            (left, top, left + 280, top + 220), fill="#f0f0f0", outline="#404040"
        )
        windows.draw.rectangle((left, top, left + 280, top + 22), fill="#3060c0")
        windows.write((left + 12, top + 32, left + 270, top + 210), size=12)
    page.image.paste(Image.open(PHOTO).convert("RGB").resize((300, 200)), (320, 40))
    page.write((20, 30, 300, 470))
    page.write((320, 260, 620, 470))
    names = ("text", "terminal", "table", "chart", "windows", "page with a photograph")
    pictures = (text, terminal, table, chart, windows, page)
    return {name: canvas.image for name, canvas in zip(names, pictures, strict=True)}


def mean_excess(rows: Iterable[dict[str, Any]], metric: str) -> float:
    """Return the geometric mean of sizes against AVIF, as an excess in percent."""
    return round(
        100 * math.expm1(statistics.fmean(math.log1p(row[metric] / 100) for row in rows)), 1
    )


def main() -> None:
    """Print the figures of every image, and their means, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--tune", default="psnr")
    parser.add_argument("--lossless", action="store_true")
    arguments = parser.parse_args()
    images = drawn()
    if arguments.folder:
        paths = sorted(path for path in arguments.folder.iterdir() if path.suffix == ".png")
        images = {path.stem: open_image(path, path.name).convert("RGB") for path in paths}
    codec = Codec(arguments.tune)
    if arguments.lossless:
        sizes = {name: lossless_sizes(codec, image) for name, image in images.items()}
        total = {
            name: sum(row[name] for row in sizes.values()) for name in ("cae", "webp", "png", "jxl")
        }
        report = {"total bytes": total, "images": sizes}
    else:
        rows = {name: compare(codec, image) for name, image in images.items()}
        means = {metric: mean_excess(rows.values(), metric) for metric in EXACT}
        report = {"mean excess over AVIF, percent": means, "images": rows}
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
