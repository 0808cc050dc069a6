"""What is uploaded: wheel and sdist, made from the tracked files and used without the source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from caecodec.weights import SHIPPED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PACKAGE_FILES = ["pyproject.toml", "README.md", "LICENSE"]
LARGEST_WHEEL = 40_000_000


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from a copy, as the build leaves folders behind."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGE_FILES:
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "caecodec", source / "caecodec", ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


def test_the_wheel_holds_every_file_of_the_package(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "caecodec").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_the_sdist_holds_what_the_wheel_is_made_of(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {*PACKAGE_FILES, "caecodec/weights/psnr.safetensors", "caecodec/py.typed"} <= names


def test_the_wheel_compresses_in_a_fresh_environment_offline(dist: Path, tmp_path: Path) -> None:
    """Its dependencies are lent by this environment: nothing is fetched."""
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True, symlinks=os.name != "nt")
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    install = [scripts / "python", "-m", "pip", "install", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True)
    Image.open(ROOT / "examples" / "chelsea.png").save(tmp_path / "photo.png")
    lent = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib"), "PYTHONNOUSERSITE": "1"}
    for command in (
        ["caecodec", "compress", "photo.png"],
        ["caecodec", "decompress", "photo.cae", "back.png"],
        *(
            ["caecodec", "compress", "photo.png", f"{model}.cae", "--model", model]
            for model in SHIPPED
        ),
        ["caecodec", "desktop", "--prefix", "share"],
        ["python", "-c", "import caecodec; print(caecodec.__file__)"],
    ):
        program = scripts / command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=tmp_path, env=lent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "venv")
    with Image.open(tmp_path / "back.png") as image:
        assert image.size == (451, 300)
