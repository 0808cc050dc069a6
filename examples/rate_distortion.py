"""Draw rate and distortion of the classic model beside those of JPEG and main.

python examples/rate_distortion.py IMAGE OUT.svg [CLASSIC.safetensors]           (needs matplotlib)
"""

import io
import sys

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import caecodec
from caecodec.image.metrics import psnr


def main(path: str, out: str, classic: str = "classic") -> None:
    """Draw one curve a codec, of five qualities each."""
    image = Image.open(path).convert("RGB")
    for label, model in (("psnr", "psnr"), ("classic", classic), ("JPEG", None)):
        points = []
        for quality in (10, 30, 50, 70, 90):
            buffer = io.BytesIO()
            if model:
                buffer.write(caecodec.compress(image, quality=quality, model=model))
                decoded = caecodec.decompress(buffer.getvalue(), model=model)
            else:
                image.save(buffer, "JPEG", quality=quality, optimize=True)
                decoded = Image.open(buffer)
            bpp = 8 * len(buffer.getvalue()) / (image.width * image.height)
            points.append((bpp, psnr(np.array(image), np.array(decoded))))
        plt.plot(*zip(*points, strict=True), marker="o", label=label)
    plt.gca().set(xlabel="bits per pixel", ylabel="PSNR in dB")
    plt.legend()
    plt.savefig(out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
