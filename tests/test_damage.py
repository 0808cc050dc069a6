"""A damaged or hostile file ends in a CodecError, soon, and in nothing else."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.errors import CodecError, FormatError, TruncatedError
from caecodec.format.constants import Mode
from caecodec.format.container import HEADER_BYTES, Header
from caecodec.format.entropy_coder import EntropyCoder, EntropyDecoder
from caecodec.image.alpha import decode_alpha, encode_alpha

GOLDEN = Path(__file__).parent / "golden"
FILES = ["rgb-2x2", "gray-alpha", "metadata"]
FRAME_BYTES = 8
"""Bytes of a box before its content."""


def golden(name: str) -> bytes:
    return (GOLDEN / "decode" / f"{name}.cae").read_bytes()


def with_crc(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def box(kind: bytes, content: bytes) -> bytes:
    return with_crc(kind + len(content).to_bytes(4, "little") + content)


def changed(data: bytes, position: int, flips: int) -> bytes:
    return data[:position] + bytes([data[position] ^ flips]) + data[position + 1 :]


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return (type, content) of every box of a good file."""
    found, offset = [], HEADER_BYTES
    while offset < len(data):
        end = offset + FRAME_BYTES + int.from_bytes(data[offset + 4 : offset + 8], "little")
        found.append((data[offset : offset + 4], data[offset + FRAME_BYTES : end]))
        offset = end + 4
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_prefix_of_a_file_is_refused_as_truncated(name: str, toy: Codec) -> None:
    data = golden(name)
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            toy.decompress(data[:length])


@pytest.mark.parametrize("name", FILES)
def test_every_change_of_one_byte_is_noticed(name: str, toy: Codec) -> None:
    data = golden(name)
    for position in range(len(data)):
        for flips in (1 << position % 8, 0xFF, 0x5A):
            with pytest.raises(FormatError):
                toy.decompress(changed(data, position, flips))


def test_what_is_damaged_is_named(toy: Codec) -> None:
    data = golden("tiles")
    starts, offset = [], HEADER_BYTES
    for _, content in boxes(data):
        starts.append(offset)
        offset += FRAME_BYTES + len(content) + 4
    for position in (9, 12, HEADER_BYTES - 1):
        with pytest.raises(FormatError, match="header"):
            toy.decompress(changed(data, position, 1))
    for tile, start in enumerate(starts):
        with pytest.raises(FormatError, match=f"tile {tile} is damaged"):
            toy.decompress(changed(data, start + FRAME_BYTES + 5, 1))
        with pytest.raises(TruncatedError, match=f"tile {tile}\\b"):
            toy.decompress(data[: start + 20])
    with_metadata = golden("metadata")
    for kind, _ in boxes(with_metadata)[:3]:
        place = with_metadata.index(kind) + FRAME_BYTES
        with pytest.raises(FormatError, match=f"box {kind!r} at byte .* is damaged"):
            toy.decompress(changed(with_metadata, place, 1))


@pytest.mark.parametrize("name", FILES)
def test_every_byte_inserted_or_left_out_is_noticed(name: str, toy: Codec) -> None:
    data = golden(name)
    for position in range(len(data)):
        with pytest.raises(FormatError):
            toy.decompress(data[:position] + data[position + 1 :])
        with pytest.raises(FormatError):
            toy.decompress(data[:position] + b"\0" + data[position:])


@pytest.mark.slow
def test_every_change_of_a_tile_under_a_right_checksum_is_noticed(toy: Codec) -> None:
    data = golden("gray")
    ((kind, content),) = boxes(data)
    for position in range(len(content)):
        for flips in (1 << position % 8, 0xFF):
            with pytest.raises(FormatError):
                toy.decompress(data[:HEADER_BYTES] + box(kind, changed(content, position, flips)))


def test_payload_of_any_words_under_right_checksums_is_refused(toy: Codec) -> None:
    data = golden("gray")
    ((kind, content),) = boxes(data)
    random = np.random.default_rng(0)
    for length in (0, 1, 2, 3, 10, 100, 5000):
        payload = random.integers(1, 2**32, length, dtype=np.uint32).astype("<u4").tobytes()
        with pytest.raises(FormatError):
            toy.decompress(data[:HEADER_BYTES] + box(kind, content[:4] + payload))


