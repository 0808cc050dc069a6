"""Write the conformance vectors. Never run by a test; see tests/vectors/README.md.

python tests/vectors/make_vectors.py    writes what does not exist yet
"""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from exact_layers import layers
from PIL import Image
from plain import (
    ESCAPE_VALUES,
    HEADER_BYTES,
    MAGIC,
    Encoder,
    Section,
    Tables,
    box,
    header,
    mask_of,
    spans,
    starts_of,
    steps,
    with_crc,
)
from scale_heads import scale_heads

HERE = Path(__file__).parent
GOOD = HERE.parent / "golden" / "decode" / "rgb-1x1.cae"
Vector = dict[str, Any]
WEBP_DOT = bytes.fromhex(
    "524946461e000000574542505650384c110000002f000000000750bb8236b4ff8188e87f0000"
)
"""A WebP file of the pixel that `GOOD` decodes to."""
TOTAL = 2**16
"""Sum of the counts of a table."""


def headers() -> Iterator[Vector]:
    """Yield headers with their fields, and others with their error."""
    legal = {
        "gray-smallest": (1, 0, 1, 1, "0000000000000000", 2),
        "gray-alpha-widest": (2, 10_000, 65_535, 1, "ffffffffffffffff", 7),
        "color": (3, 5000, 768, 512, "0123456789abcdef", 6),
        "color-alpha-highest": (4, 3725, 1, 65_535, "fedcba9876543210", 3),
        "byte-order": (3, 0x0506, 0x0102, 0x0304, "0102030405060708", 5),
        "large": (3, 1, 65_535, 2730, "0123456789abcdef", 4),
    }
    for name, values in legal.items():
        names = ("mode", "quality", "width", "height", "digest", "tile_log2")
        fields = dict(zip(names, values, strict=True))
        yield {"name": name, "hex": header(**fields).hex(), "fields": fields}
    good, other = header(), header(mode=0)
    illegal = {
        "empty": (b"", "TruncatedError"),
        "cut-in-magic": (good[:5], "TruncatedError"),
        "cut-after-magic": (good[:8], "TruncatedError"),
        "cut-after-version": (good[:9], "TruncatedError"),
        "cut-in-crc": (good[:29], "TruncatedError"),
        "png": (b"\x89PNG" + good[4:], "BadMagicError"),
        "png-cut": (b"\x89PNG", "BadMagicError"),
        "crlf-became-lf": (good.replace(b"\r\n", b"\n", 1), "BadMagicError"),
        "version-0": (header(version=0), "UnsupportedVersionError"),
        "version-2": (header(version=2), "UnsupportedVersionError"),
        "version-255": (header(version=255), "UnsupportedVersionError"),
        "version-2-cut": (header(version=2)[:9], "UnsupportedVersionError"),
        "version-2-with-another-header": (MAGIC + b"\x02" + bytes(40), "UnsupportedVersionError"),
        "crc-other": (good[:-1] + bytes([good[-1] ^ 0x80]), "ChecksumMismatchError"),
        "crc-big-endian": (good[:-4] + good[:-5:-1], "ChecksumMismatchError"),
        "mode-0-and-crc-other": (other[:-4] + bytes(4), "ChecksumMismatchError"),
        "mode-0": (other, "FormatError"),
        "mode-5": (header(mode=5), "FormatError"),
        "quality-10001": (header(quality=10_001), "FormatError"),
        "width-0": (header(width=0), "FormatError"),
        "height-0": (header(height=0), "FormatError"),
        "tile-log2-1": (header(tile_log2=1), "FormatError"),
        "tile-log2-8": (header(tile_log2=8), "FormatError"),
        "reserved-1": (header(reserved=1), "FormatError"),
        "reserved-128": (header(reserved=128), "FormatError"),
    }
    for name, (data, error) in illegal.items():
        yield {"name": name, "hex": data.hex(), "error": error}


