"""The golden files: what must decode for ever, and what must be refused; see golden/README.md."""

from __future__ import annotations

import json
import runpy
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caecodec.codec.codec import Codec, codec_for
from caecodec.errors import CodecError
from caecodec.format.boxes import METADATA_BOXES
from caecodec.nn.exact_layers import is_exact
from caecodec.weights import SHIPPED, shipped_path

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path for folder in ("decode", "shipped") for path in (GOLDEN / folder).glob("*.cae"))
EXPECTED_ERRORS = json.loads((GOLDEN / "errors" / "expected.json").read_text(encoding="utf-8"))
METADATA = {"icc_profile": b"a profile", "exif": b"II*\0exif", "xmp": b"<x:xmpmeta/>"}
"""What the files named metadata hold beside pixels, and no other."""
MAX_DIFFERENCE = 2
MAX_RMS = 0.1
READER = SimpleNamespace(**runpy.run_path(str(GOLDEN.parents[1] / "examples" / "read_cae.py")))

each_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}.{suffix}")


def expected_of(path: Path) -> dict[str, Any]:
    return json.loads(beside(path, "json").read_text(encoding="utf-8"))


def codec_of(path: Path, toy: Codec) -> Codec:
    """Return the codec that a user gets for a file: shipped files need no weights given."""
    return codec_for(path.read_bytes()) if path.parent.name == "shipped" else toy


def test_golden_files_are_complete() -> None:
    for folder in ("decode", "shipped"):
        stems = {
            suffix: sorted(path.stem for path in (GOLDEN / folder).glob(f"*.{suffix}"))
            for suffix in ("cae", "png", "json")
        }
        assert stems["png"] == stems["json"] == stems["cae"]
        assert len(stems["cae"]) >= 10
    assert sorted(path.name for path in (GOLDEN / "errors").glob("*.cae")) == sorted(
        EXPECTED_ERRORS
    )


def test_every_shipped_model_has_golden_files() -> None:
    digests = {expected_of(path)["digest"] for path in FILES if path.parent.name == "shipped"}
    assert digests == set(SHIPPED.values())


@each_file
def test_golden_file_decodes_to_its_pixels_within_bounds(path: Path, toy: Codec) -> None:
    codec = codec_of(path, toy)
    decoded = codec.decompress(path.read_bytes())
    assert decoded.mode == expected_of(path)["mode"]
    with Image.open(beside(path, "png")) as image:
        assert (image.mode, image.size) == (decoded.mode, decoded.size)
        difference = np.array(image).astype(np.int64) - np.array(decoded)
    assert np.abs(difference).max() <= (0 if is_exact(codec.weights.tensors) else MAX_DIFFERENCE)
    assert np.sqrt(np.mean(difference**2)) <= MAX_RMS
    if decoded.mode.endswith("A"):
        assert not difference[..., -1].any(), "alpha is exact"


@each_file
def test_golden_file_decodes_to_exactly_its_symbols(path: Path, toy: Codec) -> None:
    crc = 0
    for symbols, _ in codec_of(path, toy).file_symbols(path.read_bytes()):
        crc = zlib.crc32(symbols.astype("<i4").tobytes(), crc)
    assert f"{crc:08x}" == expected_of(path)["symbols_crc"]


@pytest.mark.parametrize("model", SHIPPED)
def test_the_independent_reader_finds_the_symbols_of_shipped_files(model: str) -> None:
    weights = shipped_path(model).read_bytes()
    for path in FILES:
        if expected_of(path).get("digest") != SHIPPED[model]:
            continue
        tiles = READER.decode_symbols(path.read_bytes(), weights)
        crc = zlib.crc32(b"".join(READER.as_bytes(*tile) for tile in tiles))
        assert f"{crc:08x}" == expected_of(path)["symbols_crc"]


@each_file
def test_golden_file_keeps_its_metadata_verbatim(path: Path, toy: Codec) -> None:
    info = codec_of(path, toy).decompress(path.read_bytes()).info
    found = {key: info[key] for key in METADATA_BOXES if key in info}
    assert found == (METADATA if path.stem.endswith("metadata") else {})


@pytest.mark.parametrize("name", EXPECTED_ERRORS)
def test_malformed_file_raises_exactly_its_error(name: str, toy: Codec) -> None:
    with pytest.raises(CodecError) as caught:
        toy.decompress((GOLDEN / "errors" / name).read_bytes())
    assert type(caught.value).__name__ == EXPECTED_ERRORS[name]
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert not message.endswith(".")
