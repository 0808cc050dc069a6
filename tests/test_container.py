"""The container's laws: FORMAT.md sections 3, 4 and 8.2."""

from __future__ import annotations

import dataclasses
import io
import zlib
from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from caecodec.errors import (
    BadMagicError,
    ChecksumMismatchError,
    FormatError,
    LimitExceededError,
    TruncatedError,
    UnsupportedVersionError,
)
from caecodec.format import boxes
from caecodec.format.boxes import MAX_METADATA, METADATA_BOXES
from caecodec.format.constants import MAX_SIDE, SIZE_LIMIT, Mode
from caecodec.format.container import (
    HEADER_BYTES,
    Container,
    Header,
    Tile,
    box_sizes,
    pack,
    read_front,
    unpack,
    unpack_header,
)
from caecodec.format.lossless import MIN_BLOCK_LOG2, LosslessBlocks, block_shape

MAX_TILES = 64
FRAME_BYTES = 12


def with_crc(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def box(kind: bytes, content: bytes = b"") -> bytes:
    return with_crc(kind + len(content).to_bytes(4, "little") + content)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Draw any legal header of at most MAX_TILES tiles."""
    tile_size = 2 ** draw(st.integers(2, 7))
    columns = draw(st.integers(1, min(MAX_TILES, -(-MAX_SIDE // (16 * tile_size)))))
    width = draw(st.integers(1, min(MAX_SIDE, 16 * tile_size * columns)))
    most = min(MAX_SIDE, 16 * tile_size * (MAX_TILES // columns), SIZE_LIMIT // width)
    sides = [width, draw(st.integers(1, most))]
    if draw(st.booleans()):
        sides.reverse()
    return Header(
        mode=draw(st.sampled_from(Mode)),
        quality_units=draw(st.integers(0, 10_000)),
        width=sides[0],
        height=sides[1],
        digest=draw(st.binary(min_size=8, max_size=8)),
        tile_size=tile_size,
    )


def lossless_blocks(header: Header, number: int, random: Random) -> LosslessBlocks | None:
    """Return any blocks of a tile, or none; their image is any bytes."""
    grid = header.grid.at(1)
    block_log2 = random.randrange(MIN_BLOCK_LOG2, grid.side.bit_length())
    rows, columns = block_shape(grid.tile_at(number), block_log2)
    bits = random.getrandbits(rows * columns)
    mask = (bits << -rows * columns % 8).to_bytes(-(-rows * columns // 8), "big")
    image = random.randbytes(random.randrange(20))
    return LosslessBlocks(block_log2, mask, rows * columns, image) if bits else None


@st.composite
def containers(draw: st.DrawFn) -> Container:
    """Draw a container whose tiles, alpha and metadata are any bytes."""
    header = draw(headers())
    tile = st.builds(Tile, st.integers(0, 2**32 - 1), st.binary(max_size=20))
    number = len(header.grid)
    drawn = draw(st.lists(tile, min_size=1, max_size=min(number, 5)))
    random = draw(st.randoms(use_true_random=False))
    tiles = tuple(
        dataclasses.replace(drawn[i % len(drawn)], lossless=lossless_blocks(header, i, random))
        for i in range(number)
    )
    metadata = draw(st.dictionaries(st.sampled_from(sorted(METADATA_BOXES)), st.binary()))
    alpha = draw(st.binary()) if header.mode.has_alpha else None
    return Container(header, tiles, alpha, metadata)


def small(mode: Mode = Mode.RGB) -> Container:
    """Return a container of two tiles with all metadata."""
    header = Header(mode, 5000, 65, 1, b"01234567", 4)
    metadata = {"xmp": b"<x/>", "icc_profile": b"profile", "exif": b"II*\0"}
    tiles = (Tile(1, b"payload."), Tile(2**32 - 1, b""))
    return Container(header, tiles, b"alpha" if mode.has_alpha else None, metadata)


def parts(container: Container) -> tuple[bytes, bytes, bytes]:
    """Return the header, the boxes before the tiles, and the tiles."""
    data = pack(container)
    end = len(data) - sum(FRAME_BYTES + 4 + len(tile.payload) for tile in container.tiles)
    return data[:HEADER_BYTES], data[HEADER_BYTES:end], data[end:]


def split(boxes: bytes) -> list[bytes]:
    """Return each of several boxes."""
    found = []
    while boxes:
        length = FRAME_BYTES + int.from_bytes(boxes[4:8], "little")
        found.append(boxes[:length])
        boxes = boxes[length:]
    return found


@settings(deadline=None, max_examples=150)
@given(containers())
def test_unpack_is_the_inverse_of_pack(container: Container) -> None:
    assert unpack(pack(container)) == container


@settings(deadline=None, max_examples=150)
@given(headers())
@example(Header(Mode.L, 0, 1, 1, bytes(8), 4))
@example(Header(Mode.RGBA, 10_000, 65_535, 2_730, b"\xff" * 8, 128))
@example(Header(Mode.LA, 1, 2_730, 65_535, bytes(8), 4))
def test_header_survives_packing_at_all_extremes(header: Header) -> None:
    data = header.pack()
    assert len(data) == HEADER_BYTES
    assert unpack_header(data) == header
    assert unpack_header(data + b"whatever follows") == header


@settings(deadline=None, max_examples=30)
@given(containers(), st.data())
def test_every_truncation_is_named_as_such(container: Container, data: st.DataObject) -> None:
    packed = pack(container)
    for length in data.draw(st.lists(st.integers(0, len(packed) - 1), min_size=10)):
        with pytest.raises(TruncatedError):
            unpack(packed[:length])


@pytest.mark.parametrize("mode", Mode)
def test_every_prefix_of_a_small_file_is_truncated(mode: Mode) -> None:
    packed = pack(small(mode))
    for length in range(len(packed)):
        with pytest.raises(TruncatedError):
            unpack(packed[:length])


@pytest.mark.parametrize("position", range(HEADER_BYTES))
def test_every_change_of_a_header_byte_is_refused(position: int) -> None:
    packed = pack(small())
    expected: type[FormatError] = ChecksumMismatchError
    if position <= 8:
        expected = BadMagicError if position < 8 else UnsupportedVersionError
    for value in set(range(256)) - {packed[position]}:
        changed = packed[:position] + bytes([value]) + packed[position + 1 :]
        with pytest.raises(FormatError) as caught:
            unpack(changed)
        assert type(caught.value) is expected


def test_every_change_of_a_bit_in_a_box_is_refused() -> None:
    packed = pack(small(Mode.LA))
    for position in range(HEADER_BYTES, len(packed)):
        for bit in range(8):
            changed = bytearray(packed)
            changed[position] ^= 1 << bit
            with pytest.raises(FormatError):
                unpack(bytes(changed))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_refused_with_format_errors_alone(garbage: bytes, has_header: bool) -> None:
    head = Header(Mode.RGB, 0, 1, 1, bytes(8), 64).pack() if has_header else b""
    with pytest.raises(FormatError):
        unpack(head + garbage)


def test_empty_file_is_truncated() -> None:
    with pytest.raises(TruncatedError, match="empty"):
        unpack(b"")


def test_newer_version_is_named_before_its_header_is_judged() -> None:
    newer = b"\x89CAE\r\n\x1a\n\x02" + b"another header"
    with pytest.raises(UnsupportedVersionError, match="newer version"):
        unpack(newer)


@pytest.mark.parametrize(("width", "height"), [(65_535, 65_535), (65_535, 2_731), (13_378, 13_378)])
def test_more_pixels_than_the_limit_are_refused(width: int, height: int) -> None:
    with pytest.raises(LimitExceededError):
        unpack_header(Header(Mode.RGB, 0, width, height, bytes(8), 128).pack())


@settings(deadline=None, max_examples=50)
@given(
    st.integers(ord("a"), ord("z")),
    st.binary(min_size=3, max_size=3),
    st.binary(max_size=50),
    st.integers(0, 3),
)
def test_unknown_optional_boxes_are_skipped_before_the_tiles(
    first: int, rest: bytes, content: bytes, place: int
) -> None:
    kind = bytes([first]) + rest
    assume(kind not in METADATA_BOXES.values())
    container = small()
    head, middle, tiles = parts(container)
    boxes = split(middle)
    boxes.insert(place, box(kind, content))
    assert unpack(head + b"".join(boxes) + tiles) == container


@pytest.mark.parametrize("first", sorted(set(range(256)) - set(range(97, 123))))
def test_unknown_critical_boxes_are_refused_as_newer(first: int) -> None:
    head, middle, tiles = parts(small())
    with pytest.raises(UnsupportedVersionError, match="newer version"):
        unpack(head + middle + box(bytes([first]) + b"new") + tiles)


@pytest.mark.parametrize("kind", [b"exif", b"some", b"ALPH", b"XYZW"])
def test_no_box_may_follow_a_tile(kind: bytes) -> None:
    container = dataclasses.replace(small(), metadata={})
    head, _, tiles = parts(container)
    first = FRAME_BYTES + 4 + len(container.tiles[0].payload)
    with pytest.raises(FormatError, match="tiles last"):
        unpack(head + tiles[:first] + box(kind, zlib.compress(b"")) + tiles[first:])


@pytest.mark.parametrize("rest", [b"\0", box(b"some"), box(b"TILE", bytes(8))])
def test_nothing_may_follow_the_last_tile(rest: bytes) -> None:
    with pytest.raises(FormatError, match="follow the last tile"):
        unpack(pack(small()) + rest)


@pytest.mark.parametrize("kind", [*METADATA_BOXES.values(), b"ALPH"])
def test_no_box_may_be_repeated(kind: bytes) -> None:
    head, middle, tiles = parts(small(Mode.RGBA))
    with pytest.raises(FormatError, match="repeated"):
        unpack(head + middle + box(kind, zlib.compress(b"")) + tiles)


@pytest.mark.parametrize("mode", Mode)
def test_alpha_box_is_there_exactly_if_the_mode_has_alpha(mode: Mode) -> None:
    header = Header(mode, 0, 1, 1, bytes(8), 64)
    other = Container(header, (Tile(0, b""),), None if mode.has_alpha else b"alpha")
    with pytest.raises(FormatError):
        unpack(pack(other))


def test_boxes_before_the_tiles_may_come_in_any_order() -> None:
    container = small(Mode.RGBA)
    head, middle, tiles = parts(container)
    assert unpack(head + b"".join(reversed(split(middle))) + tiles) == container


def test_boxes_are_written_in_one_order_whatever_the_order_given() -> None:
    container = small(Mode.RGBA)
    rising = dict(sorted(container.metadata.items()))
    assert pack(dataclasses.replace(container, metadata=rising)) == pack(container)
    kinds = [kind for kind, _ in box_sizes(pack(container), container.header)]
    assert kinds == ["iccp", "exif", "xmp", "ALPH", "TILE", "TILE"]


@settings(deadline=None, max_examples=50)
@given(containers())
def test_box_sizes_and_header_add_up_to_the_file(container: Container) -> None:
    data = pack(container)
    sizes = box_sizes(data, container.header)
    assert HEADER_BYTES + sum(size for _, size in sizes) == len(data)
    assert sum(kind == "TILE" for kind, _ in sizes) == len(container.tiles)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain",
        zlib.compress(b"x") + b"y",
        zlib.compress(b"x" * 99)[:-1],
        2 * zlib.compress(b"x"),
    ],
)
def test_metadata_is_exactly_one_zlib_stream(content: bytes) -> None:
    head, _, tiles = parts(small())
    with pytest.raises(FormatError):
        unpack(head + box(b"exif", content) + tiles)


def test_metadata_inflates_to_64_mib_and_no_further() -> None:
    head, _, tiles = parts(small())
    most = zlib.compress(bytes(MAX_METADATA), 1)
    assert len(unpack(head + box(b"exif", most) + tiles).metadata["exif"]) == MAX_METADATA
    beyond = zlib.compress(bytes(MAX_METADATA + 1), 1)
    with pytest.raises(LimitExceededError):
        unpack(head + box(b"exif", beyond) + tiles)


def test_header_and_metadata_are_read_no_further_than_the_same_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, _, tiles = parts(small())
    beyond = zlib.compress(bytes(MAX_METADATA + 1), 1)
    with pytest.raises(LimitExceededError):
        read_front(io.BytesIO(head + box(b"exif", beyond) + tiles))
    inflated: list[str] = []
    monkeypatch.setattr(boxes, "inflate", lambda box: inflated.append(box.kind) or b"")
    with pytest.raises(FormatError, match="repeated"):
        read_front(io.BytesIO(head + 100 * box(b"exif", beyond) + tiles))
    assert inflated == [b"exif"]


@pytest.mark.parametrize(
    "wrong", [2 * box(b"exif", zlib.compress(b"")), box(b"ALPH"), box(b"NEXT"), box(b"ALPH") * 2]
)
def test_box_sizes_are_those_of_legal_boxes_alone(wrong: bytes) -> None:
    head, _, tiles = parts(small())
    with pytest.raises(FormatError):
        box_sizes(head + wrong + tiles, small().header)


def test_unknown_critical_boxes_are_refused_with_the_metadata_too() -> None:
    head, _, tiles = parts(small())
    with pytest.raises(UnsupportedVersionError):
        read_front(io.BytesIO(head + box(b"NEXT") + tiles))


@pytest.mark.parametrize("length", range(4))
def test_tile_holds_at_least_the_crc_of_its_symbols(length: int) -> None:
    header = Header(Mode.RGB, 0, 1, 1, bytes(8), 64)
    with pytest.raises(FormatError, match="at least 4"):
        unpack(header.pack() + box(b"TILE", bytes(length)))
