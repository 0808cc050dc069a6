"""What many tests share: the toy model, a classic toy and small pictures."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from make_golden import CONFIG, SETTINGS, TOY, synthetic_image
from PIL import Image
from selenium import webdriver
from toys import LEAN, toy_images

from caecodec.codec.codec import Codec
from caecodec.config import ClassicConfig
from caecodec.train.export import export
from caecodec.train.settings import ClassicSettings
from caecodec.train.trainer import Budget, Trainer
from caecodec.weights.storage import Weights, load_weights


@pytest.fixture(scope="session")
def toy() -> Codec:
    """The small committed model."""
    return Codec(TOY)


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """A classic model of stride 4, trained for a few seconds."""
    folder = tmp_path_factory.mktemp("classic")
    images = [torch.from_numpy(synthetic_image(96, 96, seed)).permute(2, 0, 1) for seed in range(6)]
    settings = ClassicSettings(
        batch_size=8, crop_size=32, warmup_steps=10, learning_rate=2e-3, ema_decay=0.9
    )
    checkpoint = folder / "classic.ckpt"
    config = ClassicConfig(channels=(12, 8), quality_anchors=3)
    Trainer(config, settings, images=images, checkpoint_path=checkpoint).run(Budget(steps=200))
    export(checkpoint, images, folder / "classic.safetensors", num_crops=24)
    return Codec(folder / "classic.safetensors")


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


@pytest.fixture(scope="session")
def plain_weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A toy model with every wide branch, hardly trained: all of them are straight lines."""
    folder = tmp_path_factory.mktemp("plain")
    settings = dataclasses.replace(SETTINGS, pca_crops=16)
    trainer = Trainer(CONFIG, settings, images=toy_images(), checkpoint_path=folder / "run.ckpt")
    trainer.run(Budget(steps=4))
    export(folder / "run.ckpt", toy_images(), folder / "plain.safetensors", num_crops=8)
    return load_weights(folder / "plain.safetensors")


@pytest.fixture(scope="session")
def lean(tmp_path_factory: pytest.TempPathFactory, plain_weights: Weights) -> Codec:
    """A lean toy model that went on from it."""
    folder = tmp_path_factory.mktemp("lean")
    settings = dataclasses.replace(SETTINGS, vector_learning_rate=0.05)
    trainer = Trainer(
        LEAN,
        settings,
        images=toy_images(),
        checkpoint_path=folder / "run.ckpt",
        start=plain_weights,
    )
    trainer.run(Budget(steps=12))
    export(folder / "run.ckpt", toy_images(), folder / "lean.safetensors", num_crops=8)
    return Codec(folder / "lean.safetensors")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window; tests that need it are skipped where it is missing."""
    with chromium("disable-gpu") as found:
        yield found


@pytest.fixture(scope="module")
def gpu_browser() -> Iterator[webdriver.Chrome]:
    """The same with WebGPU, by a software adapter."""
    with chromium("enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader") as found:
        yield found


@contextmanager
def chromium(*switches: str) -> Iterator[webdriver.Chrome]:
    """Open Chromium with these switches besides those of all tests."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for switch in ("headless", "no-sandbox", "no-first-run", "disable-sync", *switches):
        options.add_argument(f"--{switch}")
    options.add_argument("--disable-background-networking")
    options.add_argument("--window-size=1000,900")
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()
