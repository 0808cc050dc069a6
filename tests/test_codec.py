import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import TOY, synthetic_image
from PIL import Image
from toys import start_decoding

import caecodec
from caecodec.codec.codec import Codec
from caecodec.codec.decoder import Decompression
from caecodec.codec.latents import Make, Mosaic
from caecodec.codec.tensors import to_uint8, to_unit
from caecodec.errors import ConfigError, ImageError, LimitExceededError, UnknownModelError
from caecodec.format.container import unpack_header
from caecodec.format.grid import Region, TileGrid
from caecodec.image.metrics import psnr
from caecodec.nn import inference_main, layers
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.layers import Block

LAW = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def tiled() -> Codec:
    """The toy model with the smallest tiles, 64 pixels a side."""
    return Codec(TOY, tile_size=4)


@LAW
@given(width=st.integers(1, 130), height=st.integers(1, 130), quality=st.floats(0, 100))
def test_every_size_comes_back_as_it_was(
    toy: Codec, width: int, height: int, quality: float
) -> None:
    decoded = toy.decompress(toy.compress(synthetic_image(width, height, 1), quality=quality))
    assert decoded.size == (width, height)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA"])
def test_every_8_bit_mode_comes_back_in_its_plain_form(
    toy: Codec, photo: np.ndarray, mode: str
) -> None:
    image = Image.fromarray(photo).convert("P" if mode == "PA" else mode)
    image = image.convert("PA") if mode == "PA" else image
    plain = {"1": "L", "P": "RGB", "PA": "RGBA"}.get(mode, mode)
    assert toy.decompress(toy.compress(image)).mode == plain


@pytest.mark.parametrize("shape", [(70, 90), (70, 90, 3), (70, 90, 4)])
def test_arrays_are_images(toy: Codec, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = np.array(toy.decompress(toy.compress(array)))
    assert decoded.shape == shape
    assert decoded.dtype == np.uint8


def test_an_array_and_its_image_give_the_same_bytes(toy: Codec, photo: np.ndarray) -> None:
    assert toy.compress(photo) == toy.compress(Image.fromarray(photo))


def test_alpha_is_lossless(toy: Codec, photo: np.ndarray) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, photo.shape[:2], dtype=np.uint8)
    decoded = toy.decompress(toy.compress(np.dstack((photo, alpha)), quality=10))
    assert np.array_equal(np.array(decoded)[..., 3], alpha)


def test_alpha_wider_than_webp_allows_is_lossless(toy: Codec) -> None:
    image = np.zeros((1, 16_500, 4), np.uint8)
    image[..., 3] = np.arange(16_500) % 251
    decoded = np.array(toy.decompress(toy.compress(image, quality=0)))
    assert np.array_equal(decoded[..., 3], image[..., 3])


def test_gray_decodes_close_to_gray(toy: Codec, photo: np.ndarray) -> None:
    gray = photo[..., 1]
    assert psnr(gray, np.array(toy.decompress(toy.compress(gray, quality=90)))) > 28


def test_metadata_comes_back_verbatim(toy: Codec, photo: np.ndarray) -> None:
    image = Image.fromarray(photo)
    image.info |= {"icc_profile": b"icc\0", "exif": b"Exif\0\0II*\0", "xmp": b"<x/>"}
    info = toy.decompress(toy.compress(image)).info
    assert (info["icc_profile"], info["exif"], info["xmp"]) == (b"icc\0", b"II*\0", b"<x/>")


def test_size_and_psnr_rise_with_quality(toy: Codec) -> None:
    image = synthetic_image(128, 128, 3)
    files = [toy.compress(image, quality=quality) for quality in range(0, 101, 20)]
    psnrs = [psnr(image, np.array(toy.decompress(data))) for data in files]
    assert [len(data) for data in files] == sorted(len(data) for data in files)
    assert psnrs == sorted(psnrs)
    assert psnrs[-1] > psnrs[0] + 3


