"""Effort: rounding by rate and distortion, and the search that keeps the best."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import TOY, synthetic_image
from toys import start_decoding

from caecodec.codec.codec import Codec
from caecodec.codec.search import TUNINGS, Surroundings, bits_per_squared_error, effort_level
from caecodec.codec.tensors import to_unit
from caecodec.config import EFFORTS, rd_lambda
from caecodec.errors import ConfigError
from caecodec.format.container import unpack_header
from caecodec.format.grid import Region, TileGrid
from caecodec.format.tables import CodingTables
from caecodec.nn.distortions import DISTORTIONS, REFINED_BY, refined_visual
from caecodec.nn.rounding import (
    DEAD_ZONE_COSTS,
    TYPICAL_SAVING,
    DeadZones,
    Rounding,
    dead_zone_cost,
    nearest,
)
from caecodec.weights.storage import Weights

COST = 12.0


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return synthetic_image(96, 80, 11)


def zones(toy: Codec, magnitudes: int, cost: float = COST) -> Rounding:
    return DeadZones(toy.tables, magnitudes=magnitudes).at(cost)


def round_one(rounding: Rounding, index: int, residual: float) -> float:
    indexes = torch.full((1, 1, 1), index)
    return rounding(torch.full((1, 1, 1, 1), residual), indexes[None]).item()


def lagrangian(tables: CodingTables, index: int, residual: float, symbol: int) -> float:
    """Return bits + COST (residual - symbol)^2, the bits being the mean of both signs."""
    bits = tables.magnitude_bits(index, 12)[abs(symbol)]
    return float(bits + COST * (residual - symbol) ** 2)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(index=st.integers(1, 63), residual=st.floats(-7.4, 7.4))
def test_a_symbol_moves_exactly_where_rate_and_distortion_say_so(
    toy: Codec, index: int, residual: float
) -> None:
    symbol = round_one(zones(toy, 8), index, residual)
    near = round(residual)
    towards = near - int(np.sign(near))
    costs = [lagrangian(toy.tables, index, residual, each) for each in (near, towards)]
    if abs(costs[0] - costs[1]) > 1e-3:
        assert symbol == (near if costs[0] < costs[1] else towards)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(index=st.integers(0, 63), residual=st.floats(-40, 40))
def test_only_magnitudes_in_reach_move(toy: Codec, index: int, residual: float) -> None:
    symbol = round_one(zones(toy, 1, cost=1e-6), index, residual)
    near = round(residual)
    assert symbol in ({near, 0} if abs(near) == 1 else {near})


def test_an_infinite_cost_is_plain_rounding(toy: Codec) -> None:
    residual = torch.linspace(-9, 9, 1000).reshape(1, 1, 1, -1)
    indexes = torch.randint(1, 64, (1, 1, 1000))
    rounded = zones(toy, 8, cost=float("inf"))(residual, indexes[None])
    torch.testing.assert_close(rounded, nearest(residual, indexes[None]))


def test_the_dead_zone_cost_falls_with_quality_and_with_what_a_move_saves() -> None:
    saved = torch.tensor([-1.0, 0.0, 1.0, TYPICAL_SAVING, 6.0])
    costs = torch.stack([dead_zone_cost(float(quality), saved) for quality in range(101)])
    assert (costs[0, 3].item(), costs[-1, 3].item()) == pytest.approx(DEAD_ZONE_COSTS)
    assert (costs.diff(dim=0) < 0).all()
    assert (costs[:, 1:].diff(dim=1) < 0).all()
    assert costs.isfinite().all()
    assert costs.min() > 6 / math.log(2)  # of R + lambda D at the best step, as theory has it
    batch = dead_zone_cost(torch.tensor([0.0, 50.0, 100.0])[:, None], saved)
    torch.testing.assert_close(batch, costs[[0, 50, 100]])


def test_the_default_effort_zeroes_more_at_high_qualities(toy: Codec) -> None:
    zones = DeadZones(toy.tables, magnitudes=1)
    residual = torch.linspace(0.5, 1.5, 1000).reshape(1, 1, 1, -1)
    indexes = torch.full((1, 1, 1, 1000), 30)
    ones = [zones.at_quality(quality)(residual, indexes).sum() for quality in (0.0, 50.0, 100.0)]
    assert ones[0] > ones[1] > ones[2] > 0


def cost_of(codec: Codec, image: np.ndarray, quality: float, effort: int) -> float:
    """Return bits of the symbols plus lambda distortion of what they decode to."""
    compression = codec.start(image)
    sections = compression.symbols(quality, effort=effort)
    bits = sum(codec.tables.bits(*section) for section in sections)
    data = compression.compress(quality, effort=effort)
    header = unpack_header(data)
    y_hat = start_decoding(codec, data).latent(header.grid.bounds)
    x_hat = codec.model.at(header.quality_units).synthesize(y_hat).clamp(0, 1)
    x = to_unit(image)
    squares = (x_hat[..., : x.shape[-2], : x.shape[-1]] - x).square().sum().item()
    return bits + bits_per_squared_error(header.quality_units, 3) * squares


@pytest.mark.slow
@pytest.mark.parametrize("quality", [10, 60])
def test_from_3_up_no_effort_that_looks_is_worse_than_the_one_below(
    toy: Codec, image: np.ndarray, quality: float
) -> None:
    costs = [cost_of(toy, image, quality, effort) for effort in (3, 7, 9)]
    for lower, higher in itertools.pairwise(costs):
        assert higher <= lower * (1 + 1e-6)
    assert costs[-1] < cost_of(toy, image, quality, 1)


def visual_cost(codec: Codec, image: np.ndarray, quality: float, effort: int) -> float:
    """Return bits of the symbols plus lambda visual distortion of what they decode to."""
    sections = codec.start(image).symbols(quality, effort=effort)
    bits = sum(codec.tables.bits(*section) for section in sections)
    decoded = np.array(codec.decompress(codec.compress(image, quality=quality, effort=effort)))
    with torch.inference_mode():
        distortion = refined_visual(to_unit(decoded), to_unit(image)).item()
    return bits + rd_lambda(quality) * 255**2 * image.shape[0] * image.shape[1] * distortion


@pytest.mark.slow
def test_the_search_serves_what_the_model_was_trained_for(toy: Codec) -> None:
    image = synthetic_image(144, 128, 5)
    own = toy.weights
    seen = Codec(Weights(own.config, own.tensors, {**own.training, "distortion": "visual"}))
    assert seen.digest == toy.digest
    assert visual_cost(seen, image, 60, 7) < visual_cost(seen, image, 60, 3)
    assert visual_cost(seen, image, 60, 7) < visual_cost(toy, image, 60, 7)
    assert cost_of(toy, image, 60, 7) < cost_of(seen, image, 60, 7)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 5), (9, 40), (60, 7)])
def test_the_visual_search_takes_small_and_gray_images(toy: Codec, shape: tuple[int, int]) -> None:
    own = toy.weights
    seen = Codec(Weights(own.config, own.tensors, {"distortion": "visual"}))
    for image in (synthetic_image(*shape, 1), synthetic_image(*shape, 2)[..., 0]):
        decoded = np.array(seen.decompress(seen.compress(image, effort=5)))
        assert decoded.shape == image.shape


def test_effort_3_spends_fewer_bits_than_plain_rounding(toy: Codec, image: np.ndarray) -> None:
    sizes = [len(toy.compress(image, quality=50, effort=effort)) for effort in (1, 3)]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    "effort",
    [pytest.param(effort, marks=pytest.mark.slow if effort > 5 else ()) for effort in EFFORTS],
)
@pytest.mark.parametrize("mode", ["gray", "color"])
def test_every_effort_decodes(toy: Codec, effort: int, mode: str) -> None:
    image = synthetic_image(33, 50, 3)
    image = image[..., 0] if mode == "gray" else image
    decoded = toy.decompress(toy.compress(image, quality=30, effort=effort))
    assert np.array(decoded).shape == image.shape


def test_the_search_gives_the_same_bytes_twice(toy: Codec, image: np.ndarray) -> None:
    files = {toy.compress(image, quality=40, effort=5) for _ in range(2)}
    assert len(files) == 1


@pytest.mark.slow
def test_the_search_helps_tile_by_tile(image: np.ndarray) -> None:
    tiled = Codec(TOY, tile_size=4)
    costs = [cost_of(tiled, image, 50, effort) for effort in (3, 7)]
    assert costs[1] < costs[0]


def test_a_tile_is_judged_by_all_the_pixels_it_reaches(toy: Codec, image: np.ndarray) -> None:
    """The error next to a canvas differs from that of the whole image by what no tile changes."""
    model = toy.model.at(5000)
    generator = torch.Generator().manual_seed(0)
    channels = toy.weights.config.latent_channels
    canvas = torch.randn((1, channels, 5, 6), generator=generator)
    tile = Region(1, 2, 2, 2)
    grid = TileGrid(96, 80, tile_size=8)
    around = Surroundings(model, lambda part: canvas[..., part.rows, part.columns], grid, tile)
    x = to_unit(image)

    def whole(y_hat: torch.Tensor) -> float:
        latents = canvas.clone()
        latents[..., tile.rows, tile.columns] = y_hat
        x_hat = model.synthesize(latents).clamp(0, 1)
        return (x_hat - x).double().square().sum().item()

    def near(y_hat: torch.Tensor) -> float:
        part = x[..., around.pixels.rows, around.pixels.columns]
        return around.squared_error(y_hat, part, is_gray=False).item()

    first, second = torch.randn((2, 1, channels, 2, 2), generator=generator)
    assert near(first) - near(second) == pytest.approx(whole(first) - whole(second), abs=1e-2)


def test_progress_rises_to_1(image: np.ndarray) -> None:
    parts: list[float] = []
    Codec(TOY, tile_size=4).compress(image, effort=5, on_progress=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1)
    assert len(parts) > effort_level(5).steps


def test_every_distortion_of_training_has_its_refinement() -> None:
    assert TUNINGS.keys() == REFINED_BY.keys() == DISTORTIONS.keys()


@pytest.mark.parametrize("effort", [0, 2, 11, -1])
def test_an_effort_that_does_not_exist_is_refused(
    toy: Codec, image: np.ndarray, effort: int
) -> None:
    with pytest.raises(ConfigError, match="expected one of 1, 3, 5, 7, 9"):
        toy.compress(image, effort=effort)
