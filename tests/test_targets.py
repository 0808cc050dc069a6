"""Files of a wanted size or PSNR."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image
from test_lossless_use import drawing
from typer.testing import CliRunner

import caecodec
from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.codec.targets import Target, _Attempt, _search, _Window, compress_to
from caecodec.errors import ConfigError, ImageError, TargetError
from caecodec.image.metrics import psnr, ssimulacra2
from caecodec.nn.inference_main import FrozenMain


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return synthetic_image(320, 256, 21)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("effort", [1, 3])
def test_a_size_is_met_from_below_within_2_percent(
    toy: Codec, image: np.ndarray, share: float, effort: int
) -> None:
    least, most = (len(toy.compress(image, quality=q, effort=effort)) for q in (0, 100))
    wanted = round(least + share * (most - least))
    size = len(compress_to(toy, image, target=Target(num_bytes=wanted), effort=effort))
    assert 0.98 * wanted <= size <= wanted


def test_bits_a_pixel_are_a_size(toy: Codec, image: np.ndarray) -> None:
    data = compress_to(toy, image, target=Target(bpp=0.3))
    assert data == compress_to(toy, image, target=Target(num_bytes=3072))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["color", "gray", "alpha"])
def test_a_psnr_is_met_from_above_within_a_twentieth(
    toy: Codec, image: np.ndarray, kind: str
) -> None:
    color = image[..., 1] if kind == "gray" else image
    whole = np.dstack((image, image[..., :1])) if kind == "alpha" else color
    low, high = (
        psnr(color, np.array(toy.decompress(toy.compress(color, quality=q)))) for q in (5, 95)
    )
    wanted = (low + high) / 2
    decoded = np.array(toy.decompress(compress_to(toy, whole, target=Target(psnr=wanted))))
    reached = psnr(color, decoded[..., :3] if kind == "alpha" else decoded)
    assert wanted <= reached <= wanted + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["color", "gray"])
def test_ssimulacra2_is_met_from_above_within_a_half(
    toy: Codec, image: np.ndarray, kind: str
) -> None:
    color = image[..., 1] if kind == "gray" else image
    low, high = (
        ssimulacra2(color, np.array(toy.decompress(toy.compress(color, quality=q))))
        for q in (5, 95)
    )
    wanted = (max(low, 1) + high) / 2
    data = compress_to(toy, color, target=Target(ssimulacra2=wanted))
    assert wanted <= ssimulacra2(color, np.array(toy.decompress(data))) <= wanted + 0.5


def test_what_no_quality_reaches_is_met_losslessly(toy: Codec, photo: np.ndarray) -> None:
    lossless = toy.compress(photo, lossless=True)
    for target in (Target(psnr=90), Target(psnr=500), Target(ssimulacra2=100), Target(bpp=40)):
        assert compress_to(toy, photo, target=target) == lossless
    assert compress_to(toy, photo[:20, :20], target=Target(psnr=90), effort=5) == toy.compress(
        photo[:20, :20], lossless=True
    )


def test_a_size_that_is_too_small_for_the_lossless_file_gets_quality_100(
    toy: Codec, photo: np.ndarray
) -> None:
    target = Target(num_bytes=len(toy.compress(photo, lossless=True)) - 1)
    assert compress_to(toy, photo, target=target) == toy.compress(photo, quality=100)


def test_a_score_above_that_of_the_original_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"SSIMULACRA2 is 100\.5, expected at most 100"):
        Target(ssimulacra2=100.5)


@pytest.mark.parametrize("wanted", [20, 35, 99])
def test_a_psnr_of_a_flat_drawing_is_met(toy: Codec, wanted: float) -> None:
    image = drawing()
    data = compress_to(toy, image, target=Target(psnr=wanted))
    assert psnr(np.array(image), np.array(toy.decompress(data))) >= wanted


def test_a_size_of_a_flat_drawing_is_met_or_the_nearest_is_named(toy: Codec) -> None:
    image = drawing()
    least = len(toy.compress(image, quality=0))
    for wanted in (least, least + 1, 2 * least, 100_000):
        assert len(compress_to(toy, image, target=Target(num_bytes=wanted))) <= wanted
    with pytest.raises(TargetError, match=f"the nearest is {least:,} bytes, .*, at quality 0$"):
        compress_to(toy, image, target=Target(num_bytes=least - 1))


INFINITE_FROM = 4321


@pytest.mark.parametrize("start", [0, 2500, INFINITE_FROM, 10_001])
@pytest.mark.parametrize("wanted", [-3.0, 30.0, 1e9])
def test_the_search_finds_the_least_quality_of_equal_pixels(start: int, wanted: float) -> None:
    def try_at(units: int) -> _Attempt:
        return _Attempt(units, b"", math.inf if units >= INFINITE_FROM else -5.0)

    found, is_met = _search(
        try_at, _Window(wanted, wanted + 0.03, at_most=False, slope=1e-3), start
    )
    assert is_met
    assert found.units == INFINITE_FROM


@pytest.mark.parametrize("start", [0, 2500, 5000, 10_000])
@pytest.mark.parametrize("wanted", [100, 3000, 5099, 6000])
def test_the_search_meets_sizes_that_fall_somewhere(start: int, wanted: int) -> None:
    def try_at(units: int) -> _Attempt:
        return _Attempt(units, b"", math.log(100 + units % 5000))

    high = math.log(wanted)
    found, is_met = _search(try_at, _Window(high - 0.01, high, at_most=True, slope=3e-4), start)
    assert is_met
    assert found.value <= high


def test_ssimulacra2_of_an_image_that_is_too_small_is_an_error(toy: Codec) -> None:
    with pytest.raises(ImageError, match="needs 8 pixels a side, the image has 20 x 5"):
        compress_to(toy, synthetic_image(20, 5, 1), target=Target(ssimulacra2=70))


def test_a_missing_package_is_an_error_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    with pytest.raises(ConfigError, match=r"pip install 'caecodec\[bench\]'"):
        Target(ssimulacra2=70)


def test_the_command_takes_a_score(photo_path: Path, photo: np.ndarray) -> None:
    options = ["--target-ssimulacra2", "1", "--model", str(TOY)]
    result = CliRunner().invoke(app, ["compress", str(photo_path), *options])
    assert result.exit_code == 0, result.stderr
    decoded = np.array(caecodec.decompress(photo_path.with_suffix(".cae").read_bytes(), model=TOY))
    assert 1 <= ssimulacra2(photo, decoded) <= 1.5
    result = CliRunner().invoke(app, ["compress", str(photo_path), *options, "-q", "3", "-f"])
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_a_high_effort_meets_the_target_too(toy: Codec) -> None:
    small = synthetic_image(96, 96, 22)
    wanted = len(toy.compress(small, quality=60))
    size = len(compress_to(toy, small, target=Target(num_bytes=wanted), effort=5))
    assert 0.97 * wanted <= size <= wanted


def test_the_stem_runs_once_a_tile(
    toy: Codec, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    stem = FrozenMain.stem
    monkeypatch.setattr(FrozenMain, "stem", lambda self, x: calls.append(x.shape) or stem(self, x))
    compress_to(toy, image, target=Target(bpp=0.4))
    assert len(calls) == 1


def test_a_size_out_of_range_names_the_nearest(toy: Codec, photo: np.ndarray) -> None:
    target = Target(num_bytes=40)
    with pytest.raises(TargetError, match=r"the nearest is .* bpp, at quality 0$"):
        compress_to(toy, photo, target=target)
    data = compress_to(toy, photo, target=target, best_effort=True)
    assert data == toy.compress(photo, quality=0)


def test_quality_0_meets_what_it_more_than_meets(toy: Codec, photo: np.ndarray) -> None:
    assert compress_to(toy, photo, target=Target(psnr=5.0)) == toy.compress(photo, quality=0)


@pytest.mark.parametrize(
    "values", [{}, {"bpp": 1.0, "psnr": 30.0}, {"bpp": 0.0}, {"psnr": math.nan}, {"num_bytes": -4}]
)
def test_a_target_is_one_number_above_0(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="one of bpp, num_bytes and psnr"):
        Target(**values)


def test_the_module_function_takes_a_target(toy: Codec, photo: np.ndarray) -> None:
    decoded = np.array(toy.decompress(toy.compress(photo, quality=50)))
    target = Target(psnr=psnr(photo, decoded))
    assert caecodec.Target is Target
    data = caecodec.compress(photo, target=target, model=TOY)
    assert data == compress_to(toy, photo, target=target)
    with pytest.raises(ConfigError, match="exclude"):
        caecodec.compress(photo, target=target, quality=3, model=TOY)


def test_the_size_counts_alpha_and_metadata(toy: Codec, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (256, 320), dtype=np.uint8)
    profile = noise[:20].tobytes()
    Image.fromarray(np.dstack((image, noise))).save(path, icc_profile=profile)
    wanted = len(profile) + noise.size + 3000
    with Image.open(path) as opened:
        data = compress_to(toy, opened, target=Target(num_bytes=wanted))
    assert wanted - 1200 <= len(data) <= wanted
