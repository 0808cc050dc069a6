"""Lossless blocks: FORMAT.md section 5.1, and files that hold every level of an image."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import TOY, drawn_image
from numpy.typing import NDArray
from PIL import Image
from toys import start_decoding
from typer.testing import CliRunner

from caecodec.cli.app import app
from caecodec.codec import decoder
from caecodec.codec.codec import Codec
from caecodec.codec.lossless import filled, neighbours, surrounded
from caecodec.errors import FormatError
from caecodec.format.boxes import LOSSLESS_BOX, pack_box
from caecodec.format.container import HEADER_BYTES, Container, pack, unpack
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region, TileGrid
from caecodec.format.lossless import MIN_BLOCK_LOG2, block_shape, unpack_blocks
from caecodec.image.lossless import (
    blocks_of,
    decode_pixels,
    encode_pixels,
    mask_of,
    pixel_mask,
)

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

each_mode = pytest.mark.parametrize("mode", CHANNELS)


@pytest.fixture(scope="module")
def small() -> Codec:
    """The toy model with tiles of 64 pixels."""
    return Codec(TOY, tile_size=4)


@pytest.fixture(scope="module")
def mixed(small: Codec) -> bytes:
    """A file of lossless, mixed and plain tiles."""
    data = small.compress(drawn_image(200, 150, 5), quality=20)
    kinds = {(tile.lossless is not None, tile.is_lossless) for tile in unpack(data).tiles}
    assert kinds == {(True, True), (True, False), (False, False)}
    return data


def noise(width: int, height: int, mode: str) -> Image.Image:
    """Return an image of any levels, under transparent pixels, too."""
    shape = height, width, CHANNELS[mode]
    levels = np.random.default_rng(width).integers(0, 256, shape, dtype=np.uint8)
    if mode.endswith("A"):
        levels[..., -1] *= levels[..., -1] > 100
    return Image.fromarray(levels.squeeze(2) if mode == "L" else levels)


def lossless_pixels(container: Container) -> NDArray[np.bool_]:
    """Return which pixels of an image are in lossless blocks."""
    grid = container.header.grid.at(1)
    found = np.zeros((grid.height, grid.width), dtype=bool)
    for tile, region in zip(container.tiles, grid, strict=True):
        if tile.lossless:
            found[region.rows, region.columns] = mask_of(tile.lossless, region)
    return found


def difference(one: Image.Image, two: Image.Image) -> NDArray[np.int64]:
    assert (one.mode, one.size) == (two.mode, two.size)
    return np.abs(np.array(one).astype(np.int64) - np.array(two))


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 128), st.integers(1, 128)),
    st.integers(MIN_BLOCK_LOG2, 7),
    st.sampled_from(["L", "RGB"]),
    st.randoms(use_true_random=False),
)
def test_blocks_that_are_stored_are_those_that_come_back(
    sides: tuple[int, int], block_log2: int, mode: str, random: Random
) -> None:
    tile = Region(0, 0, *sides)
    rows, columns = block_shape(tile, block_log2)
    mask = np.array([[random.random() < 0.5 for _ in range(columns)] for _ in range(rows)])
    mask[random.randrange(rows), random.randrange(columns)] = True
    color = np.array(noise(tile.width, tile.height, mode))
    blocks = blocks_of(color, mask, block_log2)
    assert unpack_blocks(blocks.pack(), tile, 128) == blocks
    assert (blocks.num_blocks, blocks.num_lossless) == (mask.size, mask.sum())
    chosen = pixel_mask(mask, block_log2, *sides)
    assert np.array_equal(mask_of(blocks, tile), chosen)
    found = decode_pixels(blocks.image, *sides, is_gray=mode == "L")
    assert np.array_equal(found[chosen], color[chosen])


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 300), (1024, 1), (1, 2048)])
def test_pixels_of_any_size_come_back(width: int, height: int, mode: str) -> None:
    color = np.array(noise(width, height, mode))
    found = decode_pixels(encode_pixels(color), height, width, is_gray=mode == "L")
    assert np.array_equal(found, color)


def test_damaged_pixels_are_refused_or_keep_their_size() -> None:
    data = encode_pixels(np.array(noise(20, 30, "RGB")))
    for position in range(len(data)):
        flipped = (
            data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :]
        )
        for damaged in (data[:position], flipped):
            try:
                found = decode_pixels(damaged, 30, 20, is_gray=False)
            except FormatError:
                continue
            assert (found.shape, found.dtype) == ((30, 20, 3), np.uint8)


@each_mode
@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 300), (65, 129), (200, 64)])
def test_every_level_of_a_lossless_file_comes_back(
    mode: str, width: int, height: int, small: Codec, toy: Codec
) -> None:
    image = noise(width, height, mode)
    for codec in (small, toy):  # many tiles, one tile
        data = codec.compress(image, lossless=True)
        assert not difference(codec.decompress(data), image).any()
        container = unpack(data)
        assert container.header.quality == 100
        assert all(tile.is_lossless and not tile.has_symbols for tile in container.tiles)
        assert {part.size for section in codec.file_symbols(data) for part in section} == {0}


def test_metadata_of_a_lossless_file_is_kept_and_progress_told(small: Codec) -> None:
    image, told = noise(130, 70, "RGBA"), []
    image.info["exif"] = b"II*\0exif"
    data = small.compress(image, on_progress=told.append, lossless=True)
    assert small.decompress(data, on_progress=told.append).info["exif"] == b"II*\0exif"
    assert told == sorted(told[:6]) + sorted(told[6:])
    assert told[5] == told[-1] == 1


@pytest.mark.parametrize("model", ["psnr", "classic"])
def test_shipped_models_store_any_image_losslessly(model: str) -> None:
    codec, image = Codec(model, tile_size=4), noise(100, 70, "RGBA")
    assert not difference(codec.decompress(codec.compress(image, lossless=True)), image).any()


@pytest.mark.parametrize(("width", "height"), [(400, 70), (70, 400), (200, 150)])
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_lossless_blocks_of_a_mixed_file_are_those_of_the_image(
    width: int, height: int, mode: str, small: Codec
) -> None:
    image = Image.fromarray(drawn_image(width, height, 5)).convert(mode)
    data = small.compress(image, quality=20)
    stored = lossless_pixels(unpack(data))
    assert 0 < stored.mean() < 1
    off = difference(small.decompress(data), image)
    assert not off[stored].any()
    assert 0 < off[~stored].mean() < 30


@pytest.mark.slow
def test_classic_files_may_be_mixed() -> None:
    codec = Codec("classic", tile_size=4)
    image = Image.fromarray(drawn_image(200, 150, 5))
    data = codec.compress(image, quality=20)
    stored = lossless_pixels(unpack(data))
    assert 0 < stored.mean() < 1
    whole = codec.decompress(data)
    assert not difference(whole, image)[stored].any()
    part = codec.decompress(data, crop=(37, 21, 120, 100))
    assert difference(part, whole.crop((37, 21, 157, 121))).max() <= 1


def windows(width: int, height: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Return all crops of an image."""
    spans = [
        st.tuples(st.integers(0, side - 1), st.integers(1, side)).map(
            lambda span, side=side: (span[0], min(span[1], side - span[0]))
        )
        for side in (width, height)
    ]
    return st.tuples(*spans).map(lambda two: (two[0][0], two[1][0], two[0][1], two[1][1]))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(windows(200, 150))
