"""FORMAT.md says what the code does: its tables, its hex dump, a decoder written from it alone."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_golden import synthetic_image
from numpy.typing import NDArray
from PIL import Image

from caecodec import errors
from caecodec.codec.codec import Codec
from caecodec.config import MainConfig
from caecodec.format.boxes import MAX_METADATA, METADATA_BOXES
from caecodec.format.constants import SIZE_LIMIT, Mode
from caecodec.format.container import HEADER_BYTES, Header, unpack, unpack_header
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region
from caecodec.format.lossless import LosslessBlocks
from caecodec.format.tables import CodingTables, make_counts
from caecodec.weights.storage import Weights

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
FORMAT = (ROOT / "FORMAT.md").read_text(encoding="utf-8")
WORKED_FILE = GOLDEN / "decode" / "rgb-2x2.cae"

Array = NDArray[Any]


def section(number: int) -> str:
    """Return the text of a numbered section."""
    parts = re.split(r"^## (\d+)\. .*$", FORMAT, flags=re.MULTILINE)
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))[number]


def table(text: str, first_column: str) -> list[list[str]]:
    """Return the rows of the first table whose head starts with a column name."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_column} |"):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    assert rows
    return rows


def code_block(text: str, number: int) -> list[str]:
    """Return the lines of a fenced block."""
    return text.split("```")[2 * number + 1].strip("\n").split("\n")


HEADER_TABLE = {row[3]: row for row in table(section(4), "offset")}
LEGAL = {
    "magic": [b"\x89CAE\r\n\x1a\n"],
    "version": [b"\x01"],
    "mode": [b"\x01", b"\x02", b"\x03", b"\x04"],
    "quality": [b"\x00\x00", b"\x10\x27"],
    "width": [b"\x01\x00", b"\xff\xff"],
    "height": [b"\x01\x00", b"\xff\xff"],
    "digest": [bytes(8), b"\xff" * 8],
    "tile_log2": [b"\x02", b"\x07"],
    "reserved": [b"\x00"],
}
ILLEGAL = {
    "magic": [b"\x89CAE\n\x1a\n\x01", b"\x89PNG\r\n\x1a\n"],
    "version": [b"\x00", b"\x02", b"\xff"],
    "mode": [b"\x00", b"\x05", b"\xff"],
    "quality": [b"\x11\x27", b"\xff\xff"],
    "width": [b"\x00\x00"],
    "height": [b"\x00\x00"],
    "tile_log2": [b"\x01", b"\x08", b"\xff"],
    "reserved": [b"\x01", b"\x80"],
}


def header_with(name: str, value: bytes) -> bytes:
    """Return a legal 1 x 1 header with one field replaced, its CRC mended."""
    data = bytearray(Header(Mode.RGB, 5000, 1, 1, b"8 bytes.", 64).pack())
    offset = int(HEADER_TABLE[name][0])
    data[offset : offset + len(value)] = value
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    return bytes(data)


def test_header_fields_follow_each_other_without_gaps_up_to_the_crc() -> None:
    offset = 0
    for row in HEADER_TABLE.values():
        assert int(row[0]) == offset
        offset += int(row[1])
    assert offset == HEADER_BYTES
    assert f"a header of {HEADER_BYTES} bytes" in FORMAT


def test_header_fields_have_the_size_of_their_type() -> None:
    sizes = {"u8": 1, "u16": 2, "u32": 4}
    assert all(int(row[1]) == sizes.get(row[2], int(row[1])) for row in HEADER_TABLE.values())


