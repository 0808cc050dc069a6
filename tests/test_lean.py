"""Blocks without a wide branch, with tables by quality, with hardswish; readings of branches."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from make_golden import CONFIG, synthetic_image
from toys import LEAN, toy_images
from typer.testing import CliRunner

from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.config import MainConfig
from caecodec.errors import ConfigError, ModelError
from caecodec.format.grid import Region, TileGrid
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.layers import Block, Fp32Conv2d, QualityConv2d
from caecodec.train.branches import DEAD, read_branches
from caecodec.train.thaw import thaw
from caecodec.weights.complexity import kmac_per_pixel
from caecodec.weights.storage import Weights

pytestmark = pytest.mark.slow


def thawed(config: MainConfig, weights: Weights) -> MainAutoencoder:
    model = MainAutoencoder(config).eval()
    thaw(model, weights)
    return model


def test_a_lean_model_starts_as_the_same_function(plain_weights: Weights) -> None:
    config = dataclasses.replace(LEAN, activation="silu")
    x = torch.stack(toy_images(2, 128)).float() / 255
    quality = torch.tensor([20.0, 80.0])
    models = [thawed(own, plain_weights) for own in (CONFIG, config)]
    with torch.inference_mode():
        before, after = (model(x, quality) for model in models)
    torch.testing.assert_close(after.mse, before.mse, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(after.y_bits, before.y_bits, rtol=1e-2, atol=1)


def test_hardswish_starts_near_silu(plain_weights: Weights) -> None:
    x = torch.stack(toy_images(2, 128)).float() / 255
    quality = torch.tensor([20.0, 80.0])
    models = [thawed(own, plain_weights) for own in (CONFIG, LEAN)]
    with torch.inference_mode():
        before, after = (model(x, quality) for model in models)
    torch.testing.assert_close(after.mse, before.mse, rtol=0.1, atol=1e-6)


def test_a_bent_branch_cannot_be_left_out(plain_weights: Weights) -> None:
    tensors = dict(plain_weights.tensors)
    for part in ("expand", "contract"):
        name = f"synthesis.blocks.0.{part}.weight"
        tensors[name] = np.random.default_rng(0).normal(size=tensors[name].shape).astype(np.float16)
    bent = Weights(plain_weights.config, tensors, plain_weights.training)
    with pytest.raises(ModelError, match=r"synthesis\.blocks\.0.*needs more wide blocks"):
        thawed(LEAN, bent)
    thawed(dataclasses.replace(LEAN, decoder_wide=1), bent)


def test_lean_files_decode_to_what_the_encoder_saw(lean: Codec) -> None:
    image = synthetic_image(150, 110, 4)
    sizes = [len(lean.compress(image, quality=quality)) for quality in (10, 60, 100)]
    assert sizes == sorted(sizes)
    decoded = np.asarray(lean.decompress(lean.compress(image, quality=100)), dtype=float)
    assert np.sqrt(np.square(decoded - image).mean()) < 12


@pytest.mark.parametrize("shape", [(9, 7), (6, 11)])
def test_lean_slabs_are_the_same_as_the_whole(lean: Codec, shape: tuple[int, int]) -> None:
    model, (height, width) = lean.model, shape
    torch.manual_seed(0)
    y_hat = torch.randn(1, model.config.latent_channels, height, width)
    grid = TileGrid(width * model.stride, height * model.stride, 4)
    at_quality, window = model.at(3300), Region(0, 0, height, width)
    with torch.inference_mode():
        whole = at_quality.synthesize(y_hat)
        for part, x_hat in at_quality.synthesize_window(
            lambda region: y_hat[..., region.rows, region.columns], window, grid
        ):
            expected = whole[..., part.rows, part.columns]
            torch.testing.assert_close(x_hat, expected, rtol=1e-3, atol=1e-5)


def test_tables_become_part_of_the_kernel_of_one_quality() -> None:
    torch.manual_seed(0)
    layer = QualityConv2d(6, 4, 3)
    for table in (layer.gain, layer.shift):
        torch.nn.init.normal_(table.values)
    x, quality = torch.randn(1, 6, 5, 5), torch.tensor([70.0])
    with_gradient = layer(x, quality)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x, quality), with_gradient)
        both = layer(x.expand(2, -1, -1, -1), torch.tensor([70.0, 10.0]))
    torch.testing.assert_close(both[:1], with_gradient)
    assert not torch.allclose(both[1], both[0])


@pytest.mark.parametrize(
    "fields",
    [{"decoder_wide": -1}, {"decoder_wide": 9}, {"decoder_wide": True}, {"block_tables": 1},
     {"activation": "relu"}],
)  # fmt: skip
def test_bad_sizes_of_blocks_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        dataclasses.replace(CONFIG, **fields)


def test_the_lean_main_model_costs_less_than_24_kmac_each_way() -> None:
    full = MainConfig(encoder_blocks=6, decoder_blocks=6, latent_blocks=3)
    own = dataclasses.replace(full, decoder_wide=2, block_tables=True)
    assert max(kmac_per_pixel(own)) < 24
    assert kmac_per_pixel(full)[1] > 35


def test_gradients_in_bfloat16_are_near_those_in_float32() -> None:
    torch.manual_seed(0)
    layer = Fp32Conv2d(8, 12, 2, stride=2)
    x = torch.randn(3, 8, 10, 10)
    gradients = []
    for is_mixed in (False, True):
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            output = layer(own)
        assert output.dtype == torch.float32
        output.square().sum().backward()
        gradients.append([own.grad, layer.weight.grad, layer.bias.grad])
        layer.zero_grad()
    for mixed, full in zip(gradients[1], gradients[0], strict=True):
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, full, rtol=0.05, atol=0.3)


def test_readings_tell_a_straight_branch_from_a_bent_one() -> None:
    torch.manual_seed(0)
    model = MainAutoencoder(dataclasses.replace(CONFIG, decoder_blocks=2)).eval()
    straight, bent = (block for block in model.synthesis.blocks if isinstance(block, Block))
    for block, scale in ((straight, 1e-4), (bent, 3.0)):
        assert block.expand is not None
        assert block.contract is not None
        torch.nn.init.normal_(block.expand.weight, std=scale)
        torch.nn.init.normal_(block.contract.weight)
        torch.nn.init.normal_(model.synthesis.up.weight)
    x = torch.stack(toy_images(2, 128)).float() / 255
    readings = {own.name: own for own in read_branches(model, x, torch.tensor([30.0, 60.0]))}
    assert readings["synthesis.blocks.0.wide"].bend < DEAD
    assert readings["synthesis.blocks.1.wide"].bend > 100 * DEAD
    assert readings["synthesis.blocks.1.wide"].output > readings["synthesis.blocks.1.wide"].bend
    assert readings["synthesis.blocks.0.mix"].output == 0  # as blocks start


def test_training_logs_branches_and_says_which_do_nothing(tmp_path: Path) -> None:
    from PIL import Image  # noqa: PLC0415

    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(synthetic_image(96, 96, seed)).save(folder / f"{seed}.png")
    config = tmp_path / "toy.toml"
    sizes = "".join(f"{name} = {json.dumps(value)}\n" for name, value in CONFIG.to_dict().items())
    config.write_text(f"[model]\n{sizes}\n[train]\nbatch_size = 4\ncrop_size = 64\npca_crops = 8\n")
    out = tmp_path / "toy.safetensors"
    arguments = ["train", str(folder), "--out", str(out), "--steps", "2", "--valid", str(folder)]
    result = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "are straight lines" in result.output + result.stderr
    with (tmp_path / "toy.ckpt.branches.csv").open() as handle:
        names = {row["branch"] for row in csv.DictReader(handle)}
    assert {"analysis.blocks.0.mix", "synthesis.blocks.0.wide", "mean_context.block.mix"} <= names
