import csv
import dataclasses
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from make_golden import CONFIG, SETTINGS, synthetic_image
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.config import MainConfig, model_config_from, optimal_step, rd_lambda
from caecodec.errors import ConfigError, ImageError, ModelError
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.entropy_models import ResidualPrior, step_masks
from caecodec.nn.layers import lower_bound, round_straight_through
from caecodec.nn.transforms import PrincipalComponents
from caecodec.train.checkpoint import load_checkpoint
from caecodec.train.data import Crops, load_images
from caecodec.train.export import export
from caecodec.train.muon import orthogonalize
from caecodec.train.settings import MainSettings, find_config, load_config
from caecodec.train.trainer import Budget, Trainer
from caecodec.weights.complexity import kmac_per_pixel
from caecodec.weights.storage import find_weights, load_weights

CPU = torch.device("cpu")


def tensors(count: int = 6, size: int = 96) -> list[torch.Tensor]:
    return [
        torch.from_numpy(synthetic_image(size, size, seed)).permute(2, 0, 1)
        for seed in range(count)
    ]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(synthetic_image(96, 80, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def toy_toml(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    model = "".join(f"{name} = {json.dumps(value)}\n" for name, value in CONFIG.to_dict().items())
    path.write_text(f"[model]\n{model}\n[train]\nbatch_size = 4\ncrop_size = 64\npca_crops = 8\n")
    return path


def make_trainer(path: Path, changes: dict[str, float] | None = None, **options: object) -> Trainer:
    settings = dataclasses.replace(
        SETTINGS, pca_crops=16, valid_every=10, ema_decay=0.9, **(changes or {})
    )
    return Trainer(CONFIG, settings, images=tensors(), checkpoint_path=path, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_training_overfits_a_few_images(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run.ckpt", valid_images=tensors(2))
    trainer.run(Budget(steps=80))
    with (tmp_path / "run.ckpt.csv").open() as handle:
        losses = [float(row["loss"]) for row in csv.DictReader(handle)]
    with (tmp_path / "run.ckpt.valid.csv").open() as handle:
        valid = [row for row in csv.DictReader(handle) if row["quality"] == "10.0"]
    assert len(losses) == 4
    assert float(valid[-1]["psnr"]) > float(valid[0]["psnr"]) + 0.1
    assert float(valid[-1]["bpp"]) < float(valid[0]["bpp"])
    assert trainer.skipped == 0


@pytest.mark.slow
def test_a_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=3))
    first = load_checkpoint(path)
    resumed = make_trainer(path, resume=True)
    assert resumed.step == first.step == 3
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, first.model[name]), name
    assert not torch.equal(resumed.crops.batch(4), make_trainer(path).crops.batch(4))
    resumed.run(Budget(steps=5))
    assert load_checkpoint(path).step == 5


@pytest.mark.slow
def test_rates_rise_stay_and_fall_by_the_settings_of_the_run_that_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    trainer = make_trainer(path, {"warmup_steps": 2, "decay_from": 0.5})
    rates = []
    trainer.run(
        Budget(steps=8), lambda _: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    )
    peak = SETTINGS.matrix_learning_rate
    assert rates == pytest.approx([peak * x for x in (0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25)])
    resumed = make_trainer(path, {"matrix_learning_rate": 5.0}, resume=True)
    assert resumed.optimizers[0].param_groups[0]["peak"] == 5.0


@pytest.mark.slow
def test_the_linear_path_has_its_own_rates(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run.ckpt", {"linear_path_rate": 0.25})
    muon, adamw = trainer.optimizers
    peaks = [group["peak"] for optimizer in (muon, adamw) for group in optimizer.param_groups]
    matrix, vector = SETTINGS.matrix_learning_rate, SETTINGS.vector_learning_rate
    prior = SETTINGS.prior_learning_rate
    assert peaks == pytest.approx([matrix, matrix / 4, prior, vector, vector / 4])
    model = trainer.model
    linear = {id(p) for optimizer in (muon, adamw) for p in optimizer.param_groups[-1]["params"]}
    slow = [model.analysis.patch.weight, model.synthesis.up.bias, model.inverse_gain.values]
    assert all(id(parameter) in linear for parameter in slow)
    assert id(model.analysis.blocks[0].contract.weight) not in linear
    assert id(model.hyper_analysis.gain.values) not in linear


@pytest.mark.slow
def test_a_run_goes_on_with_more_blocks_from_the_same_function(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=3))
    grown_config = dataclasses.replace(CONFIG, latent_blocks=CONFIG.latent_blocks + 1)
    settings = dataclasses.replace(SETTINGS, warmup_steps=2)
    grown = Trainer(grown_config, settings, images=tensors(), checkpoint_path=path, resume=True)
    same = make_trainer(path, resume=True)
    x, quality = same.crops.batch(2), torch.tensor([20.0, 80.0])
    for old, new in ((same.model, grown.model), (same.average.module, grown.average.module)):
        before, after = (model.eval()(x, quality) for model in (old, new))
        torch.testing.assert_close(after.mse, before.mse)
        torch.testing.assert_close(after.y_bits, before.y_bits)
    rates = []
    grown.run(Budget(steps=6), lambda _: rates.append(grown.optimizers[0].param_groups[0]["lr"]))
    peak = SETTINGS.matrix_learning_rate
    assert rates == pytest.approx([peak * x for x in (1 / 4, 1 / 3, 1 / 6)])
    block = grown.model.analysis.latent_blocks[-1]
    assert block.contract.weight.abs().max() > 0
    resumed = Trainer(grown_config, settings, images=tensors(), checkpoint_path=path, resume=True)
    assert resumed.warm_up_from == 0
    assert resumed.optimizers[0].state


@pytest.mark.slow
def test_a_run_goes_on_from_the_averaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=3))
    saved = load_checkpoint(path)
    resumed = make_trainer(path, resume=True, from_average=True)
    for model in (resumed.model, resumed.average.module):
        for name, value in model.state_dict().items():
            assert torch.equal(value, saved.average[name]), name
    assert resumed.step == resumed.warm_up_from == 3
    assert not resumed.optimizers[0].state