def test_header_fields_lie_where_the_table_says() -> None:
    header = Header(Mode.LA, 0x1234, 0x0506, 0x0708, b"\x21\x22\x23\x24\x25\x26\x27\x28", 32)
    data = header.pack()
    values = {
        "magic": b"\x89CAE\r\n\x1a\n",
        "version": b"\x01",
        "mode": b"\x02",
        "quality": b"\x34\x12",
        "width": b"\x06\x05",
        "height": b"\x08\x07",
        "digest": header.digest,
        "tile_log2": b"\x05",
        "reserved": b"\x00",
        "crc": zlib.crc32(data[:26]).to_bytes(4, "little"),
    }
    assert list(values) == list(HEADER_TABLE)
    for name, (offset, size, *_) in HEADER_TABLE.items():
        assert data[int(offset) : int(offset) + int(size)] == values[name], name


def test_magic_in_the_header_table_is_the_magic_of_files() -> None:
    assert bytes.fromhex(HEADER_TABLE["magic"][4]) == header_with("version", b"\x01")[:8]


@pytest.mark.parametrize("name", LEGAL)
def test_reader_accepts_the_legal_extremes_of_each_header_field(name: str) -> None:
    assert all(unpack_header(header_with(name, value)) for value in LEGAL[name])


@pytest.mark.parametrize("name", ILLEGAL)
def test_reader_refuses_illegal_header_fields_with_the_error_of_the_table(name: str) -> None:
    for value in ILLEGAL[name]:
        with pytest.raises(errors.FormatError) as caught:
            unpack_header(header_with(name, value))
        assert type(caught.value).__name__ == HEADER_TABLE[name][5]


def test_every_must_names_an_error_class() -> None:
    rules = re.findall(r"^ *- (.*(?:\n +\S.*)*)", FORMAT, flags=re.MULTILINE)
    assert FORMAT.count("MUST") == sum(rule.count("MUST") for rule in rules), "a MUST outside rules"
    for rule in rules:
        if "MUST" in rule:
            assert re.search(r"`\w+Error`", rule), rule


def test_every_error_class_of_the_document_exists() -> None:
    named = set(re.findall(r"\b[A-Z]\w+Error\b", FORMAT))
    assert len(named) >= 10
    for name in named:
        assert issubclass(getattr(errors, name), errors.CodecError), name


def test_every_way_to_be_malformed_is_in_the_document() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.FormatError):
            assert f"`{name}`" in FORMAT, name


def test_sections_are_numbered_in_order_and_those_cited_exist() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", FORMAT, flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    headings = set(re.findall(r"^##+ (\d+(?:\.\d+)?)", FORMAT, flags=re.MULTILINE))
    cited = re.findall(r"section (\d+(?:\.\d+)?)", FORMAT)
    for path in (ROOT / "caecodec").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for numbers_cited in re.findall(r"FORMAT\.md sections? ([\d.]+(?: and [\d.]+)*)", source):
            cited += [number.rstrip(".") for number in numbers_cited.split(" and ")]
    assert set(cited) <= headings, set(cited) - headings


def test_limits_are_those_of_the_code() -> None:
    limits = {row[0]: row[1] for row in table(section(9), "what")}
    assert str(SIZE_LIMIT) in limits["width * height"]
    assert limits["a metadata box, inflated"] == f"{MAX_METADATA} bytes"


def test_box_types_are_those_of_the_code() -> None:
    kinds = re.findall(r"^\| `(.{4})` \| (yes|no)", section(3), flags=re.MULTILINE)
    assert {kind.encode() for kind, _ in kinds} == {
        b"TILE",
        b"PIXL",
        b"ALPH",
        *METADATA_BOXES.values(),
    }
    assert all((critical == "no") == kind[0].islower() for kind, critical in kinds)


def test_sizes_of_the_configuration_are_those_of_the_code() -> None:
    named = {
        name for row in table(section(12), "size") for name in row[0].replace(" ", "").split(",")
    }
    assert named == {field.name for field in dataclasses.fields(MainConfig)}


def test_hex_dump_is_the_golden_file() -> None:
    data = WORKED_FILE.read_bytes()
    expected = [
        f"{offset:08x}  {data[offset : offset + 16].hex(' ')}" for offset in range(0, len(data), 16)
    ]
    dump = [line for line in code_block(section(13), 0) if re.match(r"[0-9a-f]{8}  ", line)]
    assert dump == expected
    assert f"{len(data)} bytes" in section(13)


