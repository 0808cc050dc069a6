"""Write the toy model and the golden files. Never run by a test; see tests/golden/README.md.

python tests/golden/make_golden.py                 writes what does not exist yet
python tests/golden/make_golden.py --shipped NAME  writes those of one shipped model anew
python tests/golden/make_golden.py --model         trains the toy model anew: all of its change
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.config import MAX_QUALITY, MainConfig
from caecodec.format.container import HEADER_BYTES
from caecodec.image.alpha import encode_alpha
from caecodec.image.lossless import encode_pixels
from caecodec.train.export import export
from caecodec.train.settings import MainSettings
from caecodec.train.trainer import Budget, Trainer
from caecodec.weights import SHIPPED

GOLDEN = Path(__file__).parent
PHOTO = GOLDEN.parents[1] / "examples" / "chelsea.png"
TOY = GOLDEN / "toy.safetensors"
CONFIG = MainConfig(
    channels=24,
    latent_channels=32,
    hyper_channels=8,
    context_channels=16,
    encoder_blocks=1,
    decoder_blocks=1,
    latent_blocks=1,
    quality_anchors=3,
)
SETTINGS = MainSettings(batch_size=8, crop_size=64, pca_crops=64, warmup_steps=20)
STEPS = 600
METADATA = {"icc_profile": b"a profile", "exif": b"II*\0exif", "xmp": b"<x:xmpmeta/>"}


def synthetic_image(width: int, height: int, seed: int) -> np.ndarray:
    """Draw smooth colour, a few edges and faint grain: uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    image = np.zeros((height, width, 3))
    for _ in range(6):
        angle, wave = random.uniform(0, np.pi), random.uniform(0.01, 0.2)
        pattern = np.sin(wave * (rows * np.sin(angle) + columns * np.cos(angle)))
        edge = pattern > random.uniform(-0.5, 0.5)
        image += random.normal(0, 25, 3) * (edge if random.random() < 0.5 else pattern)[..., None]
    image += 128 + random.normal(0, 3, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def drawn_image(width: int, height: int, seed: int) -> np.ndarray:
    """Draw lines on flat paper beside a synthetic image: uint8 (height, width, 3)."""
    image = synthetic_image(width, height, seed)
    image[:, : width // 2] = 250, 250, 245
    image[10 : height - 10 : 9, 8 : width // 2 - 8] = 20, 40, 90
    return image


def train_toy() -> None:
    """Train and export the toy model."""
    images = [
        torch.from_numpy(synthetic_image(160, 160, seed)).permute(2, 0, 1) for seed in range(40)
    ]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "toy.ckpt"
        trainer = Trainer(CONFIG, SETTINGS, images=images, checkpoint_path=checkpoint)
        trainer.run(Budget(steps=STEPS))
        print(export(checkpoint, images, TOY, num_crops=64))


def cases() -> dict[str, tuple[Image.Image, float | None, int]]:
    """Return name -> (image, quality, tile size) of the files that must decode for ever.

    Where quality is None, all of the image is stored losslessly.
    """
    color = synthetic_image(90, 70, 100)
    alpha = np.linspace(0, 255, 90 * 70).reshape(70, 90).astype(np.uint8)
    rgba = Image.fromarray(np.dstack((color, alpha)))
    tagged = Image.fromarray(color)
    contrast = np.random.default_rng(3).choice(np.array([0, 255], np.uint8), (48, 48, 3))
    wide = np.zeros((1, 16_400, 4), np.uint8)  # beyond WebP: alpha goes to PNG
    wide[..., 3] = np.arange(16_400) // 100
    tagged.info |= METADATA
    drawn = drawn_image(200, 150, 5)
    hidden = np.dstack((drawn, 255 * (np.indices((150, 200)).sum(0) % 50 < 30))).astype(np.uint8)
    return {
        "rgb-2x2": (Image.fromarray(color[:2, :2]), 50, 64),
        "rgb-1x1": (Image.fromarray(color[:1, :1]), 0, 64),
        "rgb-q0": (Image.fromarray(color), 0, 64),
        "rgb-q37.25": (Image.fromarray(color), 37.25, 64),
        "rgb-q100": (Image.fromarray(color), 100, 64),
        "gray": (Image.fromarray(color[..., 1]), 60, 64),
        "gray-alpha": (rgba.convert("LA"), 60, 64),
        "rgb-alpha": (rgba, 60, 64),
        "metadata": (tagged, 60, 64),
        "row": (Image.fromarray(color[:1]), 60, 64),
        "column": (Image.fromarray(color[:, :1]), 60, 64),
        "anchor-tie": (Image.fromarray(color[:20, :20]), 25, 64),
        "tile-128": (Image.fromarray(color[:20, :20]), 60, 128),
        "escapes": (Image.fromarray(contrast), 100, 64),
        "alpha-png": (Image.fromarray(wide), 0, 128),
        "tiles": (Image.fromarray(synthetic_image(200, 150, 101)), 60, 4),
        "lossless-mixed": (Image.fromarray(drawn), 60, 4),
        "lossless-gray": (Image.fromarray(drawn[..., 1]), 20, 4),
        "lossless-whole": (Image.fromarray(hidden), None, 4),
    }


def shipped_cases() -> dict[str, tuple[Image.Image, float | None, int]]:
    """Return name -> (image, quality, tile size) of the files of each shipped model."""
    with Image.open(PHOTO) as photo:
        color = Image.fromarray(np.array(photo)[70:150, 120:216])  # without its metadata
    rgba = color.resize((40, 30))
    rgba.putalpha(Image.linear_gradient("L").resize((40, 30)))
    rgba.info |= METADATA
    return {
        "tiles": (color, 60, 4),
        "gray": (color.convert("L").crop((0, 0, 61, 50)), 37.25, 64),
        "metadata": (rgba, 75, 64),
        "q0": (color, 0, 64),
        "q100": (color.crop((30, 10, 78, 58)), 100, 64),
    }


def write_decode() -> None:
    """Write the files of the toy model."""
    for name, (image, quality, tile_size) in cases().items():
        write_file(GOLDEN / "decode" / name, Codec(TOY, tile_size=tile_size), image, quality)


def write_shipped() -> None:
    """Write the files of the shipped models."""
    for model in SHIPPED:
        for name, (image, quality, tile_size) in shipped_cases().items():
            codec = Codec(model, tile_size=tile_size)
            write_file(GOLDEN / "shipped" / f"{model}-{name}", codec, image, quality)


def write_file(path: Path, codec: Codec, image: Image.Image, quality: float | None) -> None:
    """Write a file, the pixels it decodes to here, and the CRC-32 of its symbols."""
    path.parent.mkdir(exist_ok=True)
    if path.with_name(f"{path.name}.cae").exists():
        return
    if quality is None:
        data = codec.compress(image, lossless=True)
    else:
        data = codec.compress(image, quality=quality)
    path.with_name(f"{path.name}.cae").write_bytes(data)
    decoded = codec.decompress(data)
    decoded.info.clear()
    decoded.save(path.with_name(f"{path.name}.png"))
    symbols = codec.file_symbols(data)
    crc = zlib.crc32(b"".join(values.astype("<i4").tobytes() for values, _ in symbols))
    vector = {
        "symbols_crc": f"{crc:08x}",
        "quality": MAX_QUALITY if quality is None else quality,
        "mode": image.mode,
        "digest": codec.digest.hex(),
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(vector) + "\n")


def remove_shipped(model: str) -> None:
    """Remove the files of a shipped model: before the first release only."""
    for name in shipped_cases():
        for suffix in ("cae", "png", "json"):
            (GOLDEN / "shipped" / f"{model}-{name}.{suffix}").unlink(missing_ok=True)


def with_crc(data: bytes) -> bytes:
    """Append the CRC-32 of data."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def header_with(data: bytes, offset: int, value: bytes) -> bytes:
    """Replace header bytes and mend the header's CRC-32."""
    changed = data[:offset] + value + data[offset + len(value) :]
    return with_crc(changed[: HEADER_BYTES - 4]) + data[HEADER_BYTES:]


def box(kind: bytes, content: bytes) -> bytes:
    """Frame a box."""
    return with_crc(kind + len(content).to_bytes(4, "little") + content)


def malformed(good: bytes) -> dict[str, tuple[bytes, str]]:
    """Return name -> (bytes, error class) made from one good file of one tile."""
    head, tile = good[:HEADER_BYTES], good[HEADER_BYTES:]
    alpha_head = header_with(good, 9, b"\x04")[:HEADER_BYTES]
    alpha = encode_alpha(np.zeros((2, 2), np.uint8))
    content = tile[8:-4]
    flipped = bytearray(good)
    flipped[-8] ^= 1
    bomb = zlib.compress(bytes(65 * 2**20), 9)
    return {
        "empty": (b"", "TruncatedError"),
        "png-magic": (b"\x89PNG\r\n\x1a\n" + good[8:], "BadMagicError"),
        "text-mode-damage": (good.replace(b"\r\n", b"\n", 1), "BadMagicError"),
        "newer-version": (header_with(good, 8, b"\x02"), "UnsupportedVersionError"),
        "header-cut": (good[: HEADER_BYTES - 5], "TruncatedError"),
        "header-flip": (good[:12] + b"\xff" + good[13:], "ChecksumMismatchError"),
        "mode-zero": (header_with(good, 9, b"\x00"), "FormatError"),
        "quality-beyond-100": (header_with(good, 10, b"\x11\x27"), "FormatError"),
        "width-zero": (header_with(good, 12, b"\0\0"), "FormatError"),
        "gigapixels": (header_with(good, 12, b"\xff\xff\xff\xff"), "LimitExceededError"),
        "tile-size-beyond": (header_with(good, 24, b"\x08"), "FormatError"),
        "reserved-set": (header_with(good, 25, b"\x01"), "FormatError"),
        "unknown-model": (header_with(good, 16, bytes(8)), "UnknownModelError"),
        "no-tile": (head, "TruncatedError"),
        "tile-cut": (good[:-5], "TruncatedError"),
        "length-past-end": (head + b"TILE\xff\xff\xff\x7f" + tile[8:], "TruncatedError"),
        "payload-flip": (bytes(flipped), "ChecksumMismatchError"),
        "payload-other-symbols": (
            head + box(b"TILE", content[:4] + bytes([content[4] ^ 1]) + content[5:]),
            "DesyncError",
        ),
        "payload-not-words": (head + box(b"TILE", content + b"\x01"), "FormatError"),
        "payload-zero-word": (head + box(b"TILE", content + bytes(4)), "FormatError"),
        "payload-too-long": (head + box(b"TILE", content + b"\x01\0\0\0"), "DesyncError"),
        "tile-without-crc": (head + box(b"TILE", b"abc"), "FormatError"),
        "trailing-byte": (good + b"\0", "FormatError"),
        "more-tiles-than-grid": (good + tile, "FormatError"),
        "unknown-critical-box": (head + box(b"XYZW", b"") + tile, "UnsupportedVersionError"),
        "alpha-in-rgb": (head + box(b"ALPH", b"") + tile, "FormatError"),
        "alpha-missing": (header_with(good, 9, b"\x04"), "FormatError"),
        "alpha-not-an-image": (
            alpha_head + box(b"ALPH", b"no image") + tile,
            "FormatError",
        ),
        "metadata-repeated": (head + 2 * box(b"exif", zlib.compress(b"x")) + tile, "FormatError"),
        "metadata-not-zlib": (head + box(b"exif", b"plain") + tile, "FormatError"),
        "magic-only": (good[:8], "TruncatedError"),
        "version-zero": (header_with(good, 8, b"\0"), "UnsupportedVersionError"),
        "mode-five": (header_with(good, 9, b"\x05"), "FormatError"),
        "height-zero": (header_with(good, 14, b"\0\0"), "FormatError"),
        "tile-size-below": (header_with(good, 24, b"\x01"), "FormatError"),
        "box-frame-cut": (good[: HEADER_BYTES + 5], "TruncatedError"),
        "box-crc-flip": (good[:-1] + bytes([good[-1] ^ 1]), "ChecksumMismatchError"),
        "optional-box-after-tile": (good + box(b"note", b""), "FormatError"),
        "optional-box-crc-flip": (
            head + box(b"note", b"x")[:-1] + b"\0" + tile,
            "ChecksumMismatchError",
        ),
        "alpha-repeated": (alpha_head + 2 * box(b"ALPH", alpha) + tile, "FormatError"),
        "alpha-wrong-size": (
            alpha_head + box(b"ALPH", encode_alpha(np.zeros((3, 2), np.uint8))) + tile,
            "FormatError",
        ),
        "metadata-stream-cut": (
            head + box(b"exif", zlib.compress(b"x" * 99)[:-3]) + tile,
            "FormatError",
        ),
        "metadata-stream-trailing": (
            head + box(b"exif", zlib.compress(b"x") + b"y") + tile,
            "FormatError",
        ),
        "metadata-empty-stream": (head + box(b"exif", b"") + tile, "FormatError"),
        "symbols-crc-other": (head + box(b"TILE", b"\0\0\0\0" + content[4:]), "DesyncError"),
        "payload-empty": (head + box(b"TILE", content[:4]), "DesyncError"),
        "payload-word-missing": (head + box(b"TILE", content[:4] + content[8:]), "DesyncError"),
        "quality-other": (header_with(good, 10, b"\x10\x27"), "DesyncError"),
        "metadata-bomb": (head + box(b"xmp ", bomb) + tile, "LimitExceededError"),
    }


def lossless_content(block_log2: int, mask: bytes, image: bytes) -> bytes:
    """Return the content of a box of lossless blocks."""
    return bytes([block_log2]) + mask + image


def saved(image: Image.Image, image_format: str = "WEBP", **options: Any) -> bytes:
    """Return an image file, lossless unless the options say otherwise."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **({"lossless": True, "exact": True} | options))
    return buffer.getvalue()


def malformed_lossless(good: bytes) -> dict[str, tuple[bytes, str]]:
    """Return name -> (bytes, error class) of files whose one tile has lossless blocks."""
    head, tile = good[:HEADER_BYTES], good[HEADER_BYTES:]
    gray = header_with(good, 9, b"\x01")[:HEADER_BYTES]
    wide = header_with(good, 12, b"\x11")[:HEADER_BYTES]
    color = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    plain = Image.fromarray(color)
    image = encode_pixels(color)
    blocks = box(b"PIXL", lossless_content(4, b"\x80", image))
    wide_blocks = lossless_content(4, b"\x80", encode_pixels(np.zeros((2, 17, 3), np.uint8)))
    contents = {
        "box-empty": b"",
        "side-below": lossless_content(3, b"\x80", image),
        "side-beyond": lossless_content(11, b"\x80", image),
        "mask-missing": lossless_content(4, b"", b""),
        "mask-zero": lossless_content(4, b"\0", image),
        "mask-bit-beyond": lossless_content(4, b"\xc0", image),
        "image-missing": lossless_content(4, b"\x80", b""),
        "image-cut": lossless_content(4, b"\x80", image[:-5]),
        "image-png": lossless_content(4, b"\x80", saved(plain, "PNG")),
        "image-lossy": lossless_content(4, b"\x80", saved(plain, lossless=False)),
        "image-extended": lossless_content(4, b"\x80", saved(plain, exif=METADATA["exif"])),
        "image-animated": lossless_content(
            4, b"\x80", saved(plain, save_all=True, append_images=[plain.rotate(90)])
        ),
        "image-with-alpha": lossless_content(
            4, b"\x80", saved(Image.fromarray(np.dstack((color, color[..., 0]))))
        ),
        "image-wrong-size": lossless_content(4, b"\x80", encode_pixels(color[:1])),
    }
    files = {
        name: (head + box(b"PIXL", own) + tile, "FormatError") for name, own in contents.items()
    }
    files |= {
        "image-color-in-gray": (gray + blocks + tile, "FormatError"),
        "crc-flip": (head + blocks[:-1] + bytes([blocks[-1] ^ 1]) + tile, "ChecksumMismatchError"),
        "repeated": (head + 2 * blocks + tile, "FormatError"),
        "before-optional-box": (head + blocks + box(b"note", b"") + tile, "FormatError"),
        "before-metadata": (
            head + blocks + box(b"exif", zlib.compress(b"x")) + tile,
            "FormatError",
        ),
        "after-last-tile": (good + blocks, "FormatError"),
        "tile-missing": (head + blocks, "TruncatedError"),
        "symbols-crc-of-none": (head + blocks + box(b"TILE", b"\x01\0\0\0"), "DesyncError"),
        "symbols-missing": (
            wide + box(b"PIXL", wide_blocks) + box(b"TILE", bytes(4)),
            "DesyncError",
        ),
        "symbols-other": (head + blocks + box(b"TILE", bytes(4) + tile[12:-4]), "DesyncError"),
    }
    return {f"lossless-{name}": file for name, file in files.items()}


def write_errors() -> None:
    """Write one file per abuse and the map of their error classes."""
    folder = GOLDEN / "errors"
    folder.mkdir(exist_ok=True)
    good = (GOLDEN / "decode" / "rgb-2x2.cae").read_bytes()
    expected = {}
    for name, (data, error) in (malformed(good) | malformed_lossless(good)).items():
        path = folder / f"{name}.cae"
        expected[path.name] = error
        if not path.exists():
            path.write_bytes(data)
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


def main() -> None:
    """Write what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shipped", choices=SHIPPED, help="a shipped model to start anew with")
    parser.add_argument("--model", action="store_true", help="train the toy model anew")
    options = parser.parse_args()
    if options.model:
        train_toy()
    if options.shipped:
        remove_shipped(options.shipped)
    write_decode()
    write_shipped()
    write_errors()


if __name__ == "__main__":
    main()
