"""Show that a long batch keeps no memory: what a process holds after 100, 200, ... images.

python bench/batch_memory.py [--model NAME] [--count NUMBER] [--side PIXELS]

Each image is drawn anew, compressed and decompressed by one codec, at a quality that changes from
image to image. What the process holds is VmRSS of /proc, so this runs on Linux alone.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.config import DEFAULT_TUNE

EVERY = 100
"""Images between two looks at the memory."""


def synthetic_image(side: int, seed: int) -> Image.Image:
    """Draw smooth colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def held_megabytes() -> float:
    """Return what this process holds in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return round(int(line.split()[1]) * 1024 / 1e6, 2)


def main() -> None:
    """Print what is held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_TUNE)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    codec = Codec(options.model)
    held = {}
    for number in range(1, options.count + 1):
        image = synthetic_image(options.side, number)
        codec.decompress(codec.compress(image, quality=number % 101))
        if number % EVERY == 0:
            held[number] = held_megabytes()
    found = {
        "model": codec.digest.hex(),
        "side": options.side,
        "threads": torch.get_num_threads(),
        "megabytes_after_images": held,
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
