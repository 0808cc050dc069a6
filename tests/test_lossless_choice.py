"""Which blocks the encoder stores losslessly."""

import numpy as np
import pytest
from make_golden import TOY
from PIL import Image, ImageDraw

from caecodec.codec.codec import Codec
from caecodec.codec.lossless import _inner, filled, neighbours, surrounded
from caecodec.format.container import unpack
from caecodec.format.grid import TileGrid

RANDOM = np.random.default_rng(22)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(TOY, tile_size=8)  # tiles of 128 pixels


def drawing(width: int = 256, height: int = 256) -> Image.Image:
    """Return black lines and boxes on white."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for y in range(8, height, 16):
        draw.line((6, y, width - 20, y), fill="black")
        draw.rectangle((width // 2, y - 4, width // 2 + 5, y + 3), outline="red")
    return image


def noise(width: int = 256, height: int = 256) -> Image.Image:
    levels = RANDOM.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)
    grain = RANDOM.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))


def page() -> Image.Image:
    """Return a drawing with a photograph in it."""
    image = drawing()
    image.paste(noise(128, 128), (64, 70))
    return image


def shares(data: bytes) -> list[float]:
    """Return the share of lossless blocks of each tile."""
    blocks = [tile.lossless for tile in unpack(data).tiles]
    return [block.num_lossless / block.num_blocks if block else 0 for block in blocks]


def test_pixels_next_to_a_latent_block_are_not_filled_in() -> None:
    lossless = np.ones((64, 96), dtype=bool)
    lossless[32:, 32:64] = False
    expected = np.ones((64, 96), dtype=bool)
    expected[30:, 30:66] = False
    assert np.array_equal(_inner(lossless), expected)


@pytest.mark.parametrize("quality", [30, 60])
def test_latent_blocks_end_at_lossless_ones_without_a_seam(codec: Codec, quality: float) -> None:
    image = page()
    original = np.asarray(image).astype(int)
    decoded = np.asarray(codec.decompress(codec.compress(image, quality=quality))).astype(int)
    wrong = np.abs(decoded - original).max(2) > 0
    blocks = wrong.reshape(8, 32, 8, 32).any((1, 3)).repeat(32, 0).repeat(32, 1)
    assert 0 < blocks.mean() < 1
    steps = np.abs(np.diff(decoded, axis=1) - np.diff(original, axis=1)).mean(2)
    left, right = blocks[:, :-1], blocks[:, 1:]
    assert steps[left != right].mean() < 1.5 * steps[left & right].mean()


@pytest.mark.parametrize("quality", [5, 50, 95, 100])
def test_a_drawing_is_stored_losslessly_where_that_is_smaller(codec: Codec, quality: float) -> None:
    image = drawing()
    data = codec.compress(image, quality=quality)
    assert len(data) <= len(codec.compress(image, lossless=True))
    if quality >= 50:
        assert shares(data) == [1.0] * 4
        assert np.array_equal(np.asarray(codec.decompress(data)), np.asarray(image))


@pytest.mark.parametrize("quality", [5, 50, 95])
def test_a_photograph_is_not(codec: Codec, quality: float) -> None:
    data = codec.compress(noise(), quality=quality)
    assert shares(data) == [0.0] * 4


@pytest.mark.parametrize("quality", [30, 60])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_page_with_a_photograph_is_mixed(codec: Codec, quality: float, mode: str) -> None:
    image = page().convert(mode)
    data = codec.compress(image, quality=quality)
    back, before = np.asarray(codec.decompress(data)), np.asarray(image)
    assert any(0 < share < 1 for share in shares(data))
    equal = (back == before).reshape(256, 256, -1).all(2)
    assert equal[:32].all()  # text alone
    assert not equal[70:198, 64:192].all()  # the photograph
    assert len(data) < len(codec.compress(image, lossless=True))


def test_tiles_beside_lossless_ones_keep_a_latent(codec: Codec) -> None:
    """So pixels next to the border have what they depend on."""
    image = drawing(384, 384)
    image.paste(noise(100, 100), (270, 270))
    tiles = unpack(codec.compress(image, quality=60)).tiles
    assert [tile.has_symbols for tile in tiles] == [
        *(False, False, False), *(False, True, True), *(False, True, True)
    ]  # fmt: skip


def test_refinement_goes_with_lossless_blocks(codec: Codec) -> None:
    image = page()
    data = codec.compress(image, quality=50, effort=5)
    assert any(shares(data))
    assert codec.decompress(data).size == image.size


def test_hidden_pixels_are_filled_from_around_them() -> None:
    color = np.full((64, 48, 3), 100, np.uint8)
    color[:, 24:] = 200
    hidden = np.zeros((64, 48), bool)
    hidden[16:48, 8:40] = True
    damaged = color.copy()
    damaged[hidden] = 7
    result = filled(damaged, hidden)
    assert np.array_equal(result[~hidden], color[~hidden])
    assert result[hidden].min() >= 95
    assert result[hidden].max() <= 205
    assert result[30, 9].mean() < 130
    assert result[30, 38].mean() > 170


def test_a_picture_that_is_all_hidden_is_gray() -> None:
    result = filled(np.zeros((5, 3), np.uint8), np.ones((5, 3), bool))
    assert (abs(result.astype(int) - 128) <= 1).all()


def test_neighbours_of_tiles() -> None:
    grid = TileGrid(300, 200, tile_size=4, stride=1)  # 5 x 4 tiles of 64 pixels
    assert neighbours(0, grid, 10) == {0, 1, 5, 6}
    assert neighbours(7, grid, 10) == {1, 2, 3, 6, 7, 8, 11, 12, 13}
    assert neighbours(0, grid, 65) == {0, 1, 2, 5, 6, 7, 10, 11, 12}
    assert surrounded({0, 1, 5, 6, 2}, grid, 10) == {0}
    assert surrounded(range(20), grid, 10) == set(range(20))