def test_header_changed_under_a_right_checksum_is_refused_or_gives_the_declared_size(
    toy: Codec,
) -> None:
    data = golden("rgb-2x2")
    for position in range(HEADER_BYTES - 4):
        for flips in (1 << bit for bit in range(8)):
            head = with_crc(changed(data, position, flips)[: HEADER_BYTES - 4])
            try:
                image = toy.decompress(head + data[HEADER_BYTES:])
            except CodecError:
                continue
            size = [int.from_bytes(head[at : at + 2], "little") for at in (12, 14)]
            assert list(image.size) == size


@pytest.mark.slow
def test_boxes_changed_under_right_checksums_are_refused_or_leave_the_image_whole(
    toy: Codec,
) -> None:
    random = np.random.default_rng(0)
    for name in ("gray-alpha", "metadata"):
        data = golden(name)
        size = toy.decompress(data).size
        for _ in range(150):
            parts = boxes(data)
            number = int(random.integers(len(parts)))
            kind, content = parts[number]
            frame = changed(
                kind + content, int(random.integers(4 + len(content))), 1 << int(random.integers(8))
            )
            parts[number] = (frame[:4], frame[4:])
            try:
                image = toy.decompress(data[:HEADER_BYTES] + b"".join(box(*part) for part in parts))
            except CodecError:
                continue
            assert image.size == size


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_damaged_alpha_is_refused_or_keeps_its_size(image_format: str, tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 20 * 30).reshape(20, 30).astype(np.uint8)
    path = tmp_path / "alpha"
    Image.fromarray(alpha).save(path, image_format, lossless=True)
    data = path.read_bytes()
    assert np.array_equal(decode_alpha(data, 30, 20), alpha)
    for position in range(len(data)):
        for damaged in (data[:position], changed(data, position, 1 << position % 8)):
            try:
                found = decode_alpha(damaged, 30, 20)
            except FormatError:
                continue
            assert (found.shape, found.dtype) == (alpha.shape, alpha.dtype)


def test_alpha_of_another_size_is_refused() -> None:
    with pytest.raises(FormatError, match="alpha is 3 x 2"):
        decode_alpha(encode_alpha(np.zeros((2, 3), dtype=np.uint8)), 2, 3)


@pytest.fixture
def payloads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every payload whose decoding starts during a test."""
    started: list[bytes] = []
    decoder = EntropyCoder.decoder

    def spy(self: EntropyCoder, payload: bytes) -> EntropyDecoder:
        started.append(payload)
        return decoder(self, payload)

    monkeypatch.setattr(EntropyCoder, "decoder", spy)
    return started


@pytest.mark.parametrize("tile_size", [4, 128])
def test_few_bytes_that_claim_many_pixels_are_refused_before_any_payload_is_decoded(
    tile_size: int, toy: Codec, payloads: list[bytes]
) -> None:
    head = Header(Mode.RGBA, 5000, 13_377, 13_377, toy.digest, tile_size).pack()
    tile = box(b"TILE", bytes(4))
    for data in (head, head + tile, head + 48 * tile, head + 49 * tile):
        with pytest.raises(FormatError):
            toy.decompress(data)
    assert payloads == []


def test_no_payload_is_decoded_after_one_that_is_refused(toy: Codec, payloads: list[bytes]) -> None:
    head = Header(Mode.RGB, 5000, 256, 256, toy.digest, 4).pack()
    with pytest.raises(FormatError, match="tile 0"):
        toy.decompress(head + 16 * box(b"TILE", bytes(4)))
    assert payloads == [b""]


def test_no_image_is_made_before_its_first_tile_is_decoded(
    toy: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Header(Mode.RGB, 5000, 256, 256, toy.digest, 4).pack() + 16 * box(b"TILE", bytes(4))
    monkeypatch.setattr(Image, "new", lambda *_: pytest.fail("an image was made"))
    with pytest.raises(FormatError, match="tile 0"):
        toy.decompress(data)


def test_images_decode_as_before_after_any_number_of_refusals(toy: Codec) -> None:
    data = golden("tiles")
    before = np.array(toy.decompress(data))
    with pytest.raises(CodecError):
        toy.decompress(data[:-1])
    assert np.array_equal(np.array(toy.decompress(data)), before)
