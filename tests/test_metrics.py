"""The promises of caecodec.image.metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from caecodec.errors import ImageError
from caecodec.image.metrics import psnr


def test_psnr_is_ten_log10_of_255_squared_over_the_mean_squared_error() -> None:
    random = np.random.default_rng(1)
    reference = random.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    decoded = random.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    error = np.mean((reference.astype(float) - decoded.astype(float)) ** 2)
    assert psnr(reference, decoded) == pytest.approx(10 * math.log10(255**2 / error))


def test_psnr_of_a_difference_of_one_level_everywhere_is_48_13_db() -> None:
    reference = np.zeros((4, 5), np.uint8)
    assert psnr(reference, reference + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)


def test_psnr_of_black_against_white_is_0_db_without_wrapping_around() -> None:
    black, white = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0)
    assert psnr(white, black) == pytest.approx(0)


def test_psnr_of_equal_images_is_infinite() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert psnr(image, image.copy()) == math.inf


def test_psnr_refuses_two_shapes() -> None:
    with pytest.raises(ImageError, match=r"\(4, 5\)"):
        psnr(np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int8])
def test_psnr_refuses_other_types_than_uint8(dtype: type) -> None:
    image: npt.NDArray[Any] = np.zeros((4, 4), dtype)
    with pytest.raises(ImageError, match="expected uint8"):
        psnr(image, image)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (1, 4, 4, 3), (0, 4, 3)])
def test_psnr_refuses_other_shapes_than_an_image(shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    with pytest.raises(ImageError, match=r"expected \(H, W\)"):
        psnr(image, image)
