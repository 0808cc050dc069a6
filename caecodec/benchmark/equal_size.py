"""Files of one image by several codecs at about equal size, for visual comparison."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from caecodec.benchmark.codecs import ImageCodec
from caecodec.config import MAX_QUALITY, MIN_QUALITY
from caecodec.image.metrics import psnr


@dataclasses.dataclass(frozen=True)
class Version:
    """One codec's file of an image.

    Attributes:
        codec: name of the codec.
        quality: 0 to 100, on the codec's own scale.
        data: the file.
        decoded: the decoded image, RGB.
        psnr: dB over RGB; infinity when the decoded image is equal.
    """

    codec: str
    quality: float
    data: bytes
    decoded: Image.Image
    psnr: float

    @property
    def fidelity(self) -> str:
        """The PSNR in words."""
        return "lossless" if math.isinf(self.psnr) else f"{self.psnr:.2f} dB"


def at_size(codec: ImageCodec, image: Image.Image, num_bytes: int) -> Version:
    """Return a codec's largest file within a size, over integer qualities.

    If there is none, return the file of quality 0.

    Args:
        codec: a lossy codec.
        image: RGB.
        num_bytes: the size.
    """
    low, high = int(MIN_QUALITY), int(MAX_QUALITY)
    data = codec.encode(image, low)
    while low < high:  # the file of `low` fits, or is the smallest there is
        middle = (low + high + 1) // 2
        trial = codec.encode(image, middle)
        if len(trial) <= num_bytes:
            low, data = middle, trial
        else:
            high = middle - 1
    decoded = codec.decode(data).convert("RGB")
    return Version(codec.name, low, data, decoded, psnr(np.asarray(image), np.asarray(decoded)))


def at_equal_size(
    codecs: Sequence[ImageCodec], image: Image.Image, bits_per_pixel: float
) -> list[Version]:
    """Return a file of each lossy codec, none above the first one's size.

    Args:
        codecs: the first sets the size: its largest file within `bits_per_pixel`.
        image: RGB.
        bits_per_pixel: maximum rate of the first codec's file.
    """
    first, *others = [codec for codec in codecs if not codec.is_lossless]
    budget = int(bits_per_pixel * image.width * image.height / 8)
    reference = at_size(first, image, budget)
    return [reference, *(at_size(codec, image, len(reference.data)) for codec in others)]