@pytest.mark.slow
def test_optimisers_of_another_version_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=1))
    old = load_checkpoint(path)
    del old.optimizers[0]["param_groups"][1]
    old.save(path)
    with pytest.raises(ModelError, match="resume with --from-average"):
        make_trainer(path, resume=True)
    assert make_trainer(path, resume=True, from_average=True).step == 1


def test_a_run_does_not_go_on_with_other_sizes(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=1))
    width = CONFIG.channels
    other = dataclasses.replace(CONFIG, channels=width + 8)
    with pytest.raises(ConfigError, match=f"channels is {width + 8}, but {width} in the weights"):
        Trainer(other, SETTINGS, images=tensors(), checkpoint_path=path, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("more", [0, 1])
def test_a_run_starts_from_weights(tmp_path: Path, more: int) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=20))
    export(path, tensors(), tmp_path / "out.safetensors", num_crops=32)
    config = dataclasses.replace(CONFIG, encoder_blocks=CONFIG.encoder_blocks + more)
    weights = load_weights(tmp_path / "out.safetensors")
    started = Trainer(
        config, SETTINGS, images=tensors(), checkpoint_path=tmp_path / "new.ckpt", start=weights
    )
    before = MainAutoencoder(CONFIG)
    before.load_state_dict(load_checkpoint(path).average)
    x, quality = started.crops.batch(4), torch.tensor([10.0, 40.0, 60.0, 90.0])
    with torch.inference_mode():
        old, new = (model.eval()(x, quality) for model in (before, started.model))
    torch.testing.assert_close(new.mse, old.mse, rtol=0.02, atol=0)
    torch.testing.assert_close(new.y_bits, old.y_bits, rtol=0.05, atol=0)
    torch.testing.assert_close(new.z_bits, old.z_bits, rtol=0.3, atol=0)
    assert started.step == 0
    started.run(Budget(steps=2))
    assert load_checkpoint(tmp_path / "new.ckpt").step == 2