def test_fields_of_the_worked_file_are_its_bytes_and_cover_it() -> None:
    data = WORKED_FILE.read_bytes()
    end = 0
    for offset, stored, field, value in table(section(13), "offset"):
        raw = bytes.fromhex(stored)
        assert int(offset) == end, field
        assert data[end : end + len(raw)] == raw, field
        if value[:1].isdigit() and field != "payload":
            assert int.from_bytes(raw, "little") == int(value.split(",")[0]), field
        end += len(raw)
    assert end == len(data)


def test_worked_file_parses_to_the_documented_fields() -> None:
    fields = {row[2]: row[3] for row in table(section(13), "offset")}
    raw = {row[2]: bytes.fromhex(row[1]) for row in table(section(13), "offset")}
    container = unpack(WORKED_FILE.read_bytes())
    header = container.header
    assert f"{int(header.mode)}, {header.mode.name}" == fields["mode"]
    assert header.quality_units == int(fields["quality"])
    assert (header.width, header.height) == (int(fields["width"]), int(fields["height"]))
    assert header.digest == raw["digest"]
    assert header.tile_size == 2 ** int(fields["tile_log2"])
    (tile,) = container.tiles
    assert tile.symbols_crc == int(fields["symbols_crc"])
    assert tile.payload == raw["payload"]


# What follows is a decoder written from FORMAT.md alone, in plain Python and numpy.


