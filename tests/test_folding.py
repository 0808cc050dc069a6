"""Folded branches: what a straight line is, and that nothing but time changes."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from make_golden import synthetic_image

from caecodec.codec.codec import Codec
from caecodec.codec.tensors import to_unit
from caecodec.config import MainConfig
from caecodec.nn.architectures import build_model
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.folding import fold
from caecodec.nn.inference_main import FrozenMain
from caecodec.nn.layers import Block, Conv2d

pytestmark = pytest.mark.slow

SIZES = MainConfig(
    channels=16,
    latent_channels=16,
    hyper_channels=8,
    context_channels=8,
    encoder_blocks=3,
    decoder_blocks=3,
    latent_blocks=2,
    quality_anchors=3,
)
QUALITY = torch.tensor([50.0])


def a_model(wide: float) -> MainAutoencoder:
    """A random model whose wide branches see values of about so much."""
    torch.manual_seed(0)
    model = MainAutoencoder(SIZES).eval().requires_grad_(requires_grad=False)
    for block in blocks_of(model):
        torch.nn.init.normal_(block.mix_out.weight, std=0.05)
        assert block.expand is not None
        assert block.contract is not None
        torch.nn.init.normal_(block.expand.weight, std=wide)
        torch.nn.init.normal_(block.contract.weight, std=0.1)
        torch.nn.init.normal_(block.contract.bias, std=0.1)
    return model


def blocks_of(model: MainAutoencoder) -> list[Block]:
    parts = (model.analysis, model.synthesis)
    return [block for part in parts for block in part.modules() if isinstance(block, Block)]


def straight(model: MainAutoencoder) -> list[bool]:
    return [block.expand is None for block in blocks_of(model)]


def outputs(model: MainAutoencoder) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(synthetic_image(64, 48, 3)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        y = model.analyze(x, QUALITY)
        return y, model.synthesize(y, QUALITY)


def test_straight_branches_go_and_the_transforms_stay() -> None:
    model = a_model(wide=1e-3)
    folded = copy.deepcopy(model)
    fold(folded)
    assert all(straight(folded))
    for after, before in zip(outputs(folded), outputs(model), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_a_model_with_tables_in_its_blocks_is_not_folded() -> None:
    torch.manual_seed(0)
    model = MainAutoencoder(dataclasses.replace(SIZES, block_tables=True)).eval()
    folded = copy.deepcopy(model)
    fold(folded)
    assert not any(straight(folded))


def test_bent_branches_stay_as_they_are() -> None:
    model = a_model(wide=0.5)
    folded = copy.deepcopy(model)
    fold(folded)
    assert not any(straight(folded))
    for after, before in zip(outputs(folded), outputs(model), strict=True):
        assert torch.equal(after, before)


@pytest.mark.parametrize("bent", range(3))
def test_a_bent_branch_among_straight_ones_is_written_in_their_frame(bent: int) -> None:
    model = a_model(wide=1e-3)
    for transform in (model.analysis, model.synthesis):
        block = transform.blocks[bent]
        assert isinstance(block, Block)
        assert block.expand is not None
        torch.nn.init.normal_(block.expand.weight, std=0.5)
    folded = copy.deepcopy(model)
    fold(folded)
    assert straight(folded).count(False) == 2
    for after, before in zip(outputs(folded), outputs(model), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def shipped() -> tuple[Codec, FrozenMain]:
    """The shipped model, and its networks as they were trained."""
    codec = Codec("psnr")
    trained = build_model(codec.weights.config, codec.weights.tensors, folded=False)
    assert isinstance(trained, FrozenMain)
    return codec, trained


@pytest.mark.parametrize("units", [0, 3000, 7000, 10_000])
def test_the_shipped_model_decodes_to_the_same_pixels_but_for_rounding(
    shipped: tuple[Codec, FrozenMain], units: int
) -> None:
    codec, trained = shipped
    x = to_unit(synthetic_image(320, 192, 5))
    with torch.inference_mode():
        y = trained.at(units).analyze(trained.stem(x)).round()
        before, after = (
            model.at(units).synthesize(y).mul(255).clamp(0, 255) for model in (trained, codec.model)
        )
    assert (after - before).abs().max() < 1
    assert (after - before).square().mean().sqrt() < 0.1


@pytest.mark.parametrize("units", [0, 5000, 10_000])
def test_the_shipped_model_encodes_to_the_same_symbols_but_for_a_few(
    shipped: tuple[Codec, FrozenMain], units: int
) -> None:
    codec, trained = shipped
    x = to_unit(synthetic_image(320, 192, 5))
    symbols = []
    with torch.inference_mode():
        for model in (trained, codec.model):
            at_quality = model.at(units)
            symbols.append(at_quality.quantize(at_quality.latent(model.stem(x))).symbols)
    assert (symbols[0] != symbols[1]).float().mean() < 0.002


def test_one_thread_convolves_as_two_do() -> None:
    torch.manual_seed(0)
    convolution = Conv2d(24, 40, 1)
    x = torch.randn(1, 24, 13, 11).contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            own = x.clone().requires_grad_()
            output = convolution(own)
            output.square().sum().backward()
            results.append((output, own.grad))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_a_file_of_the_folded_model_is_as_good(shipped: tuple[Codec, FrozenMain]) -> None:
    codec, trained = shipped
    image = synthetic_image(128, 96, 9)
    data = codec.compress(image, quality=60)
    unfolded = copy.copy(codec)
    unfolded.model = trained
    pixels = [np.asarray(own.decompress(data), dtype=np.int16) for own in (codec, unfolded)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
