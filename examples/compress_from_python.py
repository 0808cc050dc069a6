"""Compress a photograph at three qualities and say what each costs.

python examples/compress_from_python.py [IMAGE]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import caecodec
from caecodec.image.metrics import psnr


def main() -> None:
    """Print size, rate and PSNR by quality."""
    path = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("chelsea.png")
    image = Image.open(path).convert("RGB")
    for quality in (10, 50, 90):
        data = caecodec.compress(image, quality=quality)
        decoded = caecodec.decompress(data)
        facts = caecodec.info(data)
        decibels = psnr(np.array(image), np.array(decoded))
        print(f"quality {quality}: {len(data):,} bytes, {facts.bpp:.3f} bpp, {decibels:.2f} dB")


if __name__ == "__main__":
    main()
