"""The golden files: what must decode for ever, and what must be refused; see golden/README.md."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caecodec.codec import Codec
from caecodec.container import METADATA_BOXES
from caecodec.errors import CodecError

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in (GOLDEN / "decode").glob("*.cae"))
EXPECTED_ERRORS = json.loads((GOLDEN / "errors" / "expected.json").read_text(encoding="utf-8"))
METADATA = {"metadata": {"icc_profile": b"a profile", "exif": b"II*\0exif", "xmp": b"<x:xmpmeta/>"}}
"""What each file holds beside pixels; nothing where it is not named."""
MAX_DIFFERENCE = 2
MAX_RMS = 0.1


def golden(name: str) -> bytes:
    return (GOLDEN / "decode" / f"{name}.cae").read_bytes()


def test_golden_files_are_complete() -> None:
    assert len(FILES) >= 10
    for suffix in ("png", "json"):
        assert sorted(path.stem for path in (GOLDEN / "decode").glob(f"*.{suffix}")) == FILES
    assert sorted(path.name for path in (GOLDEN / "errors").glob("*.cae")) == sorted(
        EXPECTED_ERRORS
    )


@pytest.mark.parametrize("name", FILES)
def test_golden_file_decodes_to_its_pixels_within_bounds(name: str, toy: Codec) -> None:
    decoded = toy.decompress(golden(name))
    vector = json.loads((GOLDEN / "decode" / f"{name}.json").read_text(encoding="utf-8"))
    assert decoded.mode == vector["mode"]
    with Image.open(GOLDEN / "decode" / f"{name}.png") as image:
        assert (image.mode, image.size) == (decoded.mode, decoded.size)
        difference = np.array(image).astype(np.int64) - np.array(decoded)
    assert np.abs(difference).max() <= MAX_DIFFERENCE
    assert np.sqrt(np.mean(difference**2)) <= MAX_RMS
    if decoded.mode.endswith("A"):
        assert not difference[..., -1].any(), "alpha is exact"


@pytest.mark.parametrize("name", FILES)
def test_golden_file_decodes_to_exactly_its_symbols(name: str, toy: Codec) -> None:
    vector = json.loads((GOLDEN / "decode" / f"{name}.json").read_text(encoding="utf-8"))
    crc = 0
    for symbols, _ in toy.file_symbols(golden(name)):
        crc = zlib.crc32(symbols.astype("<i4").tobytes(), crc)
    assert f"{crc:08x}" == vector["symbols_crc"]


@pytest.mark.parametrize("name", FILES)
def test_golden_file_keeps_its_metadata_verbatim(name: str, toy: Codec) -> None:
    info = toy.decompress(golden(name)).info
    found = {key: info[key] for key in METADATA_BOXES if key in info}
    assert found == METADATA.get(name, {})


@pytest.mark.parametrize("name", EXPECTED_ERRORS)
def test_malformed_file_raises_exactly_its_error(name: str, toy: Codec) -> None:
    with pytest.raises(CodecError) as caught:
        toy.decompress((GOLDEN / "errors" / name).read_bytes())
    assert type(caught.value).__name__ == EXPECTED_ERRORS[name]
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert not message.endswith(".")