class SpecCoder:
    """Section 6.3."""

    def __init__(self, payload: bytes = b"") -> None:
        self.words = list(struct.unpack(f"<{len(payload) // 4}I", payload))
        self.x = 0
        while self.x < 2**32 and self.words:
            self.x = self.x * 2**32 + self.words.pop()

    def decode(self, starts: list[int]) -> int:
        """Decode one entry of a table with these starts, 2**24 after the last."""
        q = self.x % 2**24
        entry = int(np.searchsorted(starts, q, side="right")) - 1
        width = starts[entry + 1] - starts[entry]
        self.x = (self.x // 2**24) * width + q - starts[entry]
        if self.x < 2**32 and self.words:
            self.x = self.x * 2**32 + self.words.pop()
        return entry

    def encode(self, starts: list[int], entry: int) -> None:
        """Encode one entry, in the reverse of the order of decoding."""
        width = starts[entry + 1] - starts[entry]
        if self.x // 2**40 >= width:
            self.words.append(self.x % 2**32)
            self.x //= 2**32
        self.x = (self.x // width) * 2**24 + starts[entry] + self.x % width

    def end(self) -> bytes:
        """End encoding."""
        while self.x > 0:
            self.words.append(self.x % 2**32)
            self.x //= 2**32
        return struct.pack(f"<{len(self.words)}I", *self.words)

    @property
    def is_at_end(self) -> bool:
        """Section 6.3, the rule after the last symbol."""
        return self.x == 0 and not self.words


def spec_tables(weights: Weights) -> list[list[int]]:
    """Return the starts of every table: sections 6.1 and 12."""
    counts = [int(count) for count in weights.tensors["tables.counts"]]
    tables = []
    for length in map(int, weights.tensors["tables.lengths"]):
        own, counts = counts[:length], counts[length:]
        tables.append(spec_starts(own))
    return tables


def spec_starts(counts: list[int]) -> list[int]:
    """Return start(0) to start(n) of a table: section 6.2."""
    n, before, starts = len(counts), 0, []
    for i, count in enumerate(counts):
        starts.append(before * (2**24 - n) // 2**16 + i)
        before += count
    return [*starts, 2**24]


SIXTEEN_BITS = [256 * value for value in range(2**16 + 1)]


def spec_section(coder: SpecCoder, tables: list[list[int]], indexes: list[int]) -> list[int]:
    """Return the symbols of one section: sections 6.4 and 6.5."""
    symbols = [0] * len(indexes)
    escapes = []
    for index in sorted(set(indexes)):
        entries = len(tables[index]) - 1
        if entries == 0:
            continue
        reach = entries // 2 - 1
        for position in [place for place, own in enumerate(indexes) if own == index]:
            entry = coder.decode(tables[index])
            symbols[position] = entry - reach
            if entry == 2 * reach + 1:
                escapes.append(position)
    for position in escapes:
        symbols[position] = coder.decode(SIXTEEN_BITS) - 2**15
    return symbols


def spec_scale_indexes(z: Array, weights: Weights, units: int, sides: tuple[int, int]) -> Array:
    """Return the scale indexes of a tile: section 7.2."""
    a = 256 * np.clip(z.astype(np.int64), -127, 127)
    for k in range(5):
        weight = weights.tensors[f"scale_head.{k}.weight"].astype(np.int64)
        shift = int(weights.tensors["scale_head.shifts"][k])
        margin = weight.shape[2] // 2
        _, height, width = a.shape
        padded = np.pad(a, ((0, 0), (margin, margin), (margin, margin)))
        total = np.zeros((len(weight), height, width), dtype=np.int64)
        for dy in range(weight.shape[2]):
            for dx in range(weight.shape[3]):
                window = padded[:, dy : dy + height, dx : dx + width]
                total += np.einsum("oc,chw->ohw", weight[:, :, dy, dx], window)
        total += weights.tensors[f"scale_head.{k}.bias"].astype(np.int64)[:, None, None]
        a = np.clip((total + 2 ** (shift - 1)) // 2**shift, -32767, 32767)
        if k in (1, 3):
            a = spec_shuffle(a, 2)
        if k < 4:
            a = np.maximum(a, a // 8)
    offsets = weights.tensors["scale_head.offsets"].astype(np.int64)
    last = len(offsets) - 1
    low = min(units * last // 10000, last - 1)
    f = units * last - 10000 * low
    offset = (offsets[low] * (10000 - f) + offsets[low + 1] * f) // 10000
    return np.clip((a + offset[:, None, None] + 128) // 256, 0, 63)[:, : sides[0], : sides[1]]


def spec_shuffle(a: Array, f: int) -> Array:
    """Return shuffle f of a: section 7."""
    channels, height, width = a.shape
    out = np.zeros((channels // (f * f), f * height, f * width), dtype=a.dtype)
    for dy in range(f):
        for dx in range(f):
            out[:, dy::f, dx::f] = a[f * dy + dx :: f * f]
    return out


class SpecNetworks:
    """The float part: sections 7.3 to 7.5, in float64, which is as good as any."""

    def __init__(self, weights: Weights, units: int) -> None:
        self.config = weights.config
        self.tensors = {
            name: array.astype(np.float64)
            for name, array in weights.tensors.items()
            if array.dtype == np.float16
        }
        self.units = units

    def table(self, name: str) -> Array:
        """Return table(t), one value a channel."""
        rows = self.tensors[name]
        position = self.units * (len(rows) - 1) / 10000
        low = min(int(position), len(rows) - 2)
        mixed: Array = rows[low] + (rows[low + 1] - rows[low]) * (position - low)
        return mixed[:, None, None]

    def convolve(self, name: str, a: Array) -> Array:
        """Apply a 1x1 or a depthwise 3x3 convolution."""
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        if weight.shape[2:] == (1, 1):
            total: Array = np.einsum("oc,chw->ohw", weight[:, :, 0, 0], a)
            return total + bias[:, None, None]
        _, height, width = a.shape
        padded = np.pad(a, ((0, 0), (1, 1), (1, 1)))
        total = np.zeros_like(a)
        for dy in range(3):
            for dx in range(3):
                window = padded[:, dy : dy + height, dx : dx + width]
                total += weight[:, 0, dy, dx, None, None] * window
        return total + bias[:, None, None]

    def block(self, name: str, a: Array) -> Array:
        """Apply a block."""
        h = self.act(self.by_quality(f"{name}.mix_in", a))
        a = a + self.by_quality(f"{name}.mix_out", self.convolve(f"{name}.mix_space", h))
        if f"{name}.expand.weight" not in self.tensors:
            return a
        return a + self.convolve(f"{name}.contract", self.act(self.convolve(f"{name}.expand", a)))

    def by_quality(self, name: str, a: Array) -> Array:
        """Apply a convolution and its tables, if it has them."""
        h = self.convolve(name, a)
        if not (self.config.block_tables and name.startswith("synthesis.")):
            return h
        gain, shift = (self.table(f"{name}.{kind}.values") for kind in ("gain", "shift"))
        result: Array = h * np.exp(gain) + shift
        return result

    def act(self, v: Array) -> Array:
        """Apply the model's activation."""
        if self.config.activation == "hardswish":
            hard: Array = v * np.clip(v + 3, 0, 6) / 6
            return hard
        return silu(v)

    def y_hat(self, z: Array, symbols: Array) -> Array:
        """Return y_hat of one tile: section 7.3."""
        channels, height, width = symbols.shape
        f = spec_shuffle(self.convolve("mean_features.up1", z.astype(np.float64)), 2)
        f = self.block("mean_features.block1", f)
        f = self.block(
            "mean_features.block2", spec_shuffle(self.convolve("mean_features.up2", f), 2)
        )
        f = (f * np.exp(self.table("mean_features.gain.values")))[:, :height, :width]
        unit = self.tensors["latent_std"][:, None, None] / np.exp(self.table("inverse_gain.values"))
        y_hat, known = np.zeros(symbols.shape), np.zeros(symbols.shape)
        m, i, j = np.ogrid[:channels, :height, :width]
        for s in range(4):
            order = np.array([0, 3, 1, 2])[(s + m // (channels // 4)) % 4]
            mask = 2 * (i % 2) + j % 2 == order
            if s == 0:
                mean = self.convolve("mean_context.first", f)
            else:
                h = self.convolve(f"mean_context.enter.{s - 1}", np.concatenate((known, f)))
                h = self.block("mean_context.block", self.convolve("mean_context.spread", h))
                mean = self.convolve("mean_context.leave", h)
            y_hat = np.where(mask, symbols + mean * unit, y_hat)
            known = np.where(mask, y_hat / unit, known)
        return y_hat

    def levels(self, y_hat: Array, *, is_gray: bool) -> Array:
        """Return the levels (H, W, 3) or (H, W) of the whole latent: sections 7.4 and 7.5."""
        g = self.convolve("synthesis.project", y_hat * np.exp(self.table("inverse_gain.values")))
        for k in range(self.config.latent_blocks):
            g = self.block(f"synthesis.latent_blocks.{k}", g)
        g = spec_shuffle(self.convolve("synthesis.up", g), 2)
        g = g * np.exp(self.table("synthesis.gain.values"))
        for k in range(self.config.decoder_blocks):
            g = self.block(f"synthesis.blocks.{k}", g)
        x_hat = spec_shuffle(self.convolve("synthesis.patch", g), 8)
        planes = x_hat.mean(0) if is_gray else np.moveaxis(x_hat, 0, -1)
        return np.clip(np.round(255 * planes), 0, 255).astype(np.int64)


def silu(v: Array) -> Array:
    """Return v / (1 + exp(-v))."""
    result: Array = v / (1 + np.exp(-v))
    return result


def spec_tile(payload: bytes, weights: Weights, units: int, sides: tuple[int, int]) -> list[Array]:
    """Return z and y symbols of one tile."""
    config, tables = weights.config, spec_tables(weights)
    coder = SpecCoder(payload)
    anchor = (2 * units * (config.quality_anchors - 1) + 10000) // 20000
    height, width = (-(-side // 4) for side in sides)
    first = 64 + anchor * config.hyper_channels
    z_indexes = [first + c for c in range(config.hyper_channels) for _ in range(height * width)]
    z = np.reshape(spec_section(coder, tables, z_indexes), (-1, height, width))
    indexes = spec_scale_indexes(z, weights, units, sides)
    y = spec_section(coder, tables, [int(index) for index in indexes.reshape(-1)])
    assert coder.is_at_end
    return [z, np.reshape(y, indexes.shape)]


def spec_lossless(levels: Array, blocks: LosslessBlocks, tile: Region) -> None:
    """Put the lossless blocks of a tile, in pixels, in place: sections 5.1 and 7.5."""
    own = levels[tile.rows, tile.columns]
    with Image.open(io.BytesIO(blocks.image)) as image:
        stored = np.array(image)
    side = 2**blocks.block_log2
    bits = "".join(f"{byte:08b}" for byte in blocks.mask)
    corners = [(i, j) for i in range(0, tile.height, side) for j in range(0, tile.width, side)]
    for (i, j), bit in zip(corners, bits, strict=False):
        if bit == "1":
            block = stored[i : i + side, j : j + side]
            own[i : i + side, j : j + side] = block if own.ndim == 3 else block[..., 0]


@pytest.mark.parametrize(
    "name",
    [
        *("rgb-1x1", "rgb-2x2", "gray", "rgb-q0", "rgb-q37.25", "tiles"),
        *("lossless-mixed", "lossless-gray"),
    ],
)
def test_decoder_written_from_the_document_finds_the_same_symbols_and_pixels(
    name: str, toy: Codec
) -> None:
    path = GOLDEN / "decode" / f"{name}.cae"
    container = unpack(path.read_bytes())
    header = container.header
    networks = SpecNetworks(toy.weights, header.quality_units)
    bounds = header.grid.bounds
    y_hat = np.zeros((toy.weights.config.latent_channels, bounds.height, bounds.width))
    found = []
    for region, tile in zip(header.grid, container.tiles, strict=True):
        if not tile.payload and tile.lossless:
            continue
        sides = (region.height, region.width)
        z, y = spec_tile(tile.payload, toy.weights, header.quality_units, sides)
        found += [z, y]
        assert zlib.crc32(as_bytes(z, y)) == tile.symbols_crc
        y_hat[:, region.rows, region.columns] = networks.y_hat(z, y)
    vector = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert f"{zlib.crc32(as_bytes(*found)):08x}" == vector["symbols_crc"]
    with Image.open(path.with_suffix(".png")) as image:
        reference = np.array(image).astype(np.int64)
    levels = networks.levels(y_hat, is_gray=header.mode is Mode.L)
    for region, tile in zip(header.grid.at(1), container.tiles, strict=True):
        if tile.lossless:
            spec_lossless(levels, tile.lossless, region)
    difference = levels[: header.height, : header.width] - reference
    assert np.abs(difference).max() <= 2
    assert np.sqrt(np.mean(difference**2)) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("quality", [0, 62.5, 100])
def test_decoder_written_from_the_document_knows_lean_blocks(quality: float, lean: Codec) -> None:
    image = synthetic_image(56, 40, 3)
    data = lean.compress(image, quality=quality)
    container = unpack(data)
    (tile,), units = container.tiles, container.header.quality_units
    z, y = spec_tile(tile.payload, lean.weights, units, (3, 4))
    networks = SpecNetworks(lean.weights, units)
    levels = networks.levels(networks.y_hat(z, y), is_gray=False)[:40, :56]
    assert np.abs(levels - np.asarray(lean.decompress(data))).max() <= 2


def as_bytes(*symbols: Array) -> bytes:
    """Return symbols as i32, in the order channel, row, column: section 5."""
    return b"".join(values.astype("<i4").tobytes() for values in symbols)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_coder_written_from_the_document_and_constriction_read_each_other(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = 2 * random.integers(1, 20, 8)
    tables = CodingTables(
        (np.zeros(0, np.int64), *(make_counts(random.random(size) ** 4) for size in sizes))
    )
    starts = [spec_starts(counts.tolist()) for counts in tables.counts]
    sections = []
    for length in (0, 40, 300):
        indexes = random.integers(0, len(tables), length).astype(np.int32)
        symbols = np.where(indexes > 0, random.laplace(0, 12, length), 0).astype(np.int32)
        sections.append((symbols, indexes))
    payload = EntropyCoder(tables).entropy_encode(sections)
    decoder, entries = SpecCoder(payload), []
    for symbols, indexes in sections:
        assert spec_section(decoder, starts, indexes.tolist()) == symbols.tolist()
        reached = [tables.reach(index) for index in indexes]
        order = sorted((i for i in range(len(indexes)) if indexes[i]), key=lambda i: indexes[i])
        escaped = [i for i in order if abs(symbols[i]) > reached[i]]
        for i in order:
            beyond = i in escaped
            entry = 2 * reached[i] + 1 if beyond else symbols[i] + reached[i]
            entries.append((starts[indexes[i]], int(entry)))
        entries += [(SIXTEEN_BITS, int(symbols[i]) + 2**15) for i in escaped]
    assert decoder.is_at_end
    encoder = SpecCoder()
    for own_starts, entry in reversed(entries):
        encoder.encode(own_starts, entry)
    assert encoder.end() == payload


def test_worked_file_decodes_step_by_step_as_documented(toy: Codec) -> None:
    tables = spec_tables(toy.weights)
    coder = SpecCoder(unpack(WORKED_FILE.read_bytes()).tiles[0].payload)
    rows = table(section(13), "table")
    assert len(rows) == toy.weights.config.hyper_channels
    for index, x, q, entry, start, width, symbol in rows:
        assert f"{coder.x:016x}" == x
        assert f"{coder.x % 2**24:06x}" == q
        starts = tables[int(index)]
        assert coder.decode(starts) == int(entry)
        assert f"{starts[int(entry)]:06x}" == start
        assert f"{starts[int(entry) + 1] - starts[int(entry)]:06x}" == width
        assert int(entry) - (len(starts) - 3) // 2 == int(symbol)


def test_worked_file_decodes_to_the_documented_symbols_and_pixels(toy: Codec) -> None:
    lines = [line.split() for line in code_block(section(13), 1)]
    documented = {name: [int(value) for value in values] for name, *values in lines}
    _, (y, indexes) = toy.file_symbols(WORKED_FILE.read_bytes())
    assert indexes.tolist() == documented["indexes"]
    assert y.tolist() == documented["symbols"]
    with Image.open(WORKED_FILE.with_suffix(".png")) as image:
        assert np.array(image).reshape(-1).tolist() == documented["pixels"]


def test_digest_is_computed_as_documented(toy: Codec) -> None:
    digest = hashlib.sha256()
    for name in sorted(toy.weights.tensors):
        array = toy.weights.tensors[name]
        kind = f"{array.dtype.kind}{array.dtype.itemsize}"
        digest.update(f"{name} {kind} {list(array.shape)}\n".encode("ascii"))
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes(order="C"))
    assert digest.digest()[:8] == toy.digest
    example = re.search(r"^`(analysis\.down\.weight .*)`", section(12), flags=re.MULTILINE)
    assert example is not None
    shape = list(toy.weights.tensors["analysis.down.weight"].shape)
    assert example[1] == f"analysis.down.weight f2 {shape}"


def test_tensors_of_a_weights_file_have_the_documented_types(toy: Codec) -> None:
    rows = table(section(12), "tensor")
    documented = {row[0].split(",")[0]: row[1] for row in rows}
    for name, array in toy.weights.tensors.items():
        generic = re.sub(r"^scale_head\.\d", "scale_head.k", name)
        kind = documented.get(generic, documented["all others"])
        assert (array.dtype.kind, array.dtype.itemsize) == (kind[0], int(kind[1:]) // 8), name
