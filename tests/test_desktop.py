"""The desktop's files: written, known to the system's own programs, taken back."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from test_cli import run

from caecodec.desktop import PLACES

GOLDEN = Path(__file__).parent / "golden" / "decode"


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    assert run("desktop", "--prefix", tmp_path).exit_code == 0
    return tmp_path


def test_files_are_written_where_freedesktop_looks(data_folder: Path) -> None:
    for name, folder in PLACES.items():
        assert (data_folder / folder / name).is_file()


def test_the_default_is_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert run("desktop").exit_code == 0
    assert (tmp_path / "data" / "thumbnailers" / "caecodec.thumbnailer").is_file()


def test_remove_takes_all_of_it_back(data_folder: Path) -> None:
    assert run("desktop", "--prefix", data_folder, "--remove").exit_code == 0
    for name, folder in PLACES.items():
        assert not (data_folder / folder / name).exists()
    assert run("desktop", "--prefix", data_folder, "--remove").exit_code == 0


def test_the_thumbnailer_calls_the_thumbnail_command(data_folder: Path) -> None:
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(data_folder / "thumbnailers" / "caecodec.thumbnailer")
    section = entry["Thumbnailer Entry"]
    assert section["Exec"] == f"{section['TryExec']} thumbnail %i %o --size %s"
    assert Path(section["TryExec"]).is_absolute()
    assert section["MimeType"] == "image/x-cae;"


@pytest.mark.skipif(not shutil.which("file"), reason="file(1) is not installed")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rgb-2x2", "caecodec image, version 1, 2 x 2, RGB"),
        ("gray-alpha", "grayscale with alpha"),
    ],
)
def test_file_knows_the_magic(data_folder: Path, name: str, expected: str) -> None:
    magic = data_folder / "misc" / "caecodec.magic"
    command = ["file", "-m", str(magic), "-b", str(GOLDEN / f"{name}.cae")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.strip().endswith(expected)
    mime = subprocess.run([*command, "-i"], capture_output=True, text=True, check=True).stdout
    assert mime.startswith("image/x-cae")


@pytest.mark.skipif(
    not shutil.which("update-mime-database"), reason="shared-mime-info is not installed"
)
def test_the_mime_database_knows_suffix_and_magic(data_folder: Path) -> None:
    globs = (data_folder / "mime" / "globs2").read_text()
    assert "image/x-cae:*.cae" in globs
    assert b"image/x-cae" in (data_folder / "mime" / "magic").read_bytes()
