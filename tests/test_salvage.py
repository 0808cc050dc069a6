"""What is intact of a damaged file is decoded; what is lost is named."""

import re
from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, drawn_image, synthetic_image
from PIL import Image
from typer.testing import CliRunner

from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.errors import CodecError, FormatError
from caecodec.format.boxes import box_at, pack_box
from caecodec.format.container import HEADER_BYTES, unpack

SIDE = 64
"""Of a tile, in pixels."""


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(TOY, tile_size=4)


@pytest.fixture(scope="module")
def file(codec: Codec) -> bytes:
    """A picture of 3 x 3 tiles with alpha and an ICC profile."""
    color = synthetic_image(190, 180, 4)
    image = Image.fromarray(np.dstack((color, color[..., 1])))
    image.info["icc_profile"] = b"profile" * 40
    return codec.compress(image, quality=50)


def boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return (type, first byte, end) of every box."""
    found, offset = [], HEADER_BYTES
    while offset < len(data):
        box = box_at(data, offset)
        found.append((box.kind, offset, box.end))
        offset = box.end
    return found


def tile_start(data: bytes, number: int) -> int:
    return [start for kind, start, _ in boxes(data) if kind == b"TILE"][number]


def changed(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]


def check_lost(codec: Codec, data: bytes, whole: bytes, lost: set[int]) -> None:
    image, losses = codec.salvage(data)
    assert {int(line.split()[1].rstrip(":")) for line in losses} == lost
    levels = np.array(image).astype(int)
    difference = np.abs(levels - np.array(codec.decompress(whole)))[..., :3].max(2)
    for number in range(9):
        row, column = divmod(number, 3)
        top, left = SIDE * row, SIDE * column
        own = levels[top : top + SIDE, left : left + SIDE, :3]
        if number in lost:
            assert (own == 128).all()
        nearest = min(
            (max(abs(row - r), abs(column - c)) for r, c in (divmod(n, 3) for n in lost)), default=9
        )
        if nearest > 1:  # next to a lost tile, pixels may be off
            assert difference[top : top + SIDE, left : left + SIDE].max() <= 1


def test_a_whole_file_loses_nothing(codec: Codec, file: bytes) -> None:
    image, losses = codec.salvage(file)
    assert losses == []
    assert np.array_equal(np.array(image), np.array(codec.decompress(file)))
    assert image.info["icc_profile"] == b"profile" * 40


@pytest.mark.parametrize("number", [0, 4, 8])
def test_a_damaged_payload_costs_its_tile_alone(codec: Codec, file: bytes, number: int) -> None:
    check_lost(codec, changed(file, tile_start(file, number) + 20), file, {number})


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 5, 8])
@pytest.mark.parametrize("byte", [0, 4, 6, 7])
def test_tiles_after_a_damaged_frame_are_found_again(
    codec: Codec, file: bytes, number: int, byte: int
) -> None:
    check_lost(codec, changed(file, tile_start(file, number) + byte), file, {number})


def test_two_damaged_tiles_are_both_named(codec: Codec, file: bytes) -> None:
    damaged = changed(changed(file, tile_start(file, 2) + 30), tile_start(file, 6) + 30)
    check_lost(codec, damaged, file, {2, 6})


def test_what_a_truncated_file_holds_is_decoded(codec: Codec, file: bytes) -> None:
    check_lost(codec, file[: tile_start(file, 5) + 9], file, {5, 6, 7, 8})


def test_symbols_that_are_not_those_encoded_cost_their_tile(codec: Codec, file: bytes) -> None:
    other = codec.compress(synthetic_image(190, 180, 5), quality=90)
    start, end = (boxes(file)[-1][index] for index in (1, 2))
    foreign = next(other[s:e] for kind, s, e in boxes(other) if kind == b"TILE")
    assert end == len(file)
    check_lost(codec, file[:start] + foreign, file, {8})


def test_lost_alpha_and_metadata_are_named_and_left_out(codec: Codec, file: bytes) -> None:
    image, losses = codec.salvage(changed(file, HEADER_BYTES + 12))
    assert "icc_profile" not in image.info
    assert len(losses) == 1
    assert "iccp" in losses[0]
    (alpha,) = (start for kind, start, _ in boxes(file) if kind == b"ALPH")
    image, losses = codec.salvage(changed(file, alpha + 30))
    assert np.array(image)[..., 3].min() == 255
    assert any("opaque" in line for line in losses)


def test_what_a_whole_file_must_not_hold_is_named_and_left_out(codec: Codec, file: bytes) -> None:
    image, losses = codec.salvage(file + b"more")
    assert losses == ["4 bytes follow the last tile: left out"]
    assert np.array_equal(np.array(image), np.array(codec.decompress(file)))
    (alpha,) = (file[start:end] for kind, start, end in boxes(file) if kind == b"ALPH")
    opaque = codec.compress(synthetic_image(40, 30, 4))
    for data in (file, opaque):
        image, losses = codec.salvage(data[:HEADER_BYTES] + alpha + data[HEADER_BYTES:])
        assert len(losses) == 1
        assert "does not fit" in losses[0]
        assert np.array_equal(np.array(image), np.array(codec.decompress(data)))
        assert "alpha" not in image.info


@pytest.fixture(scope="module")
def drawn(codec: Codec) -> bytes:
    """A picture of 3 x 3 tiles: those on the left are lossless, then mixed, then plain."""
    data = codec.compress(drawn_image(190, 180, 5), quality=20)
    tiles = unpack(data).tiles
    assert [tile.is_lossless for tile in tiles] == 3 * [True, False, False]
    assert [tile.lossless is not None for tile in tiles] == 3 * [True, True, False]
    return data


@pytest.fixture(scope="module")
def bare(codec: Codec) -> bytes:
    """The same picture with no symbols."""
    return codec.compress(drawn_image(190, 180, 5), lossless=True)


def owners(data: bytes) -> list[tuple[bytes, int, int, int]]:
    """Return (type, first byte, end, its tile) of every box."""
    found, number = [], 0
    for kind, start, end in boxes(data):
        found.append((kind, start, end, number))
        number += kind == b"TILE"
    return found


def lost_tiles(losses: list[str]) -> set[int]:
    return {int(line.split()[1].rstrip(":")) for line in losses if line.startswith("tile ")}


def test_files_with_lossless_blocks_lose_nothing(codec: Codec, drawn: bytes, bare: bytes) -> None:
    for data in (drawn, bare):
        image, losses = codec.salvage(data)
        assert losses == []
        assert np.array_equal(np.array(image), np.array(codec.decompress(data)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drawn", "bare"])
def test_a_damaged_box_costs_its_tile_alone_whatever_byte_is_damaged(
    name: str, codec: Codec, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(name)
    whole = np.array(codec.decompress(data)).astype(int)
    for kind, start, end, number in owners(data):
        for position in (start, start + 7, start + 9, end - 1):
            image, losses = codec.salvage(changed(data, position))
            assert lost_tiles(losses) == {number}, (kind, position - start)
            assert len(losses) <= 2
            levels = np.array(image).astype(int)
            difference = np.abs(levels - whole).max(2)
            row, column = divmod(number, 3)
            own = slice(SIDE * row, SIDE * row + SIDE), slice(SIDE * column, SIDE * column + SIDE)
            assert (levels[own] == 128).all()
            near = slice(max(0, SIDE * row - SIDE), SIDE * row + 2 * SIDE)
            difference[near, max(0, SIDE * column - SIDE) : SIDE * column + 2 * SIDE] = 0
            assert difference.max() <= 1


def test_lossless_blocks_that_are_damaged_are_named(codec: Codec, drawn: bytes) -> None:
    for kind, start, end, number in owners(drawn):
        for position in (start, start + 5, end - 10):
            _, losses = codec.salvage(changed(drawn, position))
            reasons = [line for line in losses if line.startswith(f"tile {number}: ")]
            assert (kind == b"PIXL") == ("lossless blocks are damaged" in reasons[0])


def test_lossless_blocks_whose_image_is_none_cost_their_tile(codec: Codec, drawn: bytes) -> None:
    _, start, end, number = next(box for box in owners(drawn) if box[0] == b"PIXL")
    content = drawn[start + 8 : end - 4]
    for wrong, reason in {
        b"": "expected 2\\*\\*4",
        content[:-40]: "cannot be read",
        content[:1] + b"\0" + content[2:]: "mask",
    }.items():
        forged = drawn[:start] + pack_box(b"PIXL", wrong) + drawn[end:]
        _, losses = codec.salvage(forged)
        assert lost_tiles(losses) == {number}
        assert re.match(f"tile {number}: (?!tile).*{reason}", losses[0])


def test_lossless_blocks_of_no_tile_or_two_cost_a_tile(codec: Codec, drawn: bytes) -> None:
    pixels = [(start, end) for kind, start, end in boxes(drawn) if kind == b"PIXL"]
    start, end = pixels[2]
    own = owners(drawn)
    number = next(tile for _, first, _, tile in own if first == start)
    twice = drawn[:end] + drawn[start:]
    assert lost_tiles(codec.salvage(twice)[1]) == {number}
    _, tile_start, tile_end, last = own[-1]
    assert lost_tiles(codec.salvage(drawn[:tile_start] + drawn[start:end])[1]) == {last}
    assert tile_end == len(drawn)


def test_rubbish_between_lossless_blocks_and_their_tile_costs_no_tile(
    codec: Codec, drawn: bytes
) -> None:
    _, _, end, _ = next(box for box in owners(drawn) if box[0] == b"PIXL")
    image, losses = codec.salvage(drawn[:end] + b"rubbish" + drawn[end:])
    assert losses == [f"the file is damaged from byte {end} on up to tile 0: left out"]
    assert np.array_equal(np.array(image), np.array(codec.decompress(drawn)))


def test_a_truncated_file_keeps_the_lossless_tiles_before_its_end(
    codec: Codec, bare: bytes
) -> None:
    own = owners(bare)
    for kind, start, end, number in own:
        for length in (start, start + 3, end - 1):
            assert lost_tiles(codec.salvage(bare[:length])[1]) == set(range(number, 9)), kind


def test_a_damaged_header_is_refused(codec: Codec, file: bytes) -> None:
    for position in range(HEADER_BYTES):
        with pytest.raises(FormatError):
            codec.salvage(changed(file, position))


@pytest.mark.slow
def test_no_change_of_a_byte_goes_unnoticed_or_ends_in_another_error(
    codec: Codec, file: bytes, drawn: bytes
) -> None:
    for data in (file, drawn):
        for position in range(HEADER_BYTES, len(data), 17):
            try:
                _, losses = codec.salvage(changed(data, position))
            except CodecError:
                continue
            assert losses


def test_the_command_writes_what_is_intact_and_exits_with_1(file: bytes, tmp_path: Path) -> None:
    path, out = tmp_path / "photo.cae", tmp_path / "photo.png"
    path.write_bytes(changed(file, tile_start(file, 3) + 20))
    arguments = ["decompress", str(path), str(out), "--model", str(TOY)]
    assert CliRunner().invoke(app, arguments).exit_code == 1
    assert not out.exists()
    done = CliRunner().invoke(app, [*arguments, "--allow-partial"])
    assert done.exit_code == 1
    assert "tile 3" in done.stderr
    with Image.open(out) as image:
        assert image.size == (190, 180)
