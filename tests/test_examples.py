"""The examples of the classic model run as their first lines say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MAX_LINES = 39


def run(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_listed(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
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
    assert {"main", "classic", "JPEG"} <= set(re.findall("<!-- (.+?) -->", out.read_text()))
