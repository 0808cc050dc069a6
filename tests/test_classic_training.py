"""Training of the classic architecture: the command and its options, and what a run leaves."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from make_golden import synthetic_image
from PIL import Image
from typer.testing import CliRunner

from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.config import ClassicConfig, MainConfig
from caecodec.errors import ConfigError
from caecodec.train.checkpoint import load_checkpoint
from caecodec.train.data import load_images
from caecodec.train.export import export
from caecodec.train.pictures import plot_loss
from caecodec.train.recipes import recipe_for
from caecodec.train.settings import ClassicSettings, MainSettings, find_config, load_config
from caecodec.train.trainer import Budget, Trainer
from caecodec.weights.storage import find_weights

pytestmark = pytest.mark.slow

CONFIG = ClassicConfig(channels=(8, 6), quality_anchors=3)
SETTINGS = ClassicSettings(batch_size=4, crop_size=16, warmup_steps=5, learning_rate=4e-3)


def tensors(count: int = 6, size: int = 48) -> list[torch.Tensor]:
    return [
        torch.from_numpy(synthetic_image(size, size, seed)).permute(2, 0, 1)
        for seed in range(count)
    ]


def make_trainer(path: Path, **fields: object) -> Trainer:
    settings = dataclasses.replace(SETTINGS, **fields)  # type: ignore[arg-type]
    return Trainer(CONFIG, settings, images=tensors(), checkpoint_path=path)


def column(path: Path, name: str) -> list[float]:
    with path.open() as handle:
        return [float(row[name]) for row in csv.DictReader(handle)]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    for seed in range(10):
        Image.fromarray(synthetic_image(28, 28, seed)[..., 0]).save(folder / f"{seed}.png")
    return folder


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "caecodec", "train", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_overfits_a_few_images(tmp_path: Path, loss: str, optimizer: str) -> None:
    rate = 4e-3 if optimizer == "adam" else 2e-2
    trainer = make_trainer(
        tmp_path / "run.ckpt", loss=loss, optimizer=optimizer, learning_rate=rate
    )
    trainer.run(Budget(steps=160))
    losses = column(tmp_path / "run.ckpt.csv", "loss")
    assert min(losses[-3:]) < losses[0]
    assert trainer.skipped == 0


def test_a_run_starts_from_the_shipped_weights(tmp_path: Path) -> None:
    weights = find_weights("classic")
    settings = dataclasses.replace(SETTINGS, crop_size=32)
    path = tmp_path / "run.ckpt"
    trainer = Trainer(
        weights.config, settings, images=tensors(), checkpoint_path=path, start=weights
    )
    fresh = Trainer(weights.config, settings, images=tensors(), checkpoint_path=path)
    x, quality = trainer.crops.batch(4), torch.full((4,), 50.0)
    with torch.inference_mode():
        trained, untrained = (one.model.eval()(x, quality) for one in (trainer, fresh))
    assert trained.mse.mean() < 0.3 * untrained.mse.mean()
    assert trained.y_bits.mean() < 0.8 * untrained.y_bits.mean()
    trainer.run(Budget(steps=2))
    assert load_checkpoint(path).step == 2


def test_an_interrupt_leaves_a_checkpoint_to_resume_and_to_export(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    trainer = make_trainer(path)

    def interrupt(_: object) -> None:
        if trainer.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(Budget(steps=50), interrupt)
    resumed = Trainer(CONFIG, SETTINGS, images=tensors(), checkpoint_path=path, resume=True)
    assert resumed.step == load_checkpoint(path).step == 3
    export(path, tensors(), tmp_path / "out.safetensors", num_crops=8)
    assert Codec(tmp_path / "out.safetensors").weights.config == CONFIG


def test_export_promises_about_what_the_float_model_estimates(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=60))
    report = export(path, tensors(), tmp_path / "out.safetensors", num_crops=32)
    assert report.loss_percent < 5


def test_the_command_takes_every_option_of_the_textbook(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    done = train(
        digits, "--out", out, "--arch", "classic", "--channels", "8,4", "--kernel-size", "5",
        "--stride", "1", "--pool-size", "2", "--pooling", "avg", "--dropout", "0.1",
        "--activation", "leaky_relu", "--optimizer", "sgd", "--learning-rate", "0.01",
        "--loss", "mse", "--color", "gray", "--batch-size", "5", "--crop-size", "32",
        "--epochs", "12",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codec = Codec(out)
    assert codec.weights.config == ClassicConfig(
        channels=(8, 4), kernel_size=5, pooling="avg", dropout=0.1, activation="leaky_relu",
        color="gray",
    )  # fmt: skip
    training = codec.weights.training
    assert (training["optimizer"], training["loss"], training["steps"]) == ("sgd", "mse", 24)
    image = np.array(Image.open(digits / "0.png"))
    assert np.array(codec.decompress(codec.compress(image))).shape == (28, 28)
    with Image.open(out.with_suffix(".reconstructions.png")) as picture:
        assert picture.height == 2 * (28 + 4)
    assert out.with_suffix(".loss.svg").read_text().count("<polyline") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel-size", "4"], "odd"),
        (["--kernel-size", "65"], "at most crop_size"),
        (["--kernel-size", "29"], "at most 28"),
        (["--channels", "8,many"], "--channels"),
        (["--channels", "8,0"], "channels is 0"),
        (["--pool-size", "5"], "shrink the image"),
        (["--crop-size", "30"], "multiple of 8"),
        (["--pooling", "median"], "max, avg, none"),
        (["--loss", "hinge"], "bce, mse"),
        (["--optimizer", "newton"], "adam, sgd"),
        (["--learning-rate", "0"], "above 0"),
        (["--dropout", "1.5"], "dropout"),
        (["--minutes", "1"], "--epochs excludes"),
        (["--arch", "vgg"], "main, classic"),
        (["--arch", "main"], "unknown"),
    ],
)
def test_a_wrong_combination_is_one_line_before_training(
    digits: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    base = ["train", str(digits), "--out", str(tmp_path / "mine.safetensors"), "--epochs", "1"]
    done = CliRunner().invoke(app, [*base, "--arch", "classic", "--loss", "mse", *arguments])
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mine.ckpt").exists()


def test_the_shipped_configuration_is_the_textbooks() -> None:
    assert load_config(find_config("classic")) == (ClassicConfig(), ClassicSettings())


def test_settings_of_another_architecture_are_refused() -> None:
    for config, settings in ((CONFIG, MainSettings()), (MainConfig(), SETTINGS)):
        with pytest.raises(ConfigError, match="does not fit"):
            recipe_for(config, settings)


def test_gray_images_have_one_channel(digits: Path) -> None:
    assert load_images(digits, color="gray")[0].shape == (1, 28, 28)
    assert load_images(digits)[0].shape == (3, 28, 28)


def test_the_plot_shows_every_step_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,loss,y_bpp,z_bpp,psnr\n20,2,1,0,20\n40,1,1,0,21\n60,1.5,1,0,22\n")
    points = [line for line in plot_loss(log).splitlines() if "polyline" in line]
    assert [line.count(",") for line in points] == [3, 3, 3]
