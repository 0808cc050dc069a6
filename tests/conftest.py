"""What many tests share: the toy model and small pictures."""

from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image

from caecodec.codec import Codec


@pytest.fixture(scope="session")
def toy() -> Codec:
    """The small committed model."""
    return Codec(TOY)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A synthetic picture, uint8 (70, 90, 3)."""
    return synthetic_image(90, 70, 7)


@pytest.fixture
def photo_path(photo: np.ndarray, tmp_path: Path) -> Path:
    """The picture as a PNG file."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path