def test_weights_of_other_sizes_are_no_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"channels is .*, but .* in the weights it starts from"):
        make_trainer(tmp_path / "run.ckpt", start=find_weights("psnr"))


def test_shrunk_crops_are_steeper() -> None:
    ramp = torch.arange(160, dtype=torch.uint8).expand(3, 160, 160)
    plain, shrunk = (Crops([ramp], 64, device=CPU, seed=0, shrink=shrink) for shrink in (1.0, 2.0))
    spans = [
        sorted({round(float(255 * (x.max() - x.min()))) for x in crops.batch(40)})
        for crops in (plain, shrunk)
    ]
    assert spans[0] == [63]
    assert spans[1][0] == 63
    assert 110 < spans[1][-1] < 128
    with pytest.raises(ConfigError, match=r"shrink is 0\.5, expected at least 1"):
        dataclasses.replace(SETTINGS, shrink=0.5)


def test_an_interrupt_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    trainer = make_trainer(path)

    def interrupt(_: object) -> None:
        if trainer.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(Budget(steps=50), interrupt)
    assert load_checkpoint(path).step == 2


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run.ckpt")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.crops.batch = lambda count: torch.full((count, 3, 64, 64), float("nan"))  # type: ignore[method-assign]
    trainer.run(Budget(steps=2))
    assert trainer.skipped == 2
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.slow
def test_a_model_is_exported_midway_to_the_one_it_started_from(tmp_path: Path) -> None:
    path, out = tmp_path / "run.ckpt", tmp_path / "out.safetensors"
    make_trainer(path).run(Budget(steps=2))
    export(path, tensors(), tmp_path / "start.safetensors", num_crops=8)
    start = load_weights(tmp_path / "start.safetensors")
    trainer = Trainer(CONFIG, SETTINGS, images=tensors(), checkpoint_path=path, start=start)
    trainer.run(Budget(steps=3))
    export(path, tensors(), out, start=start, num_crops=8)
    midway, end = load_weights(out).tensors, load_checkpoint(path).average
    name = "synthesis.project.weight"
    expected = (end[name].numpy() + start.tensors[name]) / 2
    np.testing.assert_allclose(midway[name], expected, rtol=2e-3, atol=1e-4)
    assert not np.array_equal(midway[name], start.tensors[name])
    other = dataclasses.replace(CONFIG, channels=CONFIG.channels + 8)
    Trainer(other, SETTINGS, images=tensors(), checkpoint_path=path).run(Budget(steps=1))
    with pytest.raises(ModelError, match="expected one that the run started from"):
        export(path, tensors(), out, start=start, num_crops=8)


