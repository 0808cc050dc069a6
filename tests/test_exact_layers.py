"""Exact models: the same pixels whatever the threads, the library, the order and the parts."""

from __future__ import annotations

import dataclasses
import math
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from make_golden import GOLDEN, SETTINGS, drawn_image, synthetic_image
from PIL import Image
from toys import LEAN, toy_images
from typer.testing import CliRunner

from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.errors import ModelError
from caecodec.nn import inference_main
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.exact_form import Form, exponential, interpolate
from caecodec.nn.exact_layers import (
    PREFIX,
    ExactConv2d,
    ExactSpaceConv2d,
    is_exact,
    without_exact,
)
from caecodec.nn.layers import Conv2d
from caecodec.train.export import ExactReport, export, export_exact
from caecodec.train.thaw import thaw
from caecodec.train.trainer import Budget, Trainer
from caecodec.train.weight_rounding import round_weights
from caecodec.weights.storage import Weights, load_weights, save_weights

pytestmark = pytest.mark.slow
EXAMPLES = GOLDEN.parents[1] / "examples"
sys.path.append(str(EXAMPLES))
READER = SimpleNamespace(**runpy.run_path(str(EXAMPLES / "cae_pixels.py")))
IMAGE = synthetic_image(150, 110, 4)


@pytest.fixture(scope="module", params=["silu", "hardswish"])
def exported(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    plain_weights: Weights,
) -> tuple[Weights, ExactReport]:
    """An exact toy model, and what it costs."""
    folder = tmp_path_factory.mktemp("exact")
    config = dataclasses.replace(LEAN, activation=request.param, decoder_wide=1)
    settings = dataclasses.replace(SETTINGS, vector_learning_rate=0.05)
    path = folder / "run.ckpt"
    trainer = Trainer(
        config, settings, images=toy_images(), checkpoint_path=path, start=plain_weights
    )
    trainer.run(Budget(steps=8))
    out = folder / "exact.safetensors"
    export(path, toy_images(), out, num_crops=8)
    cost = export_exact(load_weights(out), toy_images(), out, num_crops=8)
    return load_weights(out), cost


def pixels(codec: Codec, data: bytes) -> np.ndarray:
    return np.asarray(codec.decompress(data))


def test_an_exact_model_is_near_the_one_that_was_trained(
    exported: tuple[Weights, ExactReport],
) -> None:
    weights, cost = exported
    assert abs(cost.lost_psnr) < 0.1
    assert abs(cost.rate_percent) < 1
    plain = Codec(Weights(weights.config, without_exact(weights.tensors), {}))
    data = plain.compress(IMAGE, quality=60)
    levels = np.asarray(plain.decompress(data), dtype=int)
    exact = Codec(weights)
    own = np.asarray(exact.decompress(exact.compress(IMAGE, quality=60)), dtype=int)
    assert np.abs(own - levels).mean() < 1


def test_the_command_makes_a_model_exact_and_says_what_it_costs(
    exported: tuple[Weights, ExactReport], tmp_path: Path
) -> None:
    weights = exported[0]
    plain, out, images = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "images"))
    save_weights(Weights(weights.config, without_exact(weights.tensors), {}), plain)
    images.mkdir()
    for seed in range(3):
        Image.fromarray(synthetic_image(48, 48, seed)).save(images / f"{seed}.png")
    arguments = ["export", plain, images, "--out", out, "--exact"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "exact, at a cost of" in done.output
    assert is_exact(load_weights(out).tensors)


def test_a_model_with_forms_of_another_kind_can_be_made_exact_anew(
    exported: tuple[Weights, ExactReport], tmp_path: Path
) -> None:
    weights, out = exported[0], tmp_path / "again.safetensors"
    earlier = {key: own for key, own in weights.tensors.items() if not key.endswith(".levels")}
    older = Weights(weights.config, earlier, {})
    with pytest.raises(ModelError, match="levels"):
        Codec(older)
    cost = export_exact(older, toy_images(), out, num_crops=8)
    assert abs(cost.lost_psnr) < 0.1
    assert load_weights(out).tensors.keys() == weights.tensors.keys()


def test_weights_rounded_in_turn_make_up_for_each_other() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 500))
    x[20:] = x[:20] + 0.3 * random.normal(size=(20, 500)) + 0.5
    weight = random.normal(size=(8, 40))
    form = Form(np.full(40, 0.01, np.float32), np.ones(1, np.int16), np.full(8, 10, np.int8))
    stored = round_weights(weight, form, x @ x.T)
    steps = np.float64(np.float32(0.01)) * 2**10
    numerators = stored.astype(np.float64) * steps
    assert np.abs(numerators - np.rint(numerators)).max() < 0.05  # of what readers round
    read, nearest = np.rint(numerators) / steps, np.rint(weight * steps) / steps
    assert not np.array_equal(read, nearest)
    assert np.square((read - weight) @ x).mean() < 0.7 * np.square((nearest - weight) @ x).mean()


