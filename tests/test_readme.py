"""The README's commands and Python, run as they stand there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from caecodec.cli.app import app
from caecodec.config import Tune
from caecodec.weights import SHIPPED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples and the files that the README's commands name."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "examples" / "chelsea.png", tmp_path / "photo.png")
    shutil.copytree(ROOT / "examples", tmp_path / "photos")
    with Image.open(tmp_path / "photo.png") as image:
        image.save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_two_commands_for_a_fresh_machine_come_first() -> None:
    install, test = blocks("sh")
    assert "pip install ." in install
    assert "caecodec compress examples/" in install
    assert "[test]" in test
    assert test.rstrip().endswith("-m pytest")


@pytest.mark.slow
def test_the_commands_of_use_it_work(workplace: Path) -> None:
    lines = [line.split("  #")[0].strip() for line in blocks("console")[0].splitlines()]
    for line in lines:
        command = line.replace("caecodec ", f"{shlex.quote(sys.executable)} -m caecodec ")
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert (workplace / "compressed" / "chelsea.cae").exists()
    assert (workplace / "restored" / "photo.png").exists()
    assert (workplace / "photo.webp").exists()
    assert (workplace / "piped.cae").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "printed"),
    list(zip(blocks("python"), [r"[0-2]\.\d+", r"\(300, 451, 3\)"], strict=True)),
)
def test_the_python_blocks_work(workplace: Path, code: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(printed, done.stdout.strip())


@pytest.mark.slow
def test_the_example_script_works(workplace: Path) -> None:
    done = subprocess.run(
        [sys.executable, workplace / "examples" / "compress_from_python.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dB") == 3


def test_every_command_and_option_that_the_readme_names_exists() -> None:
    group = typer.main.get_command(app)
    for block in blocks("console"):
        for name in re.findall(r"caecodec (\w+)", block):
            assert name in group.commands, name  # type: ignore[attr-defined]


def test_every_document_that_is_linked_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_a_model_is_shipped() -> None:
    assert set(Tune) <= set(SHIPPED)
