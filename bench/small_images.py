"""Measure many small images: one call of caecodec, a process for each, and Pillow's AVIF.

python bench/small_images.py FOLDER [--count 1000] [--side 256] [--processes 40]

Crops of FOLDER's images, as PNG. One `caecodec compress -r` and one `caecodec decompress -r` take
all of them, with one job at a time and with two; a process of its own for each is measured on the
first PROCESSES of them. Pillow encodes and decodes AVIF (speed 6, quality 50) in one Python process
that reads and writes the same files. Seconds are those of whole processes. `Image.open` of a `.cae`
file is timed as well, in a process that never loads torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

_AVIF = """
import sys
from pathlib import Path
from PIL import Image
source, target, suffix = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
target.mkdir()
options = {"quality": 50, "speed": 6} if suffix == ".avif" else {}
for path in sorted(source.iterdir()):
    with Image.open(path) as image:
        image.save(target / (path.stem + suffix), **options)
"""
_OPEN = """
import sys, time
from pathlib import Path
from PIL import Image
import caecodec.CaeImagePlugin
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.perf_counter()
    with Image.open(path) as image:
        image.size
    print(time.perf_counter() - started)
assert "torch" not in sys.modules
"""


def crops(folder: Path, target: Path, count: int, side: int) -> None:
    """Cut squares out of the images of a folder, row by row, image after image."""
    target.mkdir()
    number = 0
    while True:
        for path in sorted(folder.glob("*.png")):
            with Image.open(path) as image:
                for top in range(0, image.height - side + 1, side):
                    for left in range(0, image.width - side + 1, side):
                        if number == count:
                            return
                        square = image.crop((left, top, left + side, top + side)).convert("RGB")
                        square.save(target / f"{number:04}.png")
                        number += 1


def run(*command: str | Path) -> tuple[float, str]:
    """Run a command, and return its seconds and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, *map(str, command)], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - started, done.stdout


def measure(folder: Path, count: int, side: int, processes: int) -> dict[str, Any]:
    """Return files per second of each way, both directions."""
    results: dict[str, Any] = {"count": count, "side": side}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        crops(folder, work / "png", count, side)
        for jobs in ("1", "2"):
            cae, back = work / f"cae{jobs}", work / f"back{jobs}"
            for verb, source, target in (("compress", "png", cae), ("decompress", cae, back)):
                seconds, _ = run(
                    "-m", "caecodec", verb, "-r", work / source, "-o", target, "-j", jobs,
                    "--progress", "none",
                )  # fmt: skip
                results[f"one {verb}, -j {jobs}"] = round(count / seconds, 2)
        for verb, source, suffix in (("compress", "png", ".cae"), ("decompress", "cae1", ".png")):
            inputs = sorted((work / source).iterdir())[:processes]
            single = work / f"single{suffix}"
            times = [run("-m", "caecodec", verb, one, single, "-f")[0] for one in inputs]
            results[f"a process for each {verb}"] = round(1 / statistics.fmean(times), 2)
        for verb, source, suffix in (("encode", "png", ".avif"), ("decode", "avif", ".png")):
            target = work / ("avif" if suffix == ".avif" else "avif-back")
            seconds, _ = run("-c", _AVIF, work / source, target, suffix)
            results[f"AVIF {verb}"] = round(count / seconds, 2)
        _, printed = run("-c", _OPEN, work / "cae1")
        opens = [1000 * float(line) for line in printed.split()]
        results["Image.open, ms, median"] = round(statistics.median(opens), 3)
        results["Image.open, ms, first"] = round(opens[0], 3)
    return results


def main() -> None:
    """Measure and print a JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--processes", type=int, default=40)
    arguments = parser.parse_args()
    results = measure(arguments.folder, arguments.count, arguments.side, arguments.processes)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
