"""Options that bound the work: --scale, --crop, thumbnail, --size-limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image, ImageOps
from test_cli import MODEL, run

from caecodec.codec.codec import Codec
from caecodec.format.constants import Mode
from caecodec.format.container import Header

ORIENTATION = 0x0112


@pytest.fixture
def wide_path(tmp_path: Path) -> Path:
    path = tmp_path / "wide.cae"
    path.write_bytes(Codec(TOY, tile_size=4).compress(synthetic_image(230, 100, 3), quality=70))
    return path


@pytest.mark.parametrize(
    ("scale", "size"), [("1/2", (115, 50)), ("1/8", (29, 13)), ("1", (230, 100))]
)
def test_scale_makes_a_smaller_image(wide_path: Path, scale: str, size: tuple[int, int]) -> None:
    out = wide_path.with_name("small.png")
    assert run("decompress", wide_path, out, "--scale", scale, *MODEL).exit_code == 0
    with Image.open(out) as image:
        assert image.size == size


def test_scale_goes_with_crop(wide_path: Path) -> None:
    out = wide_path.with_name("part.png")
    arguments = ["--scale", "1/4", "--crop", "10,20,50,41"]
    assert run("decompress", wide_path, out, *arguments, *MODEL).exit_code == 0
    with Image.open(out) as image:
        assert image.size == (13, 11)


def test_another_scale_is_a_usage_error(wide_path: Path) -> None:
    result = run("decompress", wide_path, "--scale", "1/3", *MODEL)
    assert result.exit_code == 2
    assert "1/2, 1/4, 1/8" in result.stderr


@pytest.mark.parametrize(("size", "expected"), [(64, (64, 28)), (20, (20, 9)), (500, (230, 100))])
def test_a_thumbnail_is_as_long_as_asked_and_never_enlarged(
    wide_path: Path, size: int, expected: tuple[int, int]
) -> None:
    out = wide_path.with_name("thumbnail.png")
    out.write_bytes(b"an older one")
    assert run("thumbnail", wide_path, out, "--size", size, *MODEL).exit_code == 0
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert image.size == expected
        whole = Image.fromarray(synthetic_image(230, 100, 3)).resize(expected)
        difference = np.array(image).astype(float) - np.array(whole)
        assert np.abs(difference).mean() < 10


def test_a_thumbnail_without_suffix_is_a_png(wide_path: Path) -> None:
    out = wide_path.with_name("thumbnail")
    assert run("thumbnail", wide_path, out, *MODEL).exit_code == 0
    with Image.open(out) as image:
        assert image.format == "PNG"


def test_a_thumbnail_is_upright(tmp_path: Path) -> None:
    image = Image.fromarray(synthetic_image(96, 64, 4))
    exif = image.getexif()
    exif[ORIENTATION] = 6  # turned by 90 degrees
    image.info["exif"] = exif.tobytes()
    (tmp_path / "turned.cae").write_bytes(Codec(TOY).compress(image, quality=90))
    out = tmp_path / "turned.png"
    assert run("thumbnail", tmp_path / "turned.cae", out, *MODEL).exit_code == 0
    with Image.open(out) as small:
        upright = ImageOps.exif_transpose(image)
        assert small.size == (64, 96)
        assert np.abs(np.array(small).astype(float) - np.array(upright)).mean() < 10
        assert small.getexif().get(ORIENTATION, 1) == 1


def test_the_size_limit_is_an_option(photo_path: Path) -> None:
    small, large = ["--size-limit", "6000"], ["--size-limit", "0.1M"]
    refused = run("compress", photo_path, *small, *MODEL)
    assert refused.exit_code == 1
    assert "90 x 70 pixels, expected at most 6000" in refused.stderr
    assert run("compress", photo_path, *large, *MODEL).exit_code == 0
    file = photo_path.with_suffix(".cae")
    out = photo_path.with_name("out.png")
    for command in (["verify", file], ["thumbnail", file, out], ["decompress", file, out]):
        assert run(*command, *small, *MODEL).exit_code == 1
        assert not out.exists()
    assert run("decompress", file, out, *large, *MODEL).exit_code == 0
    assert run("compress", photo_path, "--size-limit", "many", *MODEL).exit_code == 2


@pytest.mark.parametrize("command", ["decompress", "verify", "thumbnail"])
def test_a_header_that_claims_gigapixels_is_refused(tmp_path: Path, command: str) -> None:
    header = Header(Mode.RGB, 5000, 65_535, 65_535, bytes(8), 64).pack()
    (tmp_path / "bomb.cae").write_bytes(header + bytes(30))
    out = [tmp_path / "out.png"] if command == "thumbnail" else []
    result = run(command, tmp_path / "bomb.cae", *out)
    assert result.exit_code == 1
    assert "65535 x 65535 pixels, expected at most 178956970" in result.stderr


def test_more_pixels_than_pillow_opens_by_itself_are_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # raises above 2000 pixels
    monkeypatch.setattr("caecodec.image.image_files.SIZE_LIMIT", 2000)
    path = tmp_path / "large.png"
    Image.fromarray(synthetic_image(60, 40, 1)).save(path)
    assert run("compress", path, "--size-limit", "2000", *MODEL).exit_code == 1
    assert run("compress", path, "--size-limit", "2400", *MODEL).exit_code == 0