@pytest.mark.parametrize("quality", [0, 37.5, 100])
def test_pixels_do_not_depend_on_threads_library_or_parts(
    exported: tuple[Weights, ExactReport], quality: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec(exported[0])
    data = codec.compress(IMAGE, quality=quality)
    expected = pixels(codec, data)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert np.array_equal(pixels(codec, data), expected)
            torch._C._set_mkldnn_enabled(*(False,))  # `flags` warns of other devices
            assert np.array_equal(pixels(codec, data), expected)
            torch._C._set_mkldnn_enabled(*(True,))
    finally:
        torch._C._set_mkldnn_enabled(*(True,))
        torch.set_num_threads(before)
    for positions in (8, 20):
        monkeypatch.setattr(inference_main, "SLAB_POSITIONS", positions)
        assert np.array_equal(pixels(codec, data), expected)
    part = np.asarray(codec.decompress(data, crop=(33, 21, 70, 60)))
    assert np.array_equal(part, expected[21:81, 33:103])


def test_sums_are_those_of_integers(exported: tuple[Weights, ExactReport]) -> None:
    networks = Codec(exported[0]).model.networks  # type: ignore[attr-defined]
    layers = [module for module in networks.modules() if isinstance(module, ExactConv2d)]
    assert len(layers) * 3 == sum(name.startswith(PREFIX) for name in exported[0].tensors)
    random = torch.Generator().manual_seed(0)
    for layer in layers:
        x = 3 * torch.randn((1, layer.layer.in_channels, 12, 9), generator=random)
        quality = torch.tensor([62.5])
        with torch.inference_mode():
            found = (
                layer(x.clone())
                if isinstance(layer, ExactSpaceConv2d)
                else layer(x.clone(), quality)
            )
            rounded = layer._received(x.clone())
            weight, bias, reach = layer._kernel(quality)
            sums = torch.nn.functional.conv2d(
                rounded.double(),
                weight.double(),
                bias.double(),
                padding=layer.layer.padding,
                groups=layer.layer.groups,
            )
        assert torch.equal(found, sums.float()), layer.name
        assert reach is not None or torch.equal(sums, found.double()), layer.name


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_sums_beyond_what_float32_holds_are_rounded_once(
    exported: tuple[Weights, ExactReport], size: float
) -> None:
    networks = Codec(exported[0]).model.networks  # type: ignore[attr-defined]
    fine = [
        layer
        for layer in networks.modules()
        if isinstance(layer, ExactConv2d) and layer._kernel(torch.tensor([50.0])).reach
    ]
    assert {"synthesis.project", "synthesis.up", "synthesis.patch"} <= {own.name for own in fine}
    random = torch.Generator().manual_seed(1)
    beyond = 0
    for layer in fine:
        weight, bias, reach = layer._kernel(torch.tensor([50.0]))
        assert reach is not None
        direction = weight[:1].sign() * layer.levels / size  # of the largest sum of an output
        rounded = direction * torch.rand((1, 1, 9, 7), generator=random)
        layer._received = lambda x: x.round()  # type: ignore[method-assign]
        with torch.inference_mode():
            found = layer(rounded.clone(), torch.tensor([50.0]))
        sums = torch.nn.functional.conv2d(rounded.round().double(), weight.double(), bias.double())
        assert torch.equal(found, sums.float()), layer.name
        beyond += int((sums != sums.float().double()).sum())
    assert (beyond > 0) == (size == 1.0)


def test_a_sum_beyond_the_bound_is_refused_by_the_layers_name(
    exported: tuple[Weights, ExactReport],
) -> None:
    weights = exported[0]
    name = "mean_context.leave"
    tensors = dict(weights.tensors)
    tensors[f"{PREFIX}{name}.shift"] = tensors[f"{PREFIX}{name}.shift"] + 8
    codec = Codec(Weights(weights.config, tensors, {}))
    with pytest.raises(ModelError, match=rf"layer {name} has (sums|weights) of up to"):
        codec.compress(IMAGE)


def test_reduced_precision_is_refused_instead_of_other_pixels(
    exported: tuple[Weights, ExactReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Conv2d._conv_forward

    def convolve(layer: Conv2d, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return exact(layer, x.bfloat16().float(), *rest)

    monkeypatch.setattr(Conv2d, "_conv_forward", convolve)
    with pytest.raises(ModelError, match="reduced precision"):
        Codec(exported[0])


def test_no_layer_in_space_is_one_that_winograds_algorithm_takes(
    exported: tuple[Weights, ExactReport],
) -> None:
    networks = Codec(exported[0]).model.networks  # type: ignore[attr-defined]
    layers = [module for module in networks.modules() if isinstance(module, ExactSpaceConv2d)]
    assert layers
    assert not any(layer._kernel(None).weight.is_contiguous() for layer in layers)


def test_a_missing_or_unknown_part_is_refused(exported: tuple[Weights, ExactReport]) -> None:
    weights = exported[0]
    name = f"{PREFIX}synthesis.patch.step"
    missing = {other: values for other, values in weights.tensors.items() if other != name}
    with pytest.raises(ModelError, match="lack"):
        Codec(Weights(weights.config, missing, {}))
    unknown = {**weights.tensors, f"{PREFIX}analysis.patch.step": weights.tensors[name]}
    with pytest.raises(ModelError, match="unknown part"):
        Codec(Weights(weights.config, unknown, {}))
    narrow = {**weights.tensors, name: weights.tensors[name][1:]}
    with pytest.raises(ModelError, match="wrong shape"):
        Codec(Weights(weights.config, narrow, {}))


def test_training_goes_on_from_the_floats_of_an_exact_model(
    exported: tuple[Weights, ExactReport],
) -> None:
    weights = exported[0]
    model = MainAutoencoder(weights.config)  # type: ignore[arg-type]
    thaw(model, weights)
    name = "synthesis.patch.weight"
    assert np.array_equal(model.state_dict()[name].numpy(), weights.tensors[name])


@pytest.mark.parametrize("quality", [0, 62.5, 100])
@pytest.mark.parametrize("kind", ["color", "gray", "drawn"])
def test_the_second_reader_finds_the_same_pixels(
    exported: tuple[Weights, ExactReport], quality: float, kind: str
) -> None:
    weights = exported[0]
    images = {"color": IMAGE, "gray": IMAGE[..., 0], "drawn": drawn_image(150, 110, 5)}
    codec = Codec(weights, tile_size=4 if kind == "color" else 16)
    data = codec.compress(images[kind], quality=quality)
    assert weights.path is not None
    found = READER.decode_pixels(data, weights.path.read_bytes())
    assert np.array_equal(found, pixels(codec, data))


def test_factors_are_powers_of_e() -> None:
    values = np.linspace(-8, 8, 1001)
    np.testing.assert_allclose(exponential(values), np.exp(values), rtol=1e-12)
    table = np.array([[0.0, 1.0], [2.0, 5.0], [4.0, 6.0]])
    assert interpolate(table, 2_500).tolist() == [1.0, 3.0]
    assert interpolate(table, 10_000).tolist() == [4.0, 6.0]
    assert math.isclose(exponential(np.zeros(1))[0], 1.0)
