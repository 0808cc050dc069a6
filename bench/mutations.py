"""Decode thousands of changed files: how each ends, the slowest, the one that takes most memory.

python bench/mutations.py [--count 10000] [--seed 0]

COUNT files are damaged (flips, overwritten ranges, truncations, insertions, deletions, repetitions,
splices, header edits): each must end in a CodecError or in the image of the file it was made of. A
fifth as many are forged: header or boxes are changed and all checksums mended, so that they may be
valid files of other images; each must end in a CodecError or in an image of the size that its
header states. The changes are those of tests/fuzz/mutators.py; decoders refuse more than its
SIZE_LIMIT in pixels, as a forged header alone can claim gigabytes. Each file is decompressed, and
salvaged as `decompress --allow-partial` does. Linux: memory is how far the peak of the resident set
(VmHWM) rises above the resident set before, the allocator's spare memory given back.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.errors import CodecError
from caecodec.format.container import unpack_header
from caecodec.weights import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))
from checks import is_same
from mutators import GOLDEN, SIZE_LIMIT, Mutant, damage, forge, golden_files, stated

MODES = ("L", "LA", "RGB", "RGBA")
METADATA = {"icc_profile": b"profile" * 40, "exif": b"II*\0exif", "xmp": b"<x:xmpmeta/>"}
MEGA = 10**6


class Source(NamedTuple):
    """A good file, its codec and its image."""

    name: str
    data: bytes
    codec: Codec
    image: Image.Image


class Run(NamedTuple):
    """One reader on one file: how it ended, what it took, and whether that is allowed."""

    source: str
    kind: str
    outcome: str
    seconds: float
    megabytes: float
    is_right: bool


def picture(mode: str) -> Image.Image:
    """Return smooth colour of 3 x 2 tiles of 64 pixels, with metadata where there is alpha."""
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 4), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((150, 110), Image.Resampling.BICUBIC).convert(mode)
    if mode.endswith("A"):
        image.info.update(METADATA)
    return image


def drawing(mode: str) -> Image.Image:
    """Return the picture with flat paper and a line on its left."""
    image = picture(mode)
    image.paste(Image.new(mode, (70, 110), "white"))
    image.paste(Image.new(mode, (50, 3), "black"), (10, 30))
    return image


def sources() -> list[Source]:
    """Return files of the shipped models in all modes and with lossless blocks, and golden ones."""
    found = []
    for model in SHIPPED:
        codec = Codec(model, tile_size=4, size_limit=SIZE_LIMIT)
        for mode in MODES:
            data = codec.compress(picture(mode))
            found.append(Source(f"{model} {mode}", data, codec, codec.decompress(data)))
        files = {
            "mixed": codec.compress(drawing("RGB")),
            "lossless": codec.compress(drawing("LA"), lossless=True),
        }
        for name, data in files.items():
            found.append(Source(f"{model} {name}", data, codec, codec.decompress(data)))
    toy = Codec(GOLDEN / "toy.safetensors", size_limit=SIZE_LIMIT)
    for name, data in golden_files().items():
        found.append(Source(f"golden {name}", data, toy, toy.decompress(data)))
    return found


def decompressed(source: Source, data: bytes, *, is_forged: bool) -> tuple[str, bool]:
    """Decompress, and return how it ended and whether that is allowed."""
    image = source.codec.decompress(data)
    if is_same(image, source.image):
        return "identical image", True
    is_right = is_forged and (image.mode, image.size) == stated(data)
    return "image of another valid file" if is_right else "WRONG IMAGE", is_right


def salvaged(source: Source, data: bytes, *, is_forged: bool) -> tuple[str, bool]:
    """Salvage, and return how it ended and whether that is allowed."""
    image, losses = source.codec.salvage(data)
    if (image.mode, image.size) != stated(data):
        return "WRONG SIZE", False
    if losses:
        return "image, losses named", True
    if is_same(image, source.image):
        return "identical image", True
    return ("image of another valid file" if is_forged else "LOSSES NOT NAMED"), is_forged


READERS = {"decompress": decompressed, "salvage": salvaged}


def measured(source: Source, mutant: Mutant, reader: str, *, is_forged: bool) -> Run:
    """Run one reader on one file."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts anew
    before, started = resident("VmRSS"), time.perf_counter()
    try:
        outcome, is_right = READERS[reader](source, mutant.data, is_forged=is_forged)
    except CodecError as error:
        outcome, is_right = type(error).__name__, True
    except Exception as error:  # noqa: BLE001 - what is looked for
        outcome, is_right = f"TRACEBACK {type(error).__name__}: {error}", False
    seconds = time.perf_counter() - started
    megabytes = (resident("VmHWM") - before) / MEGA
    return Run(source.name, mutant.kind, outcome, seconds, megabytes, is_right)


def resident(field: str) -> int:
    """Return a size of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def summary(runs: Iterable[Run]) -> dict[str, Any]:
    """Count how runs ended, and name the slowest and the largest."""
    runs = list(runs)
    slowest = max(runs, key=lambda run: run.seconds)
    largest = max(runs, key=lambda run: run.megabytes)
    return {
        "outcomes": dict(collections.Counter(run.outcome for run in runs).most_common()),
        "wrong": sum(not run.is_right for run in runs),
        "slowest": {"seconds": round(slowest.seconds, 3), **described(slowest)},
        "largest_memory": {"megabytes": round(largest.megabytes, 1), **described(largest)},
    }


def described(run: Run) -> dict[str, str]:
    """Say what was run."""
    return {"file": run.source, "change": run.kind, "outcome": run.outcome}


def campaign(
    found: list[Source], change: Callable[..., Mutant], count: int, random: Random
) -> dict[str, Any]:
    """Change and read `count` files."""
    seeds = [source.data for source in found]
    kinds: collections.Counter[str] = collections.Counter()
    runs: dict[str, list[Run]] = {reader: [] for reader in READERS}
    for number in range(count):
        source = found[number % len(found)]
        mutant = change(source.data, seeds, random)
        kinds.update(mutant.kind.split(" + "))
        for reader, own in runs.items():
            own.append(measured(source, mutant, reader, is_forged=change is forge))
    return {
        "files": count,
        "changes": dict(sorted(kinds.items())),
        **{reader: summary(own) for reader, own in runs.items()},
    }


def intact(found: list[Source]) -> dict[str, Any]:
    """Read the good files, for comparison."""
    runs = {
        reader: [
            measured(source, Mutant(source.data, "none"), reader, is_forged=False)
            for source in found
        ]
        for reader in READERS
    }
    return {"files": len(found), **{reader: summary(own) for reader, own in runs.items()}}


def main() -> None:
    """Damage, forge, read, print what came of it; exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = Random(options.seed)  # noqa: S311 - nothing secret
    found = sources()
    largest = max(found, key=lambda source: len(source.data))
    results = {
        "seed": options.seed,
        "threads": torch.get_num_threads(),
        "size_limit_pixels": SIZE_LIMIT,
        "sources": {source.name: len(source.data) for source in found},
        "largest_source_pixels": pixels(largest.data),
        "intact": intact(found),
        "damaged": campaign(found, damage, options.count, random),
        "forged": campaign(found, forge, options.count // 5, random),
    }
    print(json.dumps(results, indent=2))
    wrong = sum(
        results[part][reader]["wrong"] for part in ("damaged", "forged") for reader in READERS
    )
    sys.exit(bool(wrong))


def pixels(data: bytes) -> int:
    """Return the pixels of a file."""
    header = unpack_header(data)
    return header.width * header.height


if __name__ == "__main__":
    main()
