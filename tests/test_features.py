"""Feature maps and tables of layers, for both architectures."""

from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image
from typer.testing import CliRunner

import caecodec
from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.codec.feature_maps import responses
from caecodec.errors import ConfigError
from caecodec.nn.summary import layer_rows
from caecodec.weights.complexity import kmac_per_pixel

pytestmark = pytest.mark.slow


@pytest.fixture
def classic_path(classic: Codec) -> Path:
    assert classic.weights.path is not None
    return classic.weights.path


def test_features_have_the_documented_shape(classic_path: Path) -> None:
    image = synthetic_image(45, 30, 1)
    assert caecodec.features(image, layer=1, model=classic_path).shape == (12, 15, 23)
    assert caecodec.features(image, model=classic_path).shape == (8, 8, 12)
    assert caecodec.features(image, layer=1, model=TOY).shape == (24, 4, 6)
    last = caecodec.features(image, model=TOY)
    assert last.shape == (32, 2, 3)
    assert last.dtype == np.float32


def test_layers_are_counted_from_1(classic_path: Path) -> None:
    for layer in (0, 3, -1):
        with pytest.raises(ConfigError, match="1 to 2"):
            caecodec.features(synthetic_image(16, 16, 1), layer=layer, model=classic_path)


def test_the_command_draws_maps_and_kernels(
    classic_path: Path, photo_path: Path, tmp_path: Path
) -> None:
    for model in (classic_path, TOY):
        out = tmp_path / f"{model.stem}.png"
        arguments = ["features", photo_path, "--out", out, "--layer", 1, "--model", model]
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        with Image.open(out) as picture:
            assert picture.width == 8 * 118
            assert len(picture.convert("L").getcolors() or ()) > 20
        again = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "use -f to overwrite" in again.stderr


def test_maps_are_named_after_what_they_follow() -> None:
    image = np.full((24, 32), 60, np.uint8)
    image[:, 5:9] = 200
    image[15:18, 12:] = 240
    gray = image.astype(np.float32)
    across = np.abs(np.diff(gray, axis=1, append=gray[:, -1:]))
    down = np.abs(np.diff(gray, axis=0, append=gray[-1:]))
    noise = np.random.default_rng(0).normal(size=gray.shape)
    maps = np.stack([across, -down, across + down, gray, 9 - gray, noise, 0 * gray])
    expected = ["vertical", "horizontal", "edges", "light", "dark", "", ""]
    assert responses(maps.astype(np.float32), image) == expected


def test_models_lists_layers_side_by_side(classic_path: Path) -> None:
    done = CliRunner().invoke(app, ["models", "--model", str(classic_path)])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if "encoder.0.convolution" in line)
    assert "12 x 256 x 256" in line
    assert "decoder.0.convolution" in line
    assert "8 x 128 x 128" in line


def test_layers_add_up_to_the_model(classic: Codec) -> None:
    for side, expected in zip(
        layer_rows(classic.model), kmac_per_pixel(classic.weights.config), strict=True
    ):
        assert sum(row.kmac_per_pixel for row in side) == pytest.approx(expected)