def boxes() -> Iterator[Vector]:
    """Yield whole files of one tile with what they hold, and others with their error."""
    good = GOOD.read_bytes()
    head, tile = good[:HEADER_BYTES], good[HEADER_BYTES:]
    alpha_head = with_crc(head[:9] + b"\x04" + head[10:26])
    buffer = io.BytesIO()
    Image.new("L", (1, 1), 77).save(buffer, "PNG")
    alpha = box(b"ALPH", buffer.getvalue())
    metadata = {"iccp": b"a profile", "exif": b"II*\0exif", "xmp ": b"<x:xmpmeta/>"}
    known = [box(kind.encode(), zlib.compress(content)) for kind, content in metadata.items()]
    note = box(b"note", b"for a later reader")
    pixels = box(b"PIXL", b"\x04\x80" + WEBP_DOT)
    crc, *words = struct.unpack_from(f"<{len(tile) // 4 - 3}I", tile, 8)
    legal = {
        "tile-alone": (head, [], {}, False),
        "metadata": (head, known, metadata, False),
        "metadata-in-reverse": (head, known[::-1], metadata, False),
        "alpha": (alpha_head, [alpha], {}, True),
        "alpha-before-metadata": (alpha_head, [alpha, known[1]], {"exif": metadata["exif"]}, True),
        "unknown-optional": (head, [note], {}, False),
        "unknown-optional-empty": (head, [box(b"a\0\xff ")], {}, False),
        "unknown-optional-repeated": (alpha_head, [note, alpha, note, box(b"z123")], {}, True),
        "unknown-optional-like-a-known-one": (head, [box(b"exiF", b"plain")], {}, False),
        "blocks": (head, [pixels], {}, False),
        "blocks-after-metadata": (head, [*known, pixels], metadata, False),
    }
    for name, (first, middle, found, has_alpha) in legal.items():
        yield {
            "name": name,
            "hex": (first + b"".join(middle) + tile).hex(),
            "metadata": {kind: content.hex() for kind, content in found.items()},
            "alpha": buffer.getvalue().hex() if has_alpha else None,
            "tiles": [{"symbols_crc": crc, "payload": words}],
        }
    illegal = {
        "unknown-critical": (head + box(b"NOTE") + tile, "UnsupportedVersionError"),
        "unknown-critical-digit": (head + box(b"1ote") + tile, "UnsupportedVersionError"),
        "unknown-critical-before-a": (head + box(b"`ote") + tile, "UnsupportedVersionError"),
        "unknown-critical-after-z": (head + box(b"{ote") + tile, "UnsupportedVersionError"),
        "unknown-critical-not-ascii": (head + box(b"\xe4ote") + tile, "UnsupportedVersionError"),
        "unknown-optional-crc": (head + note[:-1] + b"\0" + tile, "ChecksumMismatchError"),
        "unknown-optional-after-tile": (good + note, "FormatError"),
        "unknown-optional-cut": (head + note[:-1], "TruncatedError"),
        "critical-after-tile": (good + box(b"NOTE"), "FormatError"),
        "metadata-repeated": (head + 2 * known[0] + tile, "FormatError"),
        "metadata-after-tile": (good + known[0], "FormatError"),
        "metadata-plain": (head + box(b"xmp ", b"<x:xmpmeta/>") + tile, "FormatError"),
        "alpha-repeated": (alpha_head + 2 * alpha + tile, "FormatError"),
        "alpha-missing": (alpha_head + tile, "FormatError"),
        "alpha-in-rgb": (head + alpha + tile, "FormatError"),
        "no-tile": (head + known[0], "TruncatedError"),
        "tile-cut": (good[:-1], "TruncatedError"),
        "tile-crc": (good[:-1] + bytes([good[-1] ^ 1]), "ChecksumMismatchError"),
        "tile-repeated": (good + tile, "FormatError"),
        "blocks-repeated": (head + 2 * pixels + tile, "FormatError"),
        "blocks-before-metadata": (head + pixels + known[1] + tile, "FormatError"),
        "blocks-before-unknown-optional": (head + pixels + note + tile, "FormatError"),
        "blocks-after-last-tile": (good + pixels, "FormatError"),
        "blocks-without-tile": (head + pixels, "TruncatedError"),
        "blocks-cut": (head + pixels[:-1], "TruncatedError"),
        "blocks-crc": (head + pixels[:-1] + b"\0" + tile, "ChecksumMismatchError"),
    }
    for name, (data, error) in illegal.items():
        yield {"name": name, "hex": data.hex(), "error": error}


