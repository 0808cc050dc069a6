"""The examples run as their first lines say."""

import json
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_golden import GOLDEN, TOY, drawn_image, synthetic_image
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.weights import shipped_path

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
READER, PIXELS = EXAMPLES / "read_cae.py", EXAMPLES / "cae_pixels.py"
MAX_LINES = {READER: 220, PIXELS: 240}
"""Of those of the second reader; the other examples have 39 at most."""


def run(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_listed(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES.get(path, 39)
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text()


def test_digits_are_classified_by_a_quarter_of_their_numbers(tmp_path: Path) -> None:
    lines = run("classify_digits.py", 1, tmp_path).splitlines()
    raw, learned = (int(line.split(": ")[1].split()[0]) for line in lines)
    assert raw == 28 * 28
    assert 4 * learned <= raw
    assert (tmp_path / "digits.reconstructions.png").exists()


def test_a_classic_model_of_photographs_is_trained_and_used(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(EXAMPLES / "chelsea.png", photos)
    assert run("train_classic.py", photos, 2, tmp_path / "mine.safetensors").count("dB") == 3


def test_the_plot_has_a_curve_for_classic_main_and_jpeg(tmp_path: Path) -> None:
    out = tmp_path / "plot.svg"
    run("rate_distortion.py", EXAMPLES / "chelsea.png", out)
    assert {"psnr", "classic", "JPEG"} <= set(re.findall("<!-- (.+?) -->", out.read_text()))


@pytest.mark.parametrize("name", sorted(path.stem for path in (GOLDEN / "decode").glob("*.json")))
def test_the_independent_reader_finds_the_golden_symbols(name: str) -> None:
    expected = json.loads((GOLDEN / "decode" / f"{name}.json").read_text())["symbols_crc"]
    printed = run("read_cae.py", GOLDEN / "decode" / f"{name}.cae", TOY)
    assert printed.endswith(f" CRC-32 {expected}\n")


@pytest.mark.parametrize("model", ["psnr", "classic"])
def test_the_independent_reader_agrees_on_the_shipped_models(model: str, tmp_path: Path) -> None:
    codec = Codec(model)
    data = codec.compress(synthetic_image(130, 70, 3), quality=77)
    (tmp_path / "image.cae").write_bytes(data)
    symbols = b"".join(part.astype("<i4").tobytes() for part, _ in codec.file_symbols(data))
    printed = run("read_cae.py", tmp_path / "image.cae", shipped_path(model))
    assert printed.endswith(f" CRC-32 {zlib.crc32(symbols):08x}\n")


@pytest.mark.parametrize("model", ["psnr", "visual"])
def test_the_independent_reader_finds_the_pixels_of_the_shipped_models(
    model: str, tmp_path: Path
) -> None:
    codec = Codec(model)
    data = codec.compress(drawn_image(130, 70, 3), quality=45)
    (tmp_path / "image.cae").write_bytes(data)
    run("cae_pixels.py", tmp_path / "image.cae", shipped_path(model), tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as image:
        assert np.array_equal(image, codec.decompress(data))


@pytest.mark.parametrize(
    ("path", "needed"),
    [(READER, {"constriction", "numpy"}), (PIXELS, {"PIL", "numpy", "read_cae"})],
)
def test_the_independent_reader_needs_neither_torch_nor_caecodec(
    path: Path, needed: set[str]
) -> None:
    imported = set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == needed
