"""How far a decoded image is from its reference."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from caecodec.errors import ImageError
from caecodec.extras import import_extra

MAX_LEVEL = 255
"""Largest value of a pixel's channel."""

MIN_SEEN = 8
"""Pixels per side that SSIMULACRA2 needs."""
_STRIP = 256
"""Rows processed at a time, which bounds the memory for differences."""


def psnr(reference: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio over all pixels and channels together.

    10 log10(255**2 / MSE); the sum of squares is exact, so the result is the same everywhere.

    Args:
        reference: uint8 (H, W) or (H, W, 3), sRGB levels.
        decoded: uint8, same shape as `reference`.

    Returns:
        dB; infinity when both are equal.

    Raises:
        ImageError: wrong dtype or number of axes, no pixels, or different shapes.
    """
    for pixels in (reference, decoded):
        _require_pixels(pixels)
    if reference.shape != decoded.shape:
        raise ImageError(f"decoded shape is {decoded.shape}, expected {reference.shape}")
    squares = sum(
        _squares(reference[top : top + _STRIP], decoded[top : top + _STRIP])
        for top in range(0, len(reference), _STRIP)
    )
    if squares == 0:
        return math.inf
    return 10 * math.log10(MAX_LEVEL**2 * reference.size / squares)


def ssimulacra2(reference: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float:
    """Return SSIMULACRA2, a perceptual metric: 100 for equal images, 90 for visually lossless.

    Args:
        reference: uint8 (H, W) or (H, W, 3), sRGB levels, at least MIN_SEEN pixels per side.
        decoded: uint8, same shape as `reference`.

    Raises:
        ImageError: the image is smaller, so that the metric is undefined.
        ConfigError: the package ssimulacra2 is not installed.

    Source: Sneyers, cloudinary/ssimulacra2, as in the package ssimulacra2.
    """
    if min(reference.shape[:2]) < MIN_SEEN:
        height, width = reference.shape[:2]
        raise ImageError(
            f"SSIMULACRA2 needs {MIN_SEEN} pixels a side, the image has {width} x {height}"
        )
    files = io.BytesIO(), io.BytesIO()
    for image, file in zip((reference, decoded), files, strict=True):
        Image.fromarray(image).convert("RGB").save(file, "PPM")
    return float(import_extra("ssimulacra2", "bench").compute_ssimulacra2(*files))


def _squares(reference: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> int:
    difference = reference.astype(np.int32) - decoded.astype(np.int32)
    return int(np.sum(difference * difference, dtype=np.int64))


def _require_pixels(image: npt.NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8:
        raise ImageError(f"image has dtype {image.dtype}, expected uint8")
    is_gray = image.ndim == 2
    is_colour = image.ndim == 3 and image.shape[-1] == 3
    if not (is_gray or is_colour) or not image.size:
        raise ImageError(f"image has shape {image.shape}, expected (H, W) or (H, W, 3)")