def test_a_crop_of_a_mixed_file_is_that_of_the_whole(
    small: Codec, mixed: bytes, crop: tuple[int, int, int, int]
) -> None:
    x, y, width, height = crop
    box = x, y, x + width, y + height
    off = difference(small.decompress(mixed, crop=crop), small.decompress(mixed).crop(box))
    assert off.max() <= 1
    stored = lossless_pixels(unpack(mixed))[y : y + height, x : x + width]
    assert not off[stored].any()


@settings(deadline=None, max_examples=25, derandomize=True)
@given(windows(130, 190))
def test_a_crop_of_a_lossless_file_is_that_of_the_image(
    small: Codec, crop: tuple[int, int, int, int]
) -> None:
    image = noise(130, 190, "LA")
    x, y, width, height = crop
    part = small.decompress(small.compress(image, lossless=True), crop=crop)
    assert not difference(part, image.crop((x, y, x + width, y + height))).any()


@pytest.mark.parametrize("scale", [1 / 2, 1 / 8])
@pytest.mark.parametrize(("width", "height"), [(200, 150), (150, 400)])
def test_a_reduced_file_is_the_whole_reduced(
    scale: float, width: int, height: int, small: Codec
) -> None:
    image = Image.fromarray(drawn_image(width, height, 5))
    for data in (small.compress(image, quality=20), small.compress(image, lossless=True)):
        whole = small.decompress(data).reduce(round(1 / scale))
        assert difference(small.decompress(data, scale=scale), whole).max() <= 1


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of tiles whose lossless blocks were decoded, in order."""
    numbers: list[int] = []
    original = decoder.pixels_of

    def spy(*arguments: object) -> object:
        numbers.append(arguments[2])
        return original(*arguments)

    monkeypatch.setattr(decoder, "pixels_of", spy)
    return numbers


@pytest.mark.parametrize(("width", "height"), [(330, 200), (200, 330), (95, 290)])
def test_each_tile_is_decoded_once_and_no_more_than_a_row_is_held(
    width: int, height: int, small: Codec, decoded: list[int]
) -> None:
    decompression = start_decoding(
        small, small.compress(noise(width, height, "RGB"), lossless=True)
    )
    grid = TileGrid(width, height, 4, stride=1)
    for _ in decompression.lines(Region(0, 0, height, width)):
        assert len(decompression._lossless) <= min(grid.rows, grid.columns)
    assert sorted(decoded) == list(range(len(grid)))


def test_a_crop_that_lossless_tiles_hold_needs_no_symbols_and_no_other_tile(
    small: Codec, mixed: bytes, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EntropyCoder, "decoder", lambda *_: pytest.fail("a payload was decoded"))
    part = small.decompress(mixed, crop=(3, 70, 50, 20))
    assert np.array_equal(np.array(part), drawn_image(200, 150, 5)[70:90, 3:53])
    assert decoded == [4]


def test_verify_decodes_lossless_blocks(mixed: bytes, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.cae", tmp_path / "bad.cae"
    good.write_bytes(mixed)
    start = mixed.index(LOSSLESS_BOX)
    length = int.from_bytes(mixed[start + 4 : start + 8], "little")
    content = mixed[start + 8 : start + 8 + length]
    wrong = pack_box(LOSSLESS_BOX, content[:-6] + bytes(6))
    bad.write_bytes(mixed[:start] + wrong + mixed[start + 12 + length :])
    assert CliRunner().invoke(app, ["verify", str(good)]).exit_code == 0
    done = CliRunner().invoke(app, ["verify", str(bad)])
    assert done.exit_code == 1
    assert "tile 0: the lossless blocks cannot be read" in done.stderr


def test_a_box_of_lossless_blocks_takes_the_place_before_its_tile(mixed: bytes) -> None:
    container = unpack(mixed)
    assert pack(container) == mixed
    with_blocks = [tile for tile in container.tiles if tile.lossless]
    assert mixed.count(LOSSLESS_BOX) == len(with_blocks)
    assert mixed[HEADER_BYTES : HEADER_BYTES + 4] == LOSSLESS_BOX


def test_tiles_around_are_those_within_the_margin() -> None:
    grid = TileGrid(640, 640, 4, stride=1)
    assert neighbours(0, grid, 1) == {0, 1, 10, 11}
    assert neighbours(33, grid, 64) == {22, 23, 24, 32, 33, 34, 42, 43, 44}
    assert len(neighbours(33, grid, 65)) == 25
    everything = set(range(100))
    assert surrounded(everything, grid, 96) == everything
    assert surrounded(everything - {0}, grid, 1) == everything - {0, 1, 10, 11}


def test_hidden_pixels_are_filled_in_from_what_is_around() -> None:
    color = drawn_image(60, 50, 1)
    hidden = np.zeros((50, 60), dtype=bool)
    hidden[10:40, 20:60] = True
    found = filled(color, hidden)
    assert np.array_equal(found[~hidden], color[~hidden])
    flat = np.full((50, 60), 77, np.uint8)
    assert (filled(np.where(hidden, np.uint8(0), flat), hidden) == 77).all()
    assert (filled(flat, np.ones_like(hidden)) == 128).all()
