"""`.cae` files as one more format of Pillow."""

from __future__ import annotations

import io
import multiprocessing
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from make_golden import synthetic_image
from PIL import Image, ImageFile, UnidentifiedImageError

import caecodec
from caecodec.format.constants import Mode
from caecodec.format.container import HEADER_BYTES, Header

caecodec.register_pillow_opener()
METADATA = {"icc_profile": b"a profile", "exif": b"II*\0\x08\0\0\0" + bytes(6), "xmp": b"<x/>"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pillow") / "photo.cae"
    image = Image.fromarray(synthetic_image(100, 60, 2))
    image.info.update(METADATA)
    image.save(found, quality=70, effort=1)
    return found


def test_open_reads_the_header_and_loads_no_torch(path: Path) -> None:
    code = f"""
import sys
from PIL import Image
import caecodec.CaeImagePlugin
with Image.open({str(path)!r}) as image:
    assert (image.format, image.mode, image.size) == ("CAE", "RGB", (100, 60))
    assert image.info["icc_profile"] == b"a profile"
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_pixels_are_those_of_decompress(path: Path) -> None:
    with Image.open(path) as image:
        assert np.array_equal(np.array(image), np.array(caecodec.decompress(path.read_bytes())))
        assert {name: image.info[name] for name in METADATA} == METADATA


def test_save_takes_quality_and_effort() -> None:
    image = Image.fromarray(synthetic_image(100, 60, 2))
    for quality, effort in ((20, 1), (80.5, 3)):
        buffer = io.BytesIO()
        image.save(buffer, "CAE", quality=quality, effort=effort)
        assert buffer.getvalue() == caecodec.compress(image, quality=quality, effort=effort)


def test_options_of_save_replace_metadata(path: Path) -> None:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "CAE", exif=b"II*\0another", icc_profile=b"")
        assert image.info["icc_profile"] == METADATA["icc_profile"]
    with Image.open(buffer) as saved:
        assert saved.info["exif"] == b"II*\0another"
        assert saved.info["xmp"] == METADATA["xmp"]
        assert "icc_profile" not in saved.info


def test_exif_of_getexif_is_kept() -> None:
    image, buffer = Image.fromarray(synthetic_image(20, 10, 2)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "CAE", exif=exif, icc_profile=None)
    with Image.open(buffer) as saved:
        assert saved.getexif()[0x0112] == 6
        assert "icc_profile" not in saved.info


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exif": 5}, "exif is of type int, expected bytes or an Image.Exif"),
        ({"icc_profile": "sRGB"}, "icc_profile is of type str, expected bytes"),
        ({"xmp": ["<x/>"]}, "xmp is of type list, expected bytes or a str"),
    ],
)
def test_metadata_of_a_wrong_type_is_a_type_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Image.fromarray(synthetic_image(20, 10, 2)).save(io.BytesIO(), "CAE", **options)


def test_a_quality_that_is_no_number_is_named() -> None:
    with pytest.raises(OSError, match="quality is 'high', expected a number from 0 to 100"):
        Image.fromarray(synthetic_image(20, 10, 2)).save(io.BytesIO(), "CAE", quality="high")


def test_verify_finds_damage_without_decoding(path: Path) -> None:
    data = path.read_bytes()
    with Image.open(path) as whole:
        whole.verify()
    for damaged in (data[:-1], data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]):
        with Image.open(io.BytesIO(damaged)) as image, pytest.raises(OSError, match="broken CAE"):
            image.verify()


def test_what_is_intact_loads_if_pillow_is_asked_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = path.read_bytes()
    damaged = data[:-30] + bytes(10) + data[-20:]
    with Image.open(io.BytesIO(damaged)) as image, pytest.raises(OSError, match="cannot decode"):
        image.load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for size in ((100, 60), (50, 30)):
        with Image.open(io.BytesIO(damaged)) as image:
            image.draft(None, size)
            assert np.array(image).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_every_8_bit_mode_goes_through(mode: str) -> None:
    image = Image.fromarray(synthetic_image(40, 30, 3)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "CAE", quality=90)
    with Image.open(buffer) as saved:
        expected = {"P": "RGB", "1": "L"}.get(mode, mode)
        assert saved.mode == expected
        saved.load()
        assert saved.size == (40, 30)
        if mode in {"LA", "RGBA"}:
            assert saved.getchannel("A").getextrema() == (255, 255)


def test_a_mode_that_is_refused_is_an_oserror_as_in_other_plugins() -> None:
    with pytest.raises(OSError, match="cannot write CAE: colour mode CMYK"):
        Image.new("CMYK", (3, 3)).save(io.BytesIO(), "CAE")


@pytest.mark.parametrize("cut", [0, 8, HEADER_BYTES - 1])
def test_what_is_no_file_is_unidentified(path: Path, cut: int) -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(path.read_bytes()[:cut]))


def test_damaged_metadata_and_headers_are_unidentified(path: Path) -> None:
    for position in (12, HEADER_BYTES + 8):
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data))


def test_damaged_pixels_are_an_oserror_on_load(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="cannot decode"):
        image.load()


def test_the_rules_on_decompression_bombs_are_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Header(Mode.RGB, 5000, 20_000, 20_000, bytes(8), 64).pack() + b"TILE" + bytes(4)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert Image.open(io.BytesIO(data)).size == (20_000, 20_000)


def test_thumbnail_decodes_a_smaller_image(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    decompress = caecodec.Codec.decompress

    def spy(self: caecodec.Codec, data: bytes, *, scale: float) -> Image.Image:
        asked.append(scale)
        return decompress(self, data, scale=scale)

    monkeypatch.setattr(caecodec.Codec, "decompress", spy)
    with Image.open(path) as image:
        image.thumbnail((15, 15))
        assert image.size == (15, 9)
    assert asked == [1 / 2]  # Pillow asks for twice the size each way, to resize well
    with Image.open(path) as image:
        assert image.draft("RGB", (12, 7)) == ("RGB", (0, 0, 12.5, 7.5))
        assert image.size == np.array(image).shape[1::-1] == (13, 8)


def test_a_copy_outlives_its_file(path: Path) -> None:
    with Image.open(path) as image:
        copy = image.copy()
    assert copy.size == (100, 60)
    assert copy.getpixel((0, 0))


def first_pixel(path: str) -> tuple[int, ...]:
    caecodec.register_pillow_opener()
    with Image.open(path) as image:
        return image.getpixel((0, 0))


@pytest.mark.slow
def test_workers_open_files(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(first_pixel, (str(path),)) == first_pixel(str(path))


def test_imread_and_imwrite_are_arrays_in_and_out(tmp_path: Path) -> None:
    array = synthetic_image(50, 40, 1)
    caecodec.imwrite(tmp_path / "a.cae", array, quality=90)
    found = caecodec.imread(tmp_path / "a.cae")
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - array).mean() < 6
    assert np.array_equal(found, decoded_at_90(array))


def test_imageio_reads_and_writes_through_pillow(tmp_path: Path) -> None:
    array = synthetic_image(50, 40, 1)
    iio.imwrite(tmp_path / "a.cae", array, quality=90)
    assert np.array_equal(iio.imread(tmp_path / "a.cae"), caecodec.imread(tmp_path / "a.cae"))
    assert np.array_equal(caecodec.imread(tmp_path / "a.cae"), decoded_at_90(array))


def decoded_at_90(array: np.ndarray) -> np.ndarray:
    return np.array(caecodec.decompress(caecodec.compress(array, quality=90)))
