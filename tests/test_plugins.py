"""Formats that Pillow reads with a plugin, and what libraries in C say about damage."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY
from PIL import Image
from test_cli import MODEL, run

from caecodec.errors import ImageError
from caecodec.image.image_files import image_suffixes, open_image, read_image
from caecodec.image.metadata import metadata_of
from caecodec.image.picture import take_apart
from caecodec.image.plugins import PLUGINS, missing_plugins

HEIC = b"\0\0\0\x18ftypheic"
JXL = b"\xff\x0a\xfa\x7f"
FAKE_PLUGIN = """
from PIL import Image, ImageFile

class Heif(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self):
        self._size, self._mode, self.tile = (1, 1), "L", []

    def load(self):
        if self.fp:
            self.tile = [ImageFile._Tile("raw", (0, 0, 1, 1), 12, "L")]
        return super().load()

def register_heif_opener():
    Image.register_open("HEIF", Heif, lambda prefix: prefix[4:12] == b"ftypheic")
"""


@pytest.fixture
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    modules, find = {plugin.module for plugin in PLUGINS}, importlib.util.find_spec

    def find_others(name: str) -> ModuleSpec | None:
        return None if name in modules else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)


@pytest.fixture
def _fake_heif(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("packages")
    (folder / "pillow_heif.py").write_text(FAKE_PLUGIN)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(sys.modules, "pillow_heif")


@pytest.mark.usefixtures("_no_plugins")
def test_a_missing_plugin_is_named_by_content_whatever_the_suffix(tmp_path: Path) -> None:
    for name, data, expected in (
        ("photo.heic", HEIC, "HEIC: pip install pillow-heif, and it is read"),
        ("photo.jpg", b"\0\0\0\x18ftypmif1", "HEIC: pip install pillow-heif, and it is read"),
        ("photo.jxl", JXL, "JPEG XL: pip install pillow-jxl-plugin, and it is read"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        result = run("compress", path, *MODEL)
        assert result.exit_code == 1
        assert result.stderr == f"error: {path} is {expected}\n"
        with pytest.raises(ImageError, match="pip install"):
            open_image(io.BytesIO(data), name)


@pytest.mark.usefixtures("_no_plugins")
def test_what_r_leaves_out_for_want_of_a_plugin_is_said_once_a_kind(photo_path: Path) -> None:
    folder = photo_path.parent
    for name in ("a.HEIC", "b.heic", "c.txt"):
        (folder / name).write_bytes(HEIC)
    result = run("compress", "-r", folder, "-o", folder / "out", *MODEL)
    assert result.exit_code == 0
    assert "3 left out (2 .heic: pip install pillow-heif, 1 .txt)" in result.stderr
    result = run("decompress", "-r", folder / "out", folder, "-o", folder / "back", "-n", *MODEL)
    assert "2 .heic" in result.stderr
    assert "pip install" not in result.stderr


@pytest.mark.usefixtures("_fake_heif")
def test_an_installed_plugin_is_imported_when_content_needs_it(tmp_path: Path) -> None:
    assert ".heic" in image_suffixes()
    assert ".heic" not in missing_plugins()
    assert "pillow_heif" not in sys.modules
    for name in ("photo.heic", "photo.jpg"):
        (tmp_path / name).write_bytes(HEIC + b"\7")
        assert open_image(tmp_path / name, name).getpixel((0, 0)) == 7
    assert open_image(io.BytesIO(HEIC + b"\7"), "-").format == "HEIF"


@pytest.mark.usefixtures("_fake_heif")
def test_a_heic_of_10_bits_is_refused_though_its_plugin_would_cut_it() -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    properties = box(b"iprp", box(b"ipco", box(b"hvcC", bytes(17) + b"\2\2")))
    data = box(b"ftyp", b"heic") + box(b"meta", bytes(4) + properties)
    with pytest.raises(ImageError, match=r"^10 bits per channel"):
        open_image(io.BytesIO(data), "deep.heic")


def test_how_the_pixels_of_a_heic_picture_were_stored_is_no_loss() -> None:
    image = Image.new("RGB", (4, 4))
    image.format = "HEIF"
    image.info |= {"depth_images": [], "aux": {}, "chroma": 420, "tiling": {"tile_size": 512}}
    assert metadata_of(image).left == ()


def test_real_plugins_read_what_they_write(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pytest.importorskip("pillow_jxl")
    pillow_heif.register_heif_opener()
    pixels = np.full((8, 8, 3), 90, np.uint8)
    for name in ("a.heic", "a.jxl"):
        Image.fromarray(pixels).save(tmp_path / name)
        image, left = read_image(tmp_path / name, name)
        assert left == ()
        assert np.abs(np.array(image).astype(int) - pixels).max() <= 3
    image = Image.fromarray(pixels)
    image.save(tmp_path / "b.jxl", use_container=True, xmp=b"<x/>", jumb=b"jumb")
    stored, left = read_image(tmp_path / "b.jxl", "b.jxl")
    assert stored.info["xmp"] == b"<x/>"
    assert left == ("JUMBF metadata",)
    assert take_apart(stored).metadata["xmp"] == b"<x/>"
    deep = pillow_heif.from_bytes("RGB;16", (8, 8), bytes(8 * 8 * 6))
    deep.save(tmp_path / "deep.heic")
    with pytest.raises(ImageError, match=r"^10 bits"):
        open_image(tmp_path / "deep.heic", "deep.heic")


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["group4", "jpeg", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.skipif(sys.platform == "win32", reason="symbols of libtiff are found by POSIX linkers")
def test_damage_in_a_tiff_is_an_error_and_the_only_line(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "damaged.tif"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert("1" if compression == "group4" else "RGB")
    image.save(path, compression=compression)
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xff" * 60
    path.write_bytes(data)
    command = [sys.executable, "-m", "caecodec", "compress", path, "--model", TOY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot read {path}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not path.with_suffix(".cae").exists()


@pytest.mark.slow
def test_what_pillow_logs_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    Image.new("RGB", (8, 8)).save(path)
    data = path.read_bytes()
    entry = struct.pack("<HHIHH", 277, 3, 1, 3, 0)  # samples per pixel
    path.write_bytes(data.replace(entry, struct.pack("<HHIHH", 277, 3, 1, 65535, 0)))
    command = [sys.executable, "-m", "caecodec", "compress", path, "--model", TOY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
