"""What bits go to: each tune is a shipped model, by the same word everywhere."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import run

import caecodec
import caecodec.CaeImagePlugin
from caecodec.benchmark.codecs import FIXED_MODELS
from caecodec.benchmark.loading import load_codecs
from caecodec.config import DEFAULT_TUNE, Tune
from caecodec.errors import ConfigError
from caecodec.weights import SHIPPED, choose_model
from caecodec.weights.storage import find_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def photo_path(photo: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    photo.save(path)
    return path


def model_of(data: bytes) -> str | None:
    return caecodec.info(data).model


@pytest.mark.parametrize("tune", Tune)
def test_a_tune_is_a_model_of_its_name_everywhere(
    tune: Tune, photo: Image.Image, photo_path: Path
) -> None:
    assert model_of(caecodec.compress(photo, tune=tune)) == tune
    assert model_of(caecodec.compress(photo, model=tune)) == tune
    out = photo_path.with_suffix(".cae")
    run("compress", photo_path, out, "--tune", tune)
    assert json.loads(run("info", out, "--json").stdout)["model"] == tune
    caecodec.imwrite(out, photo, tune=tune)
    assert model_of(out.read_bytes()) == tune
    buffer = io.BytesIO()
    photo.save(buffer, format="CAE", tune=tune)
    assert model_of(buffer.getvalue()) == tune
    digests, (codec,) = load_codecs([f"cae-{tune}"], "classic")
    assert model_of(codec.encode(photo, 50)) == tune
    assert digests == {f"cae-{tune}": SHIPPED[tune]}


def test_without_a_tune_it_is_the_default(photo: Image.Image) -> None:
    assert model_of(caecodec.compress(photo)) == DEFAULT_TUNE
    assert choose_model() == DEFAULT_TUNE
    assert load_codecs(["cae"], DEFAULT_TUNE)[0] == {"cae": SHIPPED[DEFAULT_TUNE]}


@pytest.mark.parametrize("tune", Tune)
def test_targets_work_with_every_tune(tune: Tune, photo_path: Path) -> None:
    out = photo_path.with_suffix(".cae")
    run("compress", photo_path, out, "--tune", tune, "--target-psnr", "33")
    error = np.array(Image.open(photo_path), float) - caecodec.imread(out)
    assert -10 * np.log10(np.square(error / 255).mean()) >= 33
    run("compress", photo_path, out, "--tune", tune, "--target-size", "500", "-f")
    assert out.stat().st_size <= 500


def test_a_tune_and_a_model_exclude_each_other(photo: Image.Image, photo_path: Path) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        caecodec.compress(photo, tune="psnr", model="classic")
    result = run("compress", photo_path, "--tune", "psnr", "--model", "classic")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
    assert not photo_path.with_suffix(".cae").exists()


def test_an_unknown_tune_is_told_what_there_is(photo: Image.Image) -> None:
    with pytest.raises(ConfigError, match="'ssim', expected one of visual, psnr"):
        caecodec.compress(photo, tune="ssim")
    with pytest.raises(OSError, match="visual, psnr"):
        photo.save(io.BytesIO(), format="CAE", tune="ssim")


def test_models_were_trained_for_what_their_names_say() -> None:
    assert find_weights("visual").training["distortion"] == "visual"
    assert find_weights("psnr").training.get("distortion", "mse") == "mse"
    assert set(FIXED_MODELS.values()) == set(SHIPPED)
