"""The codecs that the benchmark compares, each as a pair of functions and its qualities.

Every Pillow codec is used as a person would use it who cares about size: JPEG with optimised
Huffman tables, WebP with method 6, PNG optimised. AVIF runs at Pillow's defaults (speed 6, 4:2:0,
one thread per core). Its bytes were the same with 2 to 16 threads, and up to 0.3 % different
with 1; its times use every core, as caecodec's do.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import PIL
from PIL import Image, features

from caecodec.config import MAX_QUALITY, MIN_QUALITY
from caecodec.errors import ConfigError

CODEC_NAMES = ("cae", "png", "jpeg", "webp", "avif")
"""What `make_codecs` accepts, in the order of its result."""
CAE_QUALITIES = tuple(float(quality) for quality in range(0, 101, 10))
"""caecodec's own qualities when the user gives none."""
LOSSLESS_QUALITY = 100.0
"""The only quality of a lossless codec."""


class Compressor(Protocol):
    """What the benchmark needs of a `caecodec.codec.Codec`."""

    def compress(self, image: Image.Image, *, quality: float) -> bytes:
        """Return the bytes of a `.cae` file."""
        ...

    def decompress(self, data: bytes) -> Image.Image:
        """Return the image of a `.cae` file."""
        ...


@dataclasses.dataclass(frozen=True)
class ImageCodec:
    """One curve of the benchmark.

    Attributes:
        name: unique; names the curve in every result.
        encode: image (RGB) and quality to the bytes of a whole file.
        decode: bytes of a whole file to the image, all pixels decoded.
        qualities: the points of the curve, each 0 to 100, ascending.
        is_lossless: decoding returns the image itself, so there is one point and no curve.
    """

    name: str
    encode: Callable[[Image.Image, float], bytes]
    decode: Callable[[bytes], Image.Image]
    qualities: tuple[float, ...]
    is_lossless: bool


def make_codecs(
    names: Iterable[str],
    *,
    cae: Compressor | None = None,
    qualities: Sequence[float] | None = None,
) -> list[ImageCodec]:
    """Build the codecs of a benchmark.

    Args:
        names: of CODEC_NAMES; "jpeg" gives two curves, "jpeg" (4:2:0) and "jpeg-444" (4:4:4).
        cae: the model behind "cae"; needed when that is among the names.
        qualities: for every lossy codec instead of its own; 0 to 100, and whole for all but "cae".

    Returns:
        The codecs in the order of CODEC_NAMES, each once.

    Raises:
        ConfigError: an unknown name, "cae" without a model, or a bad quality.
    """
    wanted = set(names)
    unknown = sorted(wanted - set(CODEC_NAMES))
    if unknown:
        raise ConfigError(f"unknown codec {unknown[0]!r}, expected one of {', '.join(CODEC_NAMES)}")
    codecs = [codec for name in CODEC_NAMES if name in wanted for codec in _curves(name, cae)]
    if qualities is None:
        return codecs
    return [codec if codec.is_lossless else _with_qualities(codec, qualities) for codec in codecs]


def library_versions() -> dict[str, str]:
    """Return the version of Pillow and of each library behind its codecs, for the results."""
    libraries = {"libjpeg-turbo": "libjpeg_turbo", "libwebp": "webp", "libavif": "avif"}
    versions = {name: features.version(feature) for name, feature in libraries.items()}
    return {
        "Pillow": PIL.__version__,
        **{name: str(text or "none") for name, text in versions.items()},
    }


def _curves(name: str, cae: Compressor | None) -> tuple[ImageCodec, ...]:
    if name != "cae":
        return _PILLOW_CODECS[name]
    if cae is None:
        raise ConfigError("codec 'cae' has no model, expected one")
    return (
        ImageCodec(
            "cae", partial(_compress, cae), cae.decompress, CAE_QUALITIES, is_lossless=False
        ),
    )


def _with_qualities(codec: ImageCodec, qualities: Sequence[float]) -> ImageCodec:
    for quality in qualities:
        if not MIN_QUALITY <= quality <= MAX_QUALITY:
            raise ConfigError(f"quality is {quality:g}, expected 0 to 100")
        if codec.name != "cae" and quality != int(quality):
            raise ConfigError(f"quality is {quality:g}, expected a whole number for {codec.name}")
    if not qualities:
        raise ConfigError("no quality, expected at least one")
    return dataclasses.replace(
        codec, qualities=tuple(sorted({float(value) for value in qualities}))
    )


def _compress(cae: Compressor, image: Image.Image, quality: float) -> bytes:
    return cae.compress(image, quality=quality)


def _pillow_encode(image: Image.Image, quality: float, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, quality=int(quality), **options)
    return buffer.getvalue()


def _pillow_decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _pillow_codec(name: str, qualities: tuple[float, ...], **options: Any) -> ImageCodec:
    encode = partial(_pillow_encode, **options)
    return ImageCodec(name, encode, _pillow_decode, qualities, is_lossless=False)


_JPEG_QUALITIES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)
_WEBP_QUALITIES = (5.0, *_JPEG_QUALITIES)
# About 0.1 to 2.1 bpp on Kodak; AVIF's scale is shifted against the others'.
_AVIF_QUALITIES = (10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)

_PILLOW_CODECS = {
    "png": (
        ImageCodec(
            "png",
            partial(_pillow_encode, format="PNG", optimize=True),
            _pillow_decode,
            (LOSSLESS_QUALITY,),
            is_lossless=True,
        ),
    ),
    "jpeg": (
        _pillow_codec("jpeg", _JPEG_QUALITIES, format="JPEG", optimize=True, subsampling="4:2:0"),
        _pillow_codec(
            "jpeg-444", _JPEG_QUALITIES, format="JPEG", optimize=True, subsampling="4:4:4"
        ),
    ),
    "webp": (_pillow_codec("webp", _WEBP_QUALITIES, format="WEBP", method=6),),
    "avif": (_pillow_codec("avif", _AVIF_QUALITIES, format="AVIF", speed=6),),
}
