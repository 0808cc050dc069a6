"""The classic architecture: textbook stages, any size, integer tables, the same container."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import TOY, synthetic_image

from caecodec.codec.codec import Codec
from caecodec.codec.tensors import to_unit
from caecodec.config import ClassicConfig, MainConfig, model_config_from
from caecodec.errors import ConfigError, FormatError, ImageError, ModelError
from caecodec.format.container import pack, unpack, unpack_header
from caecodec.format.grid import Region
from caecodec.image.metrics import psnr
from caecodec.inspection import info
from caecodec.nn.classic import ClassicAutoencoder
from caecodec.nn.distortions import cross_entropy, squared_error
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.inference_classic import FrozenClassic, freeze_classic
from caecodec.train.export import _make_tables
from caecodec.weights.complexity import kmac_per_pixel
from caecodec.weights.storage import Weights, load_weights, save_weights

LAW = settings(max_examples=20, deadline=None)
QUALITY = torch.tensor([50.0])


def config_with(**fields: object) -> ClassicConfig:
    return ClassicConfig(**{"channels": (6, 4), **fields})  # type: ignore[arg-type]


def frozen(config: ClassicConfig) -> FrozenClassic:
    torch.manual_seed(0)
    model = ClassicAutoencoder(config)
    model.start_random()
    return FrozenClassic(config, freeze_classic(model))


def test_the_default_network_is_the_textbooks() -> None:
    model = ClassicAutoencoder(ClassicConfig())
    kernels = [tuple(stage.convolution.weight.shape) for stage in model.encoder]
    assert kernels == [(64, 3, 3, 3), (32, 64, 3, 3), (16, 32, 3, 3)]
    transposed = [tuple(stage.convolution.weight.shape) for stage in model.decoder]
    assert transposed == [(16, 16, 3, 3), (16, 32, 3, 3), (32, 64, 3, 3)]
    assert tuple(model.image.weight.shape) == (64, 3, 3, 3)
    assert isinstance(model.encoder[0].pooling, torch.nn.MaxPool2d)
    assert isinstance(model.encoder[0].activation, torch.nn.ReLU)


@pytest.mark.parametrize("pooling", ["max", "avg", "none"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(("stride", "pool_size"), [(1, 2), (2, 1), (1, 3), (2, 2), (1, 1)])
def test_transforms_keep_sides_and_see_no_further_than_their_halo(
    stride: int, pool_size: int, kernel_size: int, pooling: str
) -> None:
    config = config_with(
        stride=stride, pool_size=pool_size, kernel_size=kernel_size, pooling=pooling
    )
    model, step = frozen(config), config.latent_stride
    with torch.inference_mode():
        x = torch.rand(1, 3, 11 * step, 11 * step)
        stem = model.stem(x)
        x_hat = model.at(5000).synthesize(stem)
        assert stem.shape[-2:] == (11, 11)
        assert x_hat.shape == x.shape
        near, far = max(0, 5 - model.analysis_halo), min(11, 7 + model.analysis_halo)
        part = model.stem(x[..., near * step : far * step, near * step : far * step])
        own = slice(5 - near, 7 - near)
        torch.testing.assert_close(part[..., own, own], stem[..., 5:7, 5:7], rtol=1e-3, atol=1e-5)
        near, far = max(0, 5 - model.synthesis_halo), min(11, 7 + model.synthesis_halo)
        inner = Region(5 - near, 5 - near, 2, 2)
        part = model.at(5000).synthesize(stem[..., near:far, near:far], inner)
        own = slice(5 * step, 7 * step)
        torch.testing.assert_close(part, x_hat[..., own, own], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@LAW
@given(width=st.integers(1, 90), height=st.integers(1, 90), quality=st.floats(0, 100))
def test_every_size_comes_back_as_it_was(
    classic: Codec, width: int, height: int, quality: float
) -> None:
    decoded = classic.decompress(
        classic.compress(synthetic_image(width, height, 1), quality=quality)
    )
    assert decoded.size == (width, height)


@pytest.mark.slow
def test_a_digit_of_28_pixels_comes_back_with_28(classic: Codec) -> None:
    image = synthetic_image(28, 28, 2)[..., 0]
    assert np.array(classic.decompress(classic.compress(image))).shape == (28, 28)


@pytest.mark.slow
def test_size_and_psnr_rise_with_quality(classic: Codec) -> None:
    image = synthetic_image(128, 128, 3)
    files = [classic.compress(image, quality=quality) for quality in (0, 50, 100)]
    psnrs = [psnr(image, np.array(classic.decompress(data))) for data in files]
    assert [len(data) for data in files] == sorted(len(data) for data in files)
    assert psnrs == sorted(psnrs)


@pytest.mark.slow
def test_higher_effort_costs_no_more(classic: Codec, photo: np.ndarray) -> None:
    for effort in (1, 5):
        data = classic.compress(photo, quality=50, effort=effort)
        assert classic.decompress(data).size == (90, 70)


@pytest.mark.slow
def test_decoded_symbols_are_the_encoded_ones_and_z_is_empty(
    classic: Codec, photo: np.ndarray
) -> None:
    encoded = classic.start(photo).symbols(70)
    decoded = classic.file_symbols(classic.compress(photo, quality=70))
    assert [symbols.size > 0 for symbols, _ in decoded] == [False, True]
    for (symbols, indexes), (symbols_back, indexes_back) in zip(encoded, decoded, strict=True):
        assert np.array_equal(symbols, symbols_back)
        assert np.array_equal(indexes, indexes_back)


@pytest.mark.slow
@LAW
@given(units=st.integers(0, 10_000))
def test_the_table_of_a_symbol_follows_from_quality_and_channel_by_integers(
    classic: Codec, units: int
) -> None:
    config = classic.weights.config
    anchors, channels = config.quality_anchors, config.latent_channels
    anchor = (2 * units * (anchors - 1) + 10_000) // 20_000
    indexes = classic.model.at(units).scale_indexes(torch.zeros(0), (2, 3))
    expected = 1 + anchor * channels + np.arange(channels)
    assert np.array_equal(
        indexes.numpy(), np.broadcast_to(expected[:, None, None], (channels, 2, 3))
    )
    assert indexes.max() < len(classic.tables)


@pytest.mark.slow
def test_file_bits_are_what_the_tables_promise(classic: Codec) -> None:
    image = synthetic_image(256, 192, 8)
    for quality in (0, 50, 100):
        promised = sum(classic.tables.bits(*pair) for pair in classic.start(image).symbols(quality))
        bits = 8 * len(classic.compress(image, quality=quality))
        assert promised <= bits <= 1.01 * promised + 400 + 64


@pytest.mark.slow
def test_tiles_leave_no_seam_and_are_counted_without_the_model(classic: Codec) -> None:
    image = synthetic_image(200, 150, 5)
    tiled = Codec(classic.weights, tile_size=4)
    data = tiled.compress(image, quality=80)
    whole = classic.compress(image, quality=80)
    assert len(unpack(data).tiles) == info(data).num_tiles == 3 * 4
    difference = np.array(tiled.decompress(data)).astype(int) - np.array(classic.decompress(whole))
    assert np.count_nonzero(difference) < 0.001 * difference.size
    with torch.inference_mode():
        compression = tiled.start(image).at(80)
        model = classic.model
        x = replicate_to_multiple(to_unit(image), model.stride)
        y = model.at(8000).analyze(model.stem(x))
        for tile in compression.header.grid.at(model.stride):
            piece = compression.latent(tile).y
            torch.testing.assert_close(piece, y[..., tile.rows, tile.columns], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_main_and_classic_files_have_the_same_grid_of_tiles(classic: Codec) -> None:
    image = synthetic_image(130, 70, 5)
    grids = [
        unpack_header(Codec(model, tile_size=4).compress(image)).grid
        for model in (TOY, classic.weights)
    ]
    assert grids[0] == grids[1]


def test_a_gray_model_takes_gray_images_alone(tmp_path: Path) -> None:
    codec = untrained(config_with(color="gray"), tmp_path)
    image = synthetic_image(40, 30, 1)
    gray = codec.compress(image[..., 0])
    assert np.array(codec.decompress(gray)).shape == (30, 40)
    with pytest.raises(ImageError, match="grayscale"):
        codec.compress(image)
    other = Codec(codec.weights)
    other.model.is_gray = False
    with pytest.raises(FormatError, match="L or LA"):
        codec.decompress(other.compress(image))


def untrained(config: ClassicConfig, folder: Path) -> Codec:
    """Return the codec of random weights, with tables of the prior that they start with."""
    torch.manual_seed(0)
    model = ClassicAutoencoder(config)
    model.start_random()
    tensors = freeze_classic(model)
    tables = _make_tables(model.table_priors(), np.zeros((config.num_tables, 1023)))
    tensors["tables.lengths"], tensors["tables.counts"] = tables.pack()
    path = folder / "untrained.safetensors"
    save_weights(Weights(config, tensors, {}), path)
    return Codec(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"stride": 2, "pool_size": 1},
        {"pooling": "none"},
        {"pooling": "avg", "activation": "gelu"},
        {"pool_size": 3, "activation": "leaky_relu"},
        {"kernel_size": 5, "channels": (3, 4, 5)},
        {"pool_size": 1},
        {"pool_size": 8},
    ],
)
def test_every_variant_compresses_and_decompresses(
    fields: dict[str, object], tmp_path: Path
) -> None:
    codec = untrained(config_with(**fields), tmp_path)
    for width, height in ((1, 1), (65, 130)):
        tiled = Codec(codec.weights, tile_size=4)
        data = tiled.compress(synthetic_image(width, height, 1))
        assert tiled.decompress(data).size == (width, height)


def test_a_tile_without_positions_has_an_empty_payload(tmp_path: Path) -> None:
    codec = Codec(untrained(config_with(pool_size=3), tmp_path).weights, tile_size=4)
    container = unpack(codec.compress(synthetic_image(65, 10, 1)))
    first, second = container.tiles
    assert second.payload == b""
    filled = dataclasses.replace(second, payload=b"\1\0\0\0")
    with pytest.raises(FormatError, match="tile 1"):
        codec.decompress(pack(dataclasses.replace(container, tiles=(first, filled))))


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": ()},
        {"channels": (0,)},
        {"channels": (8, 5000)},
        {"channels": 8},
        {"channels": (8,) * 7},
        {"kernel_size": 4},
        {"kernel_size": 0},
        {"stride": 0},
        {"pool_size": 9},
        {"pooling": "median"},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": "half"},
        {"activation": "sigmoid"},
        {"color": "cmyk"},
        {"quality_anchors": 1},
        {"channels": (4096,), "quality_anchors": 9},
    ],
)
def test_a_wrong_configuration_is_one_clear_error(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        config_with(**fields)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


def test_configurations_name_their_architecture_and_main_needs_none() -> None:
    config = config_with(pooling="avg")
    values = json.loads(json.dumps(config.to_dict()))
    assert values["architecture"] == "classic"
    assert model_config_from(values) == config
    assert "architecture" not in MainConfig().to_dict()
    assert model_config_from({}) == model_config_from({"architecture": "main"}) == MainConfig()
    for architecture in ("vgg", 3, ["classic"]):
        with pytest.raises(ConfigError, match="main, classic"):
            model_config_from({"architecture": architecture})


@pytest.mark.slow
def test_weights_that_do_not_fit_the_architecture_are_refused(
    classic: Codec, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.safetensors"
    weights = classic.weights
    for tensors in (
        {name: array for name, array in weights.tensors.items() if name != "image.weight"},
        weights.tensors | {"surprise": np.zeros(3, np.float16)},
        load_weights(TOY).tensors,
        weights.tensors | {"tables.lengths": weights.tensors["tables.lengths"][:-1]},
    ):
        save_weights(type(weights)(weights.config, tensors, {}), path)
        with pytest.raises(ModelError):
            Codec(path)


def test_cross_entropy_is_the_squared_error_near_mid_gray() -> None:
    x = torch.full((1, 3, 8, 8), 0.5)
    x_hat = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert cross_entropy(x_hat, x).item() == pytest.approx(squared_error(x_hat, x).item(), rel=1e-2)
    assert cross_entropy(x, x).item() == 0


def macs(module: torch.nn.Module, before: torch.Tensor, after: torch.Tensor) -> int:
    """Return the MACs of a convolution: a kernel per output, or transposed, per input position."""
    positions = before if isinstance(module, torch.nn.ConvTranspose2d) else after
    return module.weight.numel() * positions[0, 0].numel()


@pytest.mark.parametrize("pooling", ["max", "none"])
@pytest.mark.parametrize(("stride", "pool_size"), [(1, 2), (2, 1), (2, 2)])
def test_kmac_counts_equal_those_of_the_convolutions_that_run(
    stride: int, pool_size: int, pooling: str
) -> None:
    config = config_with(stride=stride, pool_size=pool_size, pooling=pooling)
    model = ClassicAutoencoder(config).eval()
    counts = {"encoder": 0, "decoder": 0, "image": 0}

    def count(module: torch.nn.Module, before: tuple[torch.Tensor], after: torch.Tensor) -> None:
        counts[parts[module]] += macs(module, before[0], after)

    parts = {module: name.split(".", maxsplit=1)[0] for name, module in model.named_modules()}
    for module in parts:
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.rand(1, 3, 64, 64), QUALITY)
    encode, decode = kmac_per_pixel(config)
    assert encode * 1000 * 64**2 == pytest.approx(counts["encoder"])
    assert decode * 1000 * 64**2 == pytest.approx(counts["decoder"] + counts["image"])


@pytest.mark.parametrize("crop", [(37, 21, 120, 100), (37, 21, 100, 120), (1, 1, 199, 149)])
def test_a_crop_that_starts_within_a_position_is_that_of_the_whole(
    crop: tuple[int, int, int, int], classic: Codec
) -> None:
    codec = Codec(classic.weights, tile_size=4)
    data = codec.compress(synthetic_image(200, 150, 101), quality=50)
    x, y, width, height = crop
    expected = np.array(codec.decompress(data)).astype(int)[y : y + height, x : x + width]
    assert np.abs(np.array(codec.decompress(data, crop=crop)) - expected).max() <= 1
