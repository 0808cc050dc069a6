"""What fuzzing found, in the smallest form that shows it."""

from __future__ import annotations

import dataclasses
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from mutators import GOLDEN, golden_files
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.errors import FormatError, ImageError, ModelError
from caecodec.format.container import HEADER_BYTES, unpack_header
from caecodec.image.alpha import decode_alpha
from caecodec.image.image_files import open_image
from caecodec.image.picture import take_apart
from caecodec.weights.storage import load_weights, save_weights

TOY = GOLDEN / "toy.safetensors"


def png(*chunks: tuple[bytes, bytes], mode: str = "L") -> bytes:
    """Return a PNG of 3 x 2 pixels with more chunks before its end."""
    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, "PNG")
    data, end = buffer.getvalue()[:-12], buffer.getvalue()[-12:]
    for kind, body in chunks:
        data += len(body).to_bytes(4, "big") + kind + body
        data += zlib.crc32(kind + body).to_bytes(4, "big")
    return data + end


def avif_with_damaged_pixels() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(3000, dtype=np.uint8).reshape(25, 40, 3)).save(buffer, "AVIF")
    return buffer.getvalue()[:-60] + bytes(60)


def test_alpha_with_a_chunk_that_ends_early_is_refused() -> None:
    assert decode_alpha(png(), 3, 2).shape == (2, 3)
    with pytest.raises(FormatError, match="not a PNG or WebP image"):
        decode_alpha(png((b"iCCP", b"name\0")), 3, 2)


@pytest.mark.parametrize(
    "data",
    [
        avif_with_damaged_pixels(),
        png((b"tRNS", b"\xff" * 300 + b"\0"), mode="P"),
        png((b"iCCP", b"name\0")),
        b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    ],
    ids=[
        "pixels of an AVIF",
        "transparency beyond a palette",
        "chunk that ends early",
        "empty TIFF",
    ],
)
def test_damaged_images_are_refused_as_images(data: bytes) -> None:
    with pytest.raises(ImageError):
        take_apart(open_image(io.BytesIO(data), "damaged"))


def test_metadata_that_is_lost_with_the_length_of_its_box_is_named(limited: Codec) -> None:
    data = bytearray(golden_files()["metadata"])
    data[HEADER_BYTES + 5] ^= 0xFF  # the length of the ICC profile's box
    image, losses = limited.salvage(bytes(data))
    assert "icc_profile" not in image.info
    assert len(losses) == 1
    assert f"byte {HEADER_BYTES}" in losses[0]


def test_a_file_that_claims_a_thousand_tiles_is_salvaged_to_its_size(limited: Codec) -> None:
    good = golden_files()["tile-128"]
    header = dataclasses.replace(unpack_header(good), width=65_535, height=16, tile_size=4)
    image, losses = limited.salvage(header.pack() + good[HEADER_BYTES:])
    assert image.size == (65_535, 16)
    assert len(losses) == len(header.grid) == 1024
    assert np.unique(np.array(image)).tolist() == [128]


@pytest.mark.parametrize("name", ["gain.values", "mean_context.first.bias"])
@pytest.mark.parametrize("effort", [1, 3, 5])
def test_a_model_whose_floats_overflow_refuses_to_compress(
    name: str, effort: int, tmp_path: Path
) -> None:
    weights = load_weights(TOY)
    weights.tensors[name] = np.full_like(weights.tensors[name], 6e4)
    weights.tensors["inverse_gain.values"][:] = 6e4
    save_weights(weights, tmp_path / "wild.safetensors")
    with pytest.raises(ModelError, match="not finite"):
        Codec(tmp_path / "wild.safetensors").compress(np.zeros((2, 2, 3), np.uint8), effort=effort)