def test_the_same_image_gives_the_same_bytes(toy: Codec, photo: np.ndarray) -> None:
    assert toy.compress(photo, quality=33.3) == toy.compress(photo, quality=33.3)


def test_decoded_symbols_are_the_encoded_ones(toy: Codec, photo: np.ndarray) -> None:
    encoded = toy.start(photo).symbols(70)
    decoded = toy.file_symbols(toy.compress(photo, quality=70))
    for (symbols, indexes), (symbols_back, indexes_back) in zip(encoded, decoded, strict=True):
        assert np.array_equal(symbols, symbols_back)
        assert np.array_equal(indexes, indexes_back)


def test_tiles_leave_no_seam(tiled: Codec) -> None:
    """Tiled synthesis equals synthesis of the same latents in one piece, up to float noise."""
    image = synthetic_image(200, 150, 5)
    whole = Codec(TOY)
    data = tiled.compress(image, quality=80)
    header = unpack_header(data)
    with torch.inference_mode():
        y_hat = start_decoding(tiled, data).latent(header.grid.bounds)
        one_piece = whole.model.at(header.quality_units).synthesize(y_hat)[..., :150, :200]
        whole_image = np.array(tiled.decompress(data))
    difference = to_uint8(one_piece, is_gray=False).astype(int) - whole_image
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) < 20


@LAW
@given(top=st.integers(0, 11), left=st.integers(0, 9), sides=st.tuples(*[st.integers(1, 6)] * 2))
def test_a_part_of_the_latents_gives_its_part_of_the_pixels(
    toy: Codec, top: int, left: int, sides: tuple[int, int]
) -> None:
    model, bounds = toy.model, Region(0, 0, 12, 10)
    inner = Region(top, left, *sides).common(bounds)
    held = inner.grown(model.synthesis_halo, bounds)
    torch.manual_seed(0)
    y_hat = torch.randn(1, model.config.latent_channels, bounds.height, bounds.width)
    with torch.inference_mode():
        whole = model.at(5000).synthesize(y_hat)
        part = model.at(5000).synthesize(y_hat[..., held.rows, held.columns], inner.within(held))
    own = inner.scaled(model.stride)
    torch.testing.assert_close(part, whole[..., own.rows, own.columns], rtol=1e-3, atol=1e-5)


def test_a_block_gives_the_same_whatever_it_holds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = Block(8)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 8, 13, 11)
    with_gradient = block(x)
    monkeypatch.setattr(layers, "POSITIONS_AT_ONCE", 40)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), with_gradient)