def lossless() -> Iterator[Vector]:
    """Yield contents of `PIXL` boxes with the blocks that they name, and others with their error.

    The image is not looked at: some bytes stand for it.
    """
    image = b"image"

    def box(name: str, width: int, height: int, tile_log2: int, content: bytes) -> Vector:
        size = {"width": width, "height": height, "tile_log2": tile_log2}
        return {"name": name, **size, "hex": content.hex()}

    legal = {
        "one-block": (1, 1, 2, 4, ["1"]),
        "one-block-of-a-tile": (64, 64, 2, 6, ["1"]),
        "largest-block": (2048, 2048, 7, 11, ["1"]),
        "raster-order": (64, 64, 2, 5, ["01", "00"]),
        "cut-at-the-edge": (33, 17, 2, 4, ["001", "100"]),
        "eight-blocks": (64, 32, 2, 4, ["0000", "0001"]),
        "nine-blocks": (48, 48, 2, 4, ["000", "000", "001"]),
        "all-blocks": (48, 48, 2, 4, ["111"] * 3),
        "many-blocks": (1024, 1000, 6, 6, ["1000000000000001"] * 16),
    }
    for name, (width, height, tile_log2, block_log2, blocks) in legal.items():
        content = bytes([block_log2]) + mask_of(blocks) + image
        found = {"block_log2": block_log2, "blocks": blocks, "image": image.hex()}
        yield box(name, width, height, tile_log2, content) | found
    illegal = {
        "empty": (16, 16, 2, b""),
        "side-alone": (16, 16, 2, b"\x04"),
        "mask-cut": (48, 48, 2, b"\x04\x80"),
        "side-8": (16, 16, 2, b"\x03\x80" + image),
        "side-above-that-of-tiles": (16, 16, 2, b"\x07\x80" + image),
        "side-2048-in-smaller-tiles": (16, 16, 6, b"\x0b\x80" + image),
        "side-beyond": (16, 16, 7, b"\xff\x80" + image),
        "mask-0": (16, 16, 2, b"\x04\0" + image),
        "bit-after-the-last": (33, 17, 2, b"\x04\x82" + image),
        "bit-after-the-only": (16, 16, 2, b"\x04\xc0" + image),
        "only-a-bit-after-the-last": (16, 16, 2, b"\x04\x01" + image),
    }
    for name, fields in illegal.items():
        yield box(name, *fields) | {"error": "FormatError"}


def tables() -> Iterator[Vector]:
    """Yield counts with the starts of their entries, and counts that are no table."""
    spiked = [1] * 1024
    spiked[511] += TOTAL - 1024
    chance = random.Random(1)
    uneven = [1 + int(2000 * chance.random() ** 4) for _ in range(32)]
    uneven[16] += TOTAL - sum(uneven)
    legal = {
        "empty": [],
        "reach-0": [65_535, 1],
        "reach-0-escapes": [1, 65_535],
        "reach-1": [1000, 60_000, 4000, 536],
        "reach-1-flat": [16_384] * 4,
        "reach-15": uneven,
        "reach-511": spiked,
    }
    for name, counts in legal.items():
        yield {"name": name, "counts": counts, "starts": starts_of(counts)}
    illegal = {
        "odd": [32_768, 32_767, 1],
        "sum-below": [65_534, 1],
        "sum-above": [65_535, 2],
        "count-0": [65_536, 0],
        "reach-512": [1] * 1025 + [TOTAL - 1025],
    }
    for name, counts in illegal.items():
        yield {"name": name, "counts": counts, "error": "ModelError"}


def payload(
    name: str, tables: Tables, z: Section, y: Section, escaped: Collection[int] = ()
) -> Vector:
    """Return a vector with the words of two sections and the walk of a decoder.

    Args:
        name: of the vector.
        tables: counts, by index.
        z, y: table indexes and symbols.
        escaped: numbers of symbols of y that are escaped although their tables have them.
    """
    walk = [("z", *step) for step in steps(tables, z, ())]
    walk += [("y", *step) for step in steps(tables, y, escaped)]
    encoder, rows = Encoder(), []
    for section, number, table, entry in reversed(walk):
        encoder.push(ESCAPE_VALUES if table is None else starts_of(tables[table]), entry)
        rows.append([section, number, table, f"{encoder.x:016x}", entry])
    symbols = z[1] + y[1]
    return {
        "name": name,
        "tables": tables,
        "z": {"indexes": z[0], "symbols": z[1]},
        "y": {"indexes": y[0], "symbols": y[1]},
        "symbols_crc": zlib.crc32(struct.pack(f"<{len(symbols)}i", *symbols)),
        "payload": encoder.end(),
        "walk": rows[::-1],
    } | ({"only_read": True} if escaped else {})


