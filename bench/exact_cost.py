"""Time exact models beside the same weights in floats, and print ratios as JSON.

python bench/exact_cost.py IMAGE [--models visual psnr] [--threads 1] [--rounds 40]

Each round decodes a file of each by turns; a ratio is the median over rounds of exact to float CPU
seconds, of pairs that ran one after the other. The floats are folded as ever.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.config import Tune
from caecodec.nn.exact_layers import without_exact
from caecodec.weights.storage import Weights, find_weights

WARM_UP = 3


def seconds(codec: Codec, data: bytes) -> float:
    """Return what a decode takes, in CPU seconds of all threads."""
    start = time.process_time()
    codec.decompress(data)
    return time.process_time() - start


def measured(model: str, image: Image.Image, threads: int, rounds: int) -> dict[str, float]:
    """Return the medians of both, and of their ratio."""
    torch.set_num_threads(threads)
    exact = find_weights(model)
    plain = Weights(exact.config, without_exact(exact.tensors), {})
    codecs = Codec(exact), Codec(plain)
    files = [codec.compress(image, effort=1) for codec in codecs]
    pairs = [
        tuple(seconds(codec, data) for codec, data in zip(codecs, files, strict=True))
        for _ in range(WARM_UP + rounds)
    ][WARM_UP:]
    return {
        "exact": round(statistics.median(pair[0] for pair in pairs), 3),
        "float": round(statistics.median(pair[1] for pair in pairs), 3),
        "ratio": round(statistics.median(pair[0] / pair[1] for pair in pairs), 3),
    }


def main() -> None:
    """Time, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--models", nargs="+", default=list(Tune))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    with Image.open(arguments.image) as image:
        image.load()
    print(json.dumps(
        {
            f"{model}, {threads} threads": measured(model, image, threads, arguments.rounds)
            for threads in arguments.threads
            for model in arguments.models
        },
        indent=1,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