@LAW
@given(sides=st.tuples(*[st.integers(1, 14)] * 2), positions=st.integers(1, 150), data=st.data())
def test_a_window_in_slabs_is_the_same_as_the_whole(
    toy: Codec, sides: tuple[int, int], positions: int, data: st.DataObject
) -> None:
    """Slabs are rows of a high image and columns of a wide one; no pixel is given twice."""
    model, (height, width) = toy.model, sides
    grid = TileGrid(width * model.stride, height * model.stride, 4)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Region(top, left, 4, 5).common(grid.bounds)
    torch.manual_seed(0)
    y_hat = torch.randn(1, model.config.latent_channels, height, width)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference_main, "SLAB_POSITIONS", positions)
        whole = model.at(5000).synthesize(y_hat)
        parts = torch.full_like(whole, torch.nan)
        slabs = model.at(5000).synthesize_window(
            lambda region: y_hat[..., region.rows, region.columns], window, grid
        )
        for region, x_hat in slabs:
            assert parts[..., region.rows, region.columns].isnan().all()
            parts[..., region.rows, region.columns] = x_hat
    own = window.scaled(model.stride)
    expected = whole[..., own.rows, own.columns]
    torch.testing.assert_close(parts[..., own.rows, own.columns], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@LAW
@given(data=st.data())
def test_a_crop_is_the_same_part_of_the_whole(tiled: Codec, data: st.DataObject) -> None:
    image = synthetic_image(230, 170, 8)
    file = tiled.compress(np.dstack((image, image[..., 0])), quality=60)
    x, y = data.draw(st.integers(0, 229)), data.draw(st.integers(0, 169))
    width, height = data.draw(st.integers(1, 230 - x)), data.draw(st.integers(1, 170 - y))
    whole = np.array(tiled.decompress(file)).astype(int)
    part = np.array(tiled.decompress(file, crop=(x, y, width, height)))
    assert part.shape == (height, width, 4)
    difference = part - whole[y : y + height, x : x + width]
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= 0.01 * difference.size


@pytest.mark.slow
@LAW
@given(data=st.data())
def test_a_reduced_image_is_the_means_of_the_whole(tiled: Codec, data: st.DataObject) -> None:
    image = synthetic_image(230, 170, 8)
    file = tiled.compress(np.dstack((image, image[..., 0])), quality=60)
    x, y = data.draw(st.integers(0, 229)), data.draw(st.integers(0, 169))
    width, height = data.draw(st.integers(1, 230 - x)), data.draw(st.integers(1, 170 - y))
    factor = data.draw(st.sampled_from([2, 4, 8]))
    crop = (x, y, width, height)
    expected = np.array(tiled.decompress(file, crop=crop).reduce(factor)).astype(int)
    found = np.array(tiled.decompress(file, crop=crop, scale=1 / factor)).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_another_scale_is_refused(toy: Codec, photo: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        toy.decompress(toy.compress(photo), scale=1 / 3)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(640, 128), (128, 640)])
@pytest.mark.parametrize("effort", [3, 5])
def test_few_tiles_of_a_long_image_are_held_at_once(
    tiled: Codec, monkeypatch: pytest.MonkeyPatch, sides: tuple[int, int], effort: int
) -> None:
    held: list[int] = []
    cut = Mosaic.cut

    def spy(self: Mosaic, region: Region, make: Make) -> torch.Tensor:
        found = cut(self, region, make)
        held.append(len(self._tiles))
        return found

    monkeypatch.setattr(Mosaic, "cut", spy)
    monkeypatch.setattr(inference_main, "SLAB_POSITIONS", 32)
    image = synthetic_image(*sides, 9)  # 10 by 2 tiles of 64 pixels
    data = tiled.compress(image, quality=60, effort=effort)
    assert tiled.decompress(data).size == sides
    assert max(held) <= 6
    part = np.array(tiled.decompress(data, crop=(20, 30, 60, 50)))
    assert np.abs(part.astype(int) - image[30:80, 20:80]).mean() < 12  # each tile in its place


def test_a_decoded_file_is_let_go_without_the_garbage_collector(
    toy: Codec, photo: np.ndarray
) -> None:
    gc.disable()
    try:
        decompression = start_decoding(toy, toy.compress(photo))
        assert len(list(decompression.lines(Region(0, 0, 70, 90)))) == 1
        held = weakref.ref(decompression)
        del decompression
        assert held() is None
    finally:
        gc.enable()


def test_progress_of_decoding_rises_to_1(tiled: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_main, "SLAB_POSITIONS", 32)
    seen: list[float] = []
    tiled.decompress(tiled.compress(synthetic_image(200, 150, 5)), on_progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) == 4  # of 10 rows the first 2 + 3, the halo; then 2, 2, 1
    assert seen[-1] == 1


def test_images_above_the_size_limit_are_refused_both_ways(photo: np.ndarray, toy: Codec) -> None:
    strict = Codec(TOY, size_limit=90 * 70 - 1)
    with pytest.raises(LimitExceededError, match="90 x 70"):
        strict.compress(photo)
    with pytest.raises(LimitExceededError, match="90 x 70"):
        strict.decompress(toy.compress(photo))
    with pytest.raises(LimitExceededError, match="90 x 70"):
        strict.salvage(toy.compress(photo))
    assert Codec(TOY, size_limit=90 * 70).decompress(toy.compress(photo)).size == (90, 70)