def payloads() -> Iterator[Vector]:
    """Yield symbols with their words, and words that are refused."""
    narrow, skewed, flat = [1000, 60_000, 4000, 536], [65_535, 1], [8192] * 8
    none: Section = ([], [])
    five = [[], narrow, skewed, [], flat]
    far = [[] for _ in range(258)]
    far[1], far[2], far[10], far[256], far[257] = narrow, flat, narrow[::-1], flat, [16_384] * 4
    chance = random.Random(2)
    many = [chance.choice((0, 1, 2, 4)) for _ in range(60)]
    drawn = [chance.choice((0, 0, 0, 1, -1, 2, 3, 9)) if index else 0 for index in many]
    yield payload("nothing", [[]], none, none)
    yield payload("empty-tables", five, none, ([0, 3, 0], [0, 0, 0]))
    yield payload("one-symbol", five, none, ([1], [0]))
    yield payload("entry-0-leaves-the-state", five, none, ([1, 1, 4, 2], [-1, -1, -3, 0]))
    yield payload("entry-0-last", five, none, ([4, 4], [2, -3]))
    yield payload(
        "tables-in-rising-order", far, none,
        ([257, 10, 0, 256, 2, 1, 10, 0, 1], [1, 0, 0, -3, 2, 1, -1, 0, 0]),
    )  # fmt: skip
    yield payload("z-then-y", five, ([4, 1, 4], [3, -1, -2]), ([1, 4, 0, 1], [1, 0, 0, 0]))
    yield payload(
        "escapes", five, ([4, 1, 4], [-4, 2, 32_767]),
        ([4, 1, 2, 0, 1, 2], [-32_767, 5, -1, 0, -2, 1]),
    )  # fmt: skip
    yield payload("many", five, (many[:9], drawn[:9]), (many[9:], drawn[9:]))
    yield payload(
        "escapes-that-no-writer-makes", five, none, ([4, 1, 4, 1], [1, -32_768, 0, -3]), {0, 2}
    )
    yield from refused(payload("", five, ([4, 1, 4], [3, -1, -2]), ([1, 4, 0, 1], [1, 9, 0, 0])))


def refused(good: Vector) -> Iterator[Vector]:
    """Yield what a reader must refuse, made from one good vector."""
    words, crc = good["payload"], good["symbols_crc"]
    changes = {
        "zero-word-after-the-last": ([*words, 0], crc, "FormatError"),
        "zero-word-alone": ([0], crc, "FormatError"),
        "word-before-the-first": ([1, *words], crc, "DesyncError"),
        "word-after-the-last": ([*words, 1], crc, "DesyncError"),
        "first-word-missing": (words[1:], crc, "DesyncError"),
        "last-word-missing": (words[:-1], crc, "DesyncError"),
        "no-words": ([], crc, "DesyncError"),
        "bit-flipped": ([words[0] ^ 1, *words[1:]], crc, "DesyncError"),
        "other-symbols-crc": (words, crc ^ 1, "DesyncError"),
    }
    for name, (payload, symbols_crc, error) in changes.items():
        yield {
            "name": name,
            "tables": good["tables"],
            "z": {"indexes": good["z"]["indexes"]},
            "y": {"indexes": good["y"]["indexes"]},
            "symbols_crc": symbols_crc,
            "payload": payload,
            "error": error,
        }


def grids() -> Iterator[Vector]:
    """Yield images with the latent positions of their tiles."""
    for width, height, tile_log2, stride in (
        (1, 1, 2, 16), (64, 64, 2, 16), (65, 64, 2, 16), (200, 150, 2, 16), (2049, 1, 7, 16),
        (70, 130, 2, 1), (130, 70, 2, 8), (65, 129, 2, 27), (65, 65, 2, 49), (194, 67, 2, 64),
        (300, 260, 3, 36), (1, 65_535, 7, 25), (1000, 600, 4, 9),
    ):  # fmt: skip
        side = 16 * 2**tile_log2
        rows, columns = spans(height, side, stride), spans(width, side, stride)
        yield {
            "name": f"{width}x{height}-tiles-of-{side}-stride-{stride}",
            "width": width,
            "height": height,
            "tile_log2": tile_log2,
            "stride": stride,
            "latent": [sum(count for _, count in rows), sum(count for _, count in columns)],
            "tiles": [[top, left, h, w] for top, h in rows for left, w in columns],
        }


FILES = {
    "headers": headers,
    "boxes": boxes,
    "lossless": lossless,
    "tables": tables,
    "payloads": payloads,
    "scale_head": scale_heads,
    "grid": grids,
    "exact_layers": layers,
}


def write(folder: Path) -> None:
    """Add the vectors whose names are not in their file; leave the rest as it is."""
    for name, vectors in FILES.items():
        path = folder / f"{name}.json"
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        names = {vector["name"] for vector in old}
        lines = [json.dumps(vector) for vector in old]
        lines += [json.dumps(vector) for vector in vectors() if vector["name"] not in names]
        path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write(HERE)
