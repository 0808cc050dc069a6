"""Train the classic model on a folder of photographs, then compress one with it.

python examples/train_classic.py PHOTOS STEPS MODEL.safetensors
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import caecodec
from caecodec.image.metrics import psnr


def main(photos: Path, steps: str, model: Path) -> None:
    """Print size and PSNR of the first photograph at three qualities."""
    command = [sys.executable, "-m", "caecodec", "train", photos, "--out", model]
    subprocess.run([*command, "--arch", "classic", "--steps", steps], check=True)  # noqa: S603 - our own
    path = min(path for path in photos.iterdir() if path.suffix == ".png")
    image = Image.open(path).convert("RGB")
    for quality in (10, 50, 90):
        data = caecodec.compress(image, quality=quality, model=model)
        decoded = caecodec.decompress(data, model=model)
        decibels = psnr(np.array(image), np.array(decoded))
        print(f"quality {quality}: {len(data):,} bytes, {decibels:.2f} dB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
