"""Time two checkouts of caecodec in turns, on the same images and files, and print ratios as JSON.

python bench/versions.py BEFORE AFTER IMAGE... [--threads 1,2] [--repeats 5] [--megapixels 0.4]

BEFORE and AFTER are folders that hold the package. A process of each, warm, encodes and decodes at
the default quality and effort, one after the other in every round; files are those of BEFORE. The
ratios are of medians over the rounds, AFTER to BEFORE: below 1 is faster. Images are mirrored and
repeated where --megapixels asks for more pixels than they have.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORKER = """
import json, sys, time
import numpy as np, torch
from PIL import Image
import caecodec
from caecodec.codec.codec import Codec
torch.set_num_threads(int(sys.argv[1]))
codec = Codec()
for line in sys.stdin:
    job = json.loads(line)
    image = Image.open(job["image"]).convert("RGB")
    height = round((job["megapixels"] * 1e6 / 1.5) ** 0.5) if job["megapixels"] else image.height
    width = round(1.5 * height) if job["megapixels"] else image.width
    pad = ((0, max(0, height - image.height)), (0, max(0, width - image.width)), (0, 0))
    pixels = np.pad(np.asarray(image), pad, mode="symmetric")[:height, :width]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    started = time.perf_counter()
    if job["way"] == "encode":
        data = codec.compress(image)
    else:
        with open(job["file"], "rb") as handle:
            data = handle.read()
        started = time.perf_counter()
        codec.decompress(data)
    seconds = time.perf_counter() - started
    if job["way"] == "encode" and job.get("file"):
        with open(job["file"], "wb") as handle:
            handle.write(data)
    print(json.dumps({"seconds": seconds, "bytes": len(data)}), flush=True)
"""


class Worker:
    """A warm process of one checkout."""

    def __init__(self, tree: Path, threads: int) -> None:
        environment = {
            **os.environ, "PYTHONPATH": str(tree.resolve()), "OMP_NUM_THREADS": str(threads)
        }  # fmt: skip
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", WORKER, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tree,
        )

    def ask(self, **job: Any) -> dict[str, float]:
        """Return what one call took, in seconds, and the bytes of its file."""
        assert self._process.stdin  # noqa: S101
        assert self._process.stdout  # noqa: S101
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """Let the process go."""
        self._process.communicate()


def time_image(workers: list[Worker], job: dict[str, Any], repeats: int) -> dict[str, float]:
    """Return median seconds and ratios of both ways for one image."""
    row: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "image.cae")
        sizes = [workers[1].ask(way="encode", **job)["bytes"]]
        sizes.insert(0, workers[0].ask(way="encode", file=path, **job)["bytes"])
        row["bytes_ratio"] = sizes[1] / sizes[0]
        for way in ("encode", "decode"):
            times: list[list[float]] = [[], []]
            for turn in range(repeats + 1):
                for worker, own in zip(workers, times, strict=True):
                    file = path if way == "decode" else ""
                    seconds = worker.ask(way=way, file=file, **job)["seconds"]
                    if turn:  # the first warms up
                        own.append(seconds)
            before, after = map(statistics.median, times)
            row |= {f"{way}_before": before, f"{way}_after": after, f"{way}_ratio": after / before}
    return row


def main() -> None:
    """Print the rows of all images, and the medians of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megapixels", type=float)
    options = parser.parse_args()
    results = []
    for threads in map(int, options.threads.split(",")):
        workers = [Worker(tree, threads) for tree in (options.before, options.after)]
        rows = []
        for image in options.images:
            job = {"image": str(image.resolve()), "megapixels": options.megapixels}
            rows.append({"image": image.name, **time_image(workers, job, options.repeats)})
        for worker in workers:
            worker.end()
        medians = {
            name: statistics.median(row[name] for row in rows)
            for name in ("bytes_ratio", "encode_ratio", "decode_ratio")
        }
        results.append(
            {"threads": threads, "megapixels": options.megapixels, **medians, "images": rows}
        )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
