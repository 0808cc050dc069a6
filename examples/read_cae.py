"""A second reader of .cae files, written from FORMAT.md: numpy and constriction, no torch.

python examples/read_cae.py FILE.cae WEIGHTS.safetensors

It checks the framing and every checksum, finds the symbols of each tile, and prints the CRC-32 of
all of them. It does not make pixels, neither from symbols nor from lossless blocks, nor check all
that a reader must refuse.
"""

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Tensors = dict[str, NDArray[Any]]
NAMES = ("F16", "F32", "I8", "I16", "I32", "I64", "U16")
TYPES = {name: f"<{name[0].lower()}{int(name[1:]) // 8}" for name in NAMES}


def check(is_right: bool, message: str) -> None:
    """Raise ValueError with a message unless something is right."""
    if not is_right:
        raise ValueError(message)


def read_weights(data: bytes) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors and configuration of a safetensors file (section 12)."""
    (length,) = struct.unpack_from("<Q", data)
    entries = json.loads(data[8 : 8 + length])
    metadata = entries.pop("__metadata__")
    tensors = {}
    for name, entry in entries.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[start:end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, json.loads(metadata["config"])


def read_boxes(data: bytes) -> tuple[dict[str, int], list[bytes], dict[int, bytes]]:
    """Return the header's fields, what the tiles hold, and what PIXL boxes do, by tile.

    Sections 3 and 4.
    """
    check(data[:9] == b"\x89CAE\r\n\x1a\n\x01", "not a .cae file of version 1")
    (crc,) = struct.unpack_from("<I", data, 26)
    check(crc == zlib.crc32(data[:26]), "the header is damaged")
    names = ("mode", "units", "width", "height")
    header = dict(zip(names, struct.unpack_from("<BHHH", data, 9), strict=True))
    header["tile"] = 16 * 2 ** data[24]
    tiles: list[bytes] = []
    lossless: dict[int, bytes] = {}
    offset = 30
    while offset < len(data):
        kind, length = struct.unpack_from("<4sI", data, offset)
        end = offset + 8 + length
        (crc,) = struct.unpack_from("<I", data, end)
        check(crc == zlib.crc32(data[offset:end]), f"box {kind!r} is damaged")
        content = data[offset + 8 : end]
        check(kind == b"TILE" or len(tiles) not in lossless, f"box {kind!r} parts PIXL and TILE")
        if kind == b"TILE":
            tiles.append(content)
        elif kind == b"PIXL":
            lossless[len(tiles)] = content
        else:
            check(not tiles, f"box {kind!r} follows a tile")
            is_known = kind == b"ALPH" or b"a" <= kind[:1] <= b"z"
            check(is_known, f"box {kind!r} needs a newer reader")
        offset = end + 4
    check(len(tiles) not in lossless, "no tile follows its lossless blocks")
    return header, tiles, lossless


def lossless_blocks(content: bytes, side: int, height: int, width: int) -> NDArray[np.bool_]:
    """Return which blocks (rows, columns) of a tile of these pixels a PIXL box has (section 5.1).

    `side` is that of a tile that no edge cuts.
    """
    block = 2 ** content[0] if content else 0
    check(16 <= block <= side, f"lossless blocks of {block} pixels")
    rows, columns = -(-height // block), -(-width // block)
    packed = np.frombuffer(content[1 : 1 + -(-rows * columns // 8)], np.uint8)
    bits = np.unpackbits(packed)
    is_right = bits.size >= rows * columns and bits.any() and not bits[rows * columns :].any()
    check(is_right, "the mask of lossless blocks is not one")
    return bits[: rows * columns].astype(bool).reshape(rows, columns)


class Tables:
    """The CDF tables of a model (section 6.1)."""

    def __init__(self, tensors: Tensors) -> None:
        ends = np.cumsum(tensors["tables.lengths"].astype(np.int64))[:-1]
        self.counts = np.split(tensors["tables.counts"], ends)
        escapes = np.ones(2**16)
        self.escape = constriction.stream.model.Categorical(escapes, perfect=False)

    def decode(self, coder: Any, indexes: Ints) -> Ints:
        """Decode a section: groups by table, then the values of the escapes (section 6.4)."""
        flat = indexes.ravel()
        symbols, escaped = np.zeros(flat.size, np.int64), []
        for index in np.unique(flat):
            counts = self.counts[index]
            if not len(counts):
                continue
            where, reach = np.flatnonzero(flat == index), len(counts) // 2 - 1
            model = constriction.stream.model.Categorical(counts.astype(float), perfect=False)
            symbols[where] = coder.decode(model, where.size) - reach
            escaped.append(where[symbols[where] == reach + 1])
        for position in np.concatenate(escaped) if escaped else ():
            symbols[position] = coder.decode(self.escape) - 2**15
        return symbols.reshape(indexes.shape)


def convolve(a: Ints, weight: Ints, bias: Ints) -> Ints:
    """Return the convolution of a (in, h, w) with (out, in, k, k), zeros around it."""
    k = weight.shape[2]
    padded = np.pad(a, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    total = np.zeros((len(weight), *a.shape[1:]), np.int64) + bias[:, None, None]
    for dy in range(k):
        for dx in range(k):
            part = padded[:, dy : dy + a.shape[1], dx : dx + a.shape[2]]
            total += np.tensordot(weight[:, :, dy, dx], part, 1)
    return total


def shuffle(a: Ints) -> Ints:
    """Move channel 4 c + 2 dy + dx at (i, j) to channel c at (2 i + dy, 2 j + dx)."""
    channels, height, width = a.shape
    parts = a.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return parts.reshape(channels // 4, 2 * height, 2 * width)


def scale_indexes(z: Ints, tensors: Tensors, units: int) -> Ints:
    """Return the table of every y symbol, in integers alone (section 7.2)."""
    a = 256 * z.clip(-127, 127)
    for k, shift in enumerate(tensors["scale_head.shifts"].tolist()):
        weight, bias = (tensors[f"scale_head.{k}.{part}"] for part in ("weight", "bias"))
        a = convolve(a, weight.astype(np.int64), bias)
        a = ((a + 2 ** (shift - 1)) // 2**shift).clip(-32767, 32767)
        a = shuffle(a) if k in {1, 3} else a
        a = np.maximum(a, a // 8) if k < 4 else a
    offsets = tensors["scale_head.offsets"].astype(np.int64)
    position = units * (len(offsets) - 1)
    low = min(position // 10000, len(offsets) - 2)
    part = position - 10000 * low
    offset = (offsets[low] * (10000 - part) + offsets[low + 1] * part) // 10000
    return ((a + offset[:, None, None] + 128) // 256).clip(0, 63)


def by_channel(first: int, shape: tuple[int, int, int]) -> Ints:
    """Return table indexes that count up with the channel."""
    return np.broadcast_to(first + np.arange(shape[0])[:, None, None], shape)


def tile_sides(header: dict[str, int], stride: int) -> list[tuple[int, int]]:
    """Return the positions of each tile, in raster order (section 5)."""
    sides = []
    for length in (header["height"], header["width"]):
        starts = [-(-start // stride) for start in range(0, length, header["tile"])]
        sides.append(np.diff([*starts, -(-length // stride)]).tolist())
    return [(height, width) for height in sides[0] for width in sides[1]]


def decode_symbols(file: bytes, weights: bytes) -> list[tuple[Ints, Ints]]:
    """Return the symbols (z, y) of every tile, each (channels, rows, columns)."""
    (header, contents, lossless), (tensors, config) = read_boxes(file), read_weights(weights)
    tables, units, decoded = Tables(tensors), header["units"], []
    is_classic = config.get("architecture") == "classic"
    anchor = (2 * units * (config["quality_anchors"] - 1) + 10000) // 20000
    stages = config["channels"] if is_classic else []
    stride = (config["stride"] * config["pool_size"]) ** len(stages) if is_classic else 16
    tiles = zip(contents, tile_sides(header, stride), tile_sides(header, 1), strict=True)
    for number, (content, (height, width), pixels) in enumerate(tiles):
        if number in lossless:
            blocks = lossless_blocks(lossless[number], header["tile"], *pixels)
            if blocks.all() and content == bytes(4):  # no symbols
                decoded.append((np.zeros((0, 0, 0), np.int64),) * 2)
                continue
        words = np.frombuffer(content[4:], "<u4").astype(np.uint32)
        coder = constriction.stream.stack.AnsCoder(words)
        if is_classic:
            latent = stages[-1]
            z = np.zeros((0, 1, 1), np.int64)
            indexes = by_channel(1 + anchor * latent, (latent, height, width))
        else:
            hyper = config["hyper_channels"]
            shape = (hyper, -(-height // 4), -(-width // 4))
            z = tables.decode(coder, by_channel(64 + anchor * hyper, shape))
            indexes = scale_indexes(z, tensors, units)[:, :height, :width]
        y = tables.decode(coder, indexes)
        check(coder.is_empty(), "symbols and payload do not end together")
        (crc,) = struct.unpack_from("<I", content)
        check(crc == zlib.crc32(as_bytes(z, y)), "these are not the symbols encoded")
        decoded.append((z, y))
    return decoded


def as_bytes(*symbols: Ints) -> bytes:
    """Return symbols as the format's checksums see them (section 5)."""
    return b"".join(values.astype("<i4").tobytes() for values in symbols)


if __name__ == "__main__":
    tiles = decode_symbols(*(Path(name).read_bytes() for name in sys.argv[1:3]))
    everything = b"".join(as_bytes(*tile) for tile in tiles)
    print(
        f"{len(tiles)} tiles, {len(everything) // 4} symbols, CRC-32 {zlib.crc32(everything):08x}"
    )