@pytest.mark.slow
def test_a_crop_decodes_only_the_tiles_it_needs(
    tiled: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiled.compress(synthetic_image(640, 640, 9), quality=60)  # 10 x 10 tiles of 64 pixels
    decoded: list[int] = []
    symbols = Decompression.symbols

    def spy(self: Decompression, number: int) -> object:
        decoded.append(number)
        return symbols(self, number)

    monkeypatch.setattr(Decompression, "symbols", spy)
    tiled.decompress(file, crop=(320, 320, 10, 10))
    assert 55 in decoded
    assert set(decoded) <= {44, 45, 46, 54, 55, 56, 64, 65, 66}
    decoded.clear()
    tiled.decompress(file)
    assert sorted(decoded) == list(range(100))  # each once


@pytest.mark.parametrize(
    "crop", [(0, 0, 91, 1), (0, 70, 1, 1), (-1, 0, 5, 5), (0, 0, 0, 5), (5, 5, 5, -5)]
)
def test_a_crop_outside_the_image_is_refused(
    toy: Codec, photo: np.ndarray, crop: tuple[int, int, int, int]
) -> None:
    with pytest.raises(ConfigError, match="90 x 70 pixels"):
        toy.decompress(toy.compress(photo), crop=crop)


def test_tiled_analysis_equals_analysis_in_one_piece(tiled: Codec) -> None:
    image = synthetic_image(200, 150, 6)
    whole = Codec(TOY)
    with torch.inference_mode():
        compression = tiled.start(image).at(80)
        stem = whole.model.stem(replicate_to_multiple(to_unit(image), 16))
        y = whole.model.at(8000).analyze(stem)
        for tile in compression.header.grid:
            piece = compression.latent(tile).y
            torch.testing.assert_close(piece, y[..., tile.rows, tile.columns])


def test_to_uint8_clamps_and_rounds_half_to_even() -> None:
    levels = torch.tensor([-1.0, 0.5, 1.5, 2.5, 300.0]) / 255
    x_hat = levels.reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_uint8(x_hat, is_gray=False)[0, :, 0].tolist() == [0, 0, 2, 2, 255]
    assert to_uint8(x_hat, is_gray=True)[0].tolist() == [0, 0, 2, 2, 255]


@pytest.mark.parametrize("quality", [-0.1, 100.1, float("nan"), float("inf")])
def test_quality_outside_0_to_100_is_refused(toy: Codec, photo: np.ndarray, quality: float) -> None:
    with pytest.raises(ConfigError, match="0 to 100"):
        toy.compress(photo, quality=quality)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_of_other_kinds_are_refused(toy: Codec, array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected"):
        toy.compress(array)


def test_a_file_of_another_model_is_named(toy: Codec, photo: np.ndarray) -> None:
    data = toy.compress(photo)
    with pytest.raises(UnknownModelError, match=toy.digest.hex()):
        caecodec.decompress(data)


def test_the_module_functions_are_the_codec(toy: Codec, photo: np.ndarray) -> None:
    data = caecodec.compress(photo, quality=40, model=TOY)
    assert data == toy.compress(photo, quality=40)
    decoded = caecodec.decompress(data, model=TOY)
    assert np.array_equal(np.array(decoded), np.array(toy.decompress(data)))


def test_file_bits_are_what_the_tables_promise(toy: Codec) -> None:
    """At most 1 % and 400 bits above the sum of -log2 P of the symbols, never below it."""
    image = synthetic_image(256, 192, 8)
    for quality in (0, 50, 100):
        promised = sum(toy.tables.bits(*pair) for pair in toy.start(image).symbols(quality))
        bits = 8 * len(toy.compress(image, quality=quality))
        assert promised <= bits <= 1.01 * promised + 400 + 64