@pytest.mark.slow
def test_the_command_trains_exports_and_compresses(
    image_folder: Path, toy_toml: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    command = [sys.executable, "-m", "caecodec", "train", image_folder, "--out", out]
    done = subprocess.run(
        [*command, "--steps", "3", "--config", toy_toml, "--valid", image_folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "estimated by the float model" in done.stderr
    codec = Codec(out)
    assert codec.weights.config == CONFIG
    assert codec.weights.training["steps"] == 3
    image = synthetic_image(50, 40, 1)
    assert codec.decompress(codec.compress(image)).size == (50, 40)


@pytest.mark.slow
def test_the_command_starts_from_weights_and_takes_their_sizes(
    image_folder: Path, toy_toml: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train = [sys.executable, "-m", "caecodec", "train", image_folder, "--steps", "2"]
    subprocess.run([*train, "--out", first, "--config", toy_toml], check=True)
    again = [*train, "--out", second, "--start", first, "--batch-size", "4", "--crop-size", "64"]
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Codec(second).weights.config == CONFIG
    assert Codec(second).weights.training["steps"] == 2
    done = subprocess.run([*again, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--start excludes --resume" in done.stderr


@pytest.mark.slow
def test_torchrun_trains_with_two_processes(
    image_folder: Path, toy_toml: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "-m", "caecodec", "train", image_folder, "--out", out, "--steps", "2",
         "--config", toy_toml],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(out.with_suffix(".ckpt")).step == 2
    assert Codec(out).weights.training["steps"] == 2


@pytest.mark.slow
def test_export_costs_little_rate_and_keeps_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    make_trainer(path).run(Budget(steps=5))
    report = export(path, tensors(), tmp_path / "out.safetensors", num_crops=64)
    assert report.loss_percent < 0.5
    assert Codec(tmp_path / "out.safetensors").weights.config == CONFIG


@pytest.mark.slow
def test_the_linear_start_is_a_transform_codec() -> None:
    """Before any step, high quality already reconstructs what M coefficients can hold."""
    torch.manual_seed(0)
    config = MainConfig(latent_channels=256, hyper_channels=8, context_channels=8)
    model = MainAutoencoder(config).eval()
    crops = Crops(tensors(8, 128), 64, device=CPU, seed=0)
    model.start_linear(PrincipalComponents(crops.batch(64), config))
    x = crops.batch(8)
    with torch.inference_mode():
        coarse, fine = (model(x, torch.full((8,), quality)).mse.mean() for quality in (0.0, 100.0))
    assert -10 * fine.log10() > 30
    assert -10 * coarse.log10() < -10 * fine.log10() - 3


def test_training_estimates_no_less_than_evaluation() -> None:
    """Uniform noise bounds rounding from above, up to sampling."""
    torch.manual_seed(0)
    model = MainAutoencoder(CONFIG)
    crops = Crops(tensors(), 64, device=CPU, seed=0)
    model.start_linear(PrincipalComponents(crops.batch(32), CONFIG))
    x, quality = crops.batch(8), torch.full((8,), 80.0)
    with torch.inference_mode():
        noisy = model.train()(x, quality).y_bits.sum()
        rounded = model.eval()(x, quality).y_bits.sum()
    assert noisy > 0.97 * rounded


def test_dead_zones_spend_fewer_bits_and_let_gradients_pass() -> None:
    model = MainAutoencoder(CONFIG)
    crops = Crops(tensors(), 64, device=CPU, seed=0)
    model.start_linear(PrincipalComponents(crops.batch(32), CONFIG))
    x, quality = crops.batch(4), torch.full((4,), 60.0)
    with torch.inference_mode():
        plain = model.eval()(x, quality)
        model.dead_zones = True
        zoned = model(x, quality)
    assert zoned.y_bits.sum() < plain.y_bits.sum()
    assert zoned.mse.sum() > plain.mse.sum()
    model.train()(x, quality).mse.sum().backward()
    gradient = model.analysis.patch.weight.grad
    assert gradient is not None
    assert 0 < gradient.norm() < float("inf")


@pytest.mark.slow
@pytest.mark.parametrize(("start", "expected"), [(0.0, True), (0.5, True), (1.0, False)])
def test_dead_zones_begin_at_their_part_of_the_run(
    tmp_path: Path, start: float, expected: bool
) -> None:
    trainer = make_trainer(tmp_path / "run.ckpt", {"dead_zones_from": start})
    trainer.run(Budget(steps=2))
    assert trainer.model.dead_zones is expected


def test_each_latent_is_coded_in_exactly_one_step() -> None:
    masks = step_masks(torch.Size((1, 8, 5, 7)), CPU)
    assert torch.equal(sum(masks), torch.ones(1, 8, 5, 7))
    for mask in masks:
        quarters = mask[0, ::2, :4, :6]
        assert quarters.sum((1, 2)).unique().tolist() == [6]


def test_the_residual_prior_sums_to_one() -> None:
    residuals = torch.arange(-3000.0, 3001.0)
    for index in (0.0, 20.0, 45.0):
        total = ResidualPrior().likelihood(residuals, torch.full_like(residuals, index)).sum()
        assert total.item() == pytest.approx(1, abs=1e-3)


def test_muon_updates_are_near_orthogonal() -> None:
    matrices = torch.randn(3, 12, 30, generator=torch.Generator().manual_seed(0))
    for dtype, slack in ((torch.float32, 0.0), (torch.bfloat16, 0.05)):
        singular = torch.linalg.svdvals(orthogonalize(matrices, dtype).float())
        assert singular.min() > 0.79 - slack
        assert singular.max() < 1.21 + slack
    assert orthogonalize(matrices.mT).shape == (3, 30, 12)


def test_gradients_pass_where_they_help() -> None:
    x = torch.tensor([-1.0, -1.0, 2.0], requires_grad=True)
    (lower_bound(x, 0.0) * torch.tensor([1.0, -1.0, 1.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, -1.0, 1.0]
    y = torch.tensor([0.4, 1.6], requires_grad=True)
    round_straight_through(y).sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [1.0, 1.0]


def test_lambda_is_log_uniform_and_steps_shrink_with_quality() -> None:
    assert rd_lambda(0) == pytest.approx(0.0008)
    assert rd_lambda(100) == pytest.approx(0.3)
    assert rd_lambda(50) == pytest.approx((0.0008 * 0.3) ** 0.5)
    assert optimal_step(0) > optimal_step(50) > optimal_step(100)


def test_crops_repeat_for_a_seed_and_fill_small_images() -> None:
    images = [torch.randint(0, 256, (3, 40, 100), dtype=torch.uint8)]
    first, second = (Crops(images, 64, device=CPU, seed=3).batch(4) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (4, 3, 64, 64)
    assert 0 <= first.min() <= first.max() <= 1


def test_images_load_from_folders_and_tar_shards(image_folder: Path) -> None:
    with tarfile.open(image_folder / "shard.tar", "w") as shard:
        shard.add(image_folder / "0.png", "inside/0.png")
    images = load_images(image_folder)
    assert [tuple(image.shape) for image in images] == 4 * [(3, 80, 96)]


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image"):
        load_images(tmp_path)
    with pytest.raises(ImageError, match="not a folder"):
        load_images(tmp_path / "none")
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"bad\.png"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[model]\nchannels = 0\n",
        "[model]\nlatent_channels = 30\n",
        "[model]\nwidth = 3\n",
        "[train]\ncrop_size = 100\n",
        "[train]\nbatch_size = 'many'\n",
        "[train]\nspeed = 3\n",
        "[other]\n",
        "not toml",
    ],
)
def test_bad_configurations_are_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config(path)


@pytest.mark.parametrize("name", ["main", "gpu"])
def test_each_shipped_configuration_decodes_with_less_than_40_kmac_a_pixel(name: str) -> None:
    model_config, _ = load_config(find_config(name))
    assert max(kmac_per_pixel(model_config)) < 40


def test_a_configuration_is_a_name_or_a_file(tmp_path: Path) -> None:
    assert find_config(str(tmp_path / "own.toml")) == tmp_path / "own.toml"
    with pytest.raises(ConfigError, match="gpu, main"):
        find_config("huge")


def test_configurations_round_trip() -> None:
    assert model_config_from(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ConfigError):
        MainSettings(batch_size=0)


@pytest.mark.parametrize(
    "budget", [{}, {"steps": 1, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}]
)
def test_a_budget_is_steps_or_minutes(budget: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Budget(**budget)  # type: ignore[arg-type]


def test_a_batch_has_qualities_of_the_whole_range() -> None:
    crops = Crops(tensors(1), 64, device=CPU, seed=0)
    batches = torch.stack([crops.qualities(5) for _ in range(200)])
    assert torch.equal(batches.sort(1).values.div(20).floor(), torch.arange(5.0).expand(200, 5))
    assert batches.mean(0) == pytest.approx(50.0, abs=10)


def test_checkpoints_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without --resume"):
        load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(np.random.default_rng(0).bytes(100))
    with pytest.raises(ModelError, match="not a caecodec checkpoint"):
        load_checkpoint(tmp_path / "bad.ckpt")
