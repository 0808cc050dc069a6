"""Lossless files as users meet them: the command, Python, Pillow, `info`, targets."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image, ImageDraw
from test_cli import MODEL, run

import caecodec
from caecodec.codec.codec import Codec
from caecodec.errors import ConfigError
from caecodec.format.container import pack, unpack
from caecodec.format.grid import Region
from caecodec.image.lossless import blocks_of, mask_of

caecodec.register_pillow_opener()


def drawing() -> Image.Image:
    """Black words on white, 256 x 256."""
    image = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(image)
    for line in range(10):
        pen.text((10, 10 + 24 * line), f"The quick brown fox jumps over {line}", fill="black")
    return image


def noise(mode: str) -> Image.Image:
    """Levels that nothing predicts, those under transparent pixels too."""
    levels = np.random.default_rng(5).integers(0, 256, (50, 70, 4), dtype=np.uint8)
    levels[::2, :, 3] = 0
    image = Image.fromarray(levels)
    return image.convert("RGB").quantize() if mode == "P" else image.convert(mode)


@pytest.fixture
def drawing_path(tmp_path: Path) -> Path:
    path = tmp_path / "drawing.png"
    drawing().save(path)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_lossless_keeps_every_level_of_every_8_bit_mode(toy: Codec, mode: str) -> None:
    image = noise(mode)
    decoded = toy.decompress(toy.compress(image, lossless=True))
    assert decoded.mode == {"1": "L", "P": "RGB"}.get(mode, mode)
    assert np.array_equal(np.array(decoded), np.array(image.convert(decoded.mode)))


def test_lossless_excludes_a_quality_and_a_target(toy: Codec, photo: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="quality and lossless exclude each other"):
        toy.compress(photo, quality=100, lossless=True)
    with pytest.raises(ConfigError, match="lossless and target exclude each other"):
        caecodec.compress(photo, target=caecodec.Target(bpp=1), lossless=True, model=TOY)


def test_python_and_pillow_write_what_the_codec_does(tmp_path: Path, photo: np.ndarray) -> None:
    data = caecodec.compress(photo, lossless=True)
    caecodec.imwrite(tmp_path / "a.cae", photo, lossless=True)
    Image.fromarray(photo).save(tmp_path / "b.cae", lossless=True)
    assert (tmp_path / "a.cae").read_bytes() == (tmp_path / "b.cae").read_bytes() == data
    assert np.array_equal(caecodec.imread(tmp_path / "a.cae"), photo)
    with pytest.raises(OSError, match="quality and lossless exclude each other"):
        Image.fromarray(photo).save(tmp_path / "c.cae", lossless=True, quality=90)


def test_imwrite_takes_a_target(tmp_path: Path, photo: np.ndarray) -> None:
    caecodec.imwrite(tmp_path / "a.cae", photo, target=caecodec.Target(num_bytes=500), model=TOY)
    assert 490 <= (tmp_path / "a.cae").stat().st_size <= 500


def test_the_command_writes_equal_pixels_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    noise("RGBA").save(tmp_path / "in" / "a.png")
    noise("LA").save(tmp_path / "in" / "sub" / "b.png")
    options = ["--lossless", "--verify", "--psnr", *MODEL]
    result = run("compress", "-r", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.exit_code == 0
    assert result.stderr.count("bpp, lossless, pixels equal, ") == 2
    assert "quality" not in result.stderr
    for name in ("a", "sub/b"):
        decoded = Codec(TOY).decompress((tmp_path / "out" / f"{name}.cae").read_bytes())
        with Image.open(tmp_path / "in" / f"{name}.png") as image:
            assert np.array_equal(np.array(decoded), np.array(image))


def test_json_of_a_lossless_file_has_no_psnr(drawing_path: Path, photo_path: Path) -> None:
    options = ["-o", photo_path.parent / "out", "--psnr", "--json", *MODEL]
    result = run("compress", drawing_path, "--lossless", *options)
    facts = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (facts["psnr"], facts["lossless_share"]) == (None, 1)
    facts = json.loads(run("compress", photo_path, *options).stdout)
    assert facts["psnr"] > 20
    assert facts["lossless_share"] == 0


def test_lossless_goes_through_pipes(drawing_path: Path) -> None:
    packed = run("compress", "-", "-", "--lossless", *MODEL, stdin=drawing_path.read_bytes())
    unpacked = run("decompress", "-", "-", *MODEL, stdin=packed.stdout_bytes)
    with Image.open(io.BytesIO(unpacked.stdout_bytes)) as image:
        assert np.array_equal(np.array(image), np.array(drawing()))


@pytest.mark.parametrize(
    "options",
    [
        ["-q", "100"],
        ["-e", "3"],
        ["--target-size", "9k"],
        ["--target-bpp", "1"],
        ["--target-psnr", "40"],
        ["--target-ssimulacra2", "80"],
    ],
)
def test_the_command_names_what_lossless_excludes(photo_path: Path, options: list[str]) -> None:
    result = run("compress", photo_path, "--lossless", *options, *MODEL)
    assert result.exit_code == 2
    assert "--lossless and --" in result.stderr
    assert "exclude each other" in result.stderr


def test_drawings_are_stored_losslessly_where_that_pays(toy: Codec) -> None:
    image = drawing()
    data = toy.compress(image)
    assert caecodec.info(data).lossless_share > 0.5
    error = np.array(image).astype(float) - np.array(toy.decompress(data))
    assert np.square(error).mean() < 1


def test_quality_100_is_lossy_for_photographs(toy: Codec, photo: np.ndarray) -> None:
    assert not caecodec.info(toy.compress(photo, quality=100)).is_lossless


@pytest.mark.parametrize("block_log2", [4, 5, 7])
@pytest.mark.parametrize(("width", "height"), [(128, 128), (65, 33), (16, 17), (1, 1)])
def test_pixels_in_lossless_blocks_are_counted(block_log2: int, width: int, height: int) -> None:
    tile, random = Region(0, 0, height, width), np.random.default_rng(width)
    shape = -(-height // 2**block_log2), -(-width // 2**block_log2)
    for _ in range(9):
        mask = random.random(shape) < 0.5
        blocks = blocks_of(np.zeros((height, width), np.uint8), mask, block_log2)
        assert blocks.num_pixels(tile) == mask_of(blocks, tile).sum()


def partly_lossless() -> bytes:
    """A file of two tiles: 64 x 64, of which 16 columns are lossless, and 26 x 64, all of it."""
    image = synthetic_image(90, 64, 3)
    container = unpack(Codec(TOY, tile_size=4).compress(image))
    left = blocks_of(image[:, :64], np.tile(np.arange(4) == 2, (4, 1)), 4)
    right = blocks_of(image[:, 64:], np.ones((1, 1), bool), 6)
    pairs = zip(container.tiles, (left, right), strict=True)
    tiles = tuple(dataclasses.replace(tile, lossless=blocks) for tile, blocks in pairs)
    return pack(dataclasses.replace(container, tiles=tiles))


def test_info_counts_what_is_lossless(tmp_path: Path) -> None:
    data = partly_lossless()
    facts = caecodec.info(data)
    assert (facts.num_tiles, facts.num_lossless_tiles, facts.is_lossless) == (2, 1, False)
    assert facts.lossless_share == (64 * 16 + 64 * 26) / (64 * 90)
    (tmp_path / "a.cae").write_bytes(data)
    said = run("info", tmp_path / "a.cae").stdout
    assert "quality 50 (46.7 % of the pixels lossless)" in said
    assert "2 tiles, 1 lossless" in said
    found = json.loads(run("info", "--json", tmp_path / "a.cae").stdout)
    assert (found["num_lossless_tiles"], found["lossless_share"]) == (1, facts.lossless_share)


def test_info_says_lossless_instead_of_a_quality(toy: Codec, tmp_path: Path) -> None:
    path = tmp_path / "a.cae"
    path.write_bytes(toy.compress(drawing(), lossless=True))
    said = run("info", path).stdout
    assert "256 x 256 RGB, lossless, " in said
    assert "quality" not in said
    assert caecodec.info(path).lossless_share == 1
    path.write_bytes(toy.compress(synthetic_image(40, 30, 1)))
    said = run("info", path).stdout.removeprefix(str(path))
    assert "quality 50, " in said
    assert "lossless" not in said


def test_info_of_a_lossless_file_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.cae"
    path.write_bytes(partly_lossless())
    code = f"""
import sys, caecodec
assert caecodec.info({str(path)!r}).num_lossless_tiles == 1
assert not {{"torch", "numpy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
