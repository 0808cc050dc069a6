"""The codecs that the benchmark compares, each as a pair of functions and its qualities.

Every codec is used as someone who cares about size would use it: JPEG with optimised Huffman
tables, WebP with method 6, PNG optimised. "mozjpeg" is not mozjpeg's encoder, which has no
wheel: it is Pillow's progressive 4:2:0 JPEG after mozjpeg's lossless search for better scans. The
pixels are those of "jpeg"; mozjpeg's trellis quantisation is missing.

AVIF runs at Pillow's defaults (speed 6, 4:2:0, one thread per core), which libavif tunes for the
eye; "avif-psnr" is 4:4:4 and tuned for PSNR, the setting to beat by that. AVIF's bytes were the
same with 2 to 16 threads, and up to 0.3 % different with 1; its times use every core, as caecodec's
do.
JPEG XL (libjxl, effort 7) and JPEG 2000 (OpenJPEG) get one thread per core as well; threads do not
change their bytes. JPEG, WebP and PNG have one thread.

JPEG XL's quality is cjxl's `-q`, save that 100 is distance 0.1 and not lossless. It is tuned for
eyes, not for PSNR. JPEG 2000 (9/7 wavelet, with colour transform) is made to a rate, the same for
every image, as OpenJPEG's users do: quality q asks for 0.06 * 100^(q / 100) bits per pixel, so
20 more are 2.5 times the file. (Asking for a PSNR instead, the same for every image, gave a BD-rate
of +28 % against this on 10 images: means reward an equal rate more than an equal PSNR.)
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import PIL
from PIL import Image, features

from caecodec.benchmark.extras import import_extra
from caecodec.config import DEFAULT_EFFORT, EFFORTS, MAX_QUALITY, MIN_QUALITY, Tune
from caecodec.errors import ConfigError

CAE_EFFORTS = {f"cae-e{effort}": effort for effort in EFFORTS}
"""caecodec at an effort of its own; "cae" is at the default one."""
FIXED_MODELS = {**{f"cae-{tune}": str(tune) for tune in Tune}, "classic": "classic"}
"""caecodec with a fixed shipped model, at the default effort; the others take any model."""
CODEC_NAMES = (
    *("cae", *CAE_EFFORTS, *FIXED_MODELS),
    *("png", "jpeg", "mozjpeg", "webp", "jp2", "jxl", "avif", "avif-psnr"),
)
"""What `make_codecs` accepts, in the order of its result."""
CAE_QUALITIES = tuple(float(quality) for quality in range(0, 101, 10))
"""caecodec's own qualities when the user gives none."""
LOSSLESS_QUALITY = 100.0
"""The only quality of a lossless codec."""


class Compressor(Protocol):
    """What the benchmark needs of a `caecodec.codec.codec.Codec`."""

    def compress(self, image: Image.Image, *, quality: float, effort: int) -> bytes:
        """Return the bytes of a `.cae` file."""
        ...

    def decompress(self, data: bytes) -> Image.Image:
        """Return the image of a `.cae` file."""
        ...


@dataclasses.dataclass(frozen=True)
class ImageCodec:
    """One curve of the benchmark.

    Attributes:
        name: unique name of the curve in all results.
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
    models: Mapping[str, Compressor] | None = None,
    qualities: Sequence[float] | None = None,
) -> list[ImageCodec]:
    """Build the codecs of a benchmark.

    Args:
        names: any of CODEC_NAMES; "jpeg" gives two curves, "jpeg" (4:2:0) and "jpeg-444" (4:4:4).
        models: the model behind each name that is caecodec.
        qualities: for every lossy codec instead of its own; 0 to 100, and whole for all but
            caecodec.

    Returns:
        The codecs in the order of CODEC_NAMES, each once.

    Raises:
        ConfigError: an unknown name, caecodec without a model, a codec whose package is not
            installed, or a bad quality.
    """
    wanted = set(names)
    unknown = sorted(wanted - set(CODEC_NAMES))
    if unknown:
        raise ConfigError(f"unknown codec {unknown[0]!r}, expected one of {', '.join(CODEC_NAMES)}")
    codecs = [
        codec
        for name in CODEC_NAMES
        if name in wanted
        for codec in _curves(name, (models or {}).get(name))
    ]
    if qualities is None:
        return codecs
    return [codec if codec.is_lossless else _with_qualities(codec, qualities) for codec in codecs]


def is_cae(name: str) -> bool:
    """Return whether a codec of CODEC_NAMES is caecodec."""
    return name == "cae" or name in CAE_EFFORTS or name in FIXED_MODELS


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of Pillow and of each library behind these codecs, for the results.

    Args:
        names: as for `make_codecs`.

    Raises:
        ConfigError: the package of a codec is not installed.
    """
    wanted = set(names)
    versions = {"Pillow": PIL.__version__}
    for name, feature, library in _PILLOW_LIBRARIES:
        if name in wanted:
            versions[library] = str(features.version(feature) or "none")
    if "mozjpeg" in wanted:
        package = "mozjpeg-lossless-optimization"
        versions[package] = importlib.metadata.version(package)
    if "jxl" in wanted:
        imagecodecs = import_extra("imagecodecs")
        versions["imagecodecs"] = imagecodecs.__version__
        versions["libjxl"] = imagecodecs.jpegxl_version().removeprefix("libjxl ")
    return versions


def num_threads() -> int:
    """Return the threads that a codec gets: one per core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _curves(name: str, model: Compressor | None) -> tuple[ImageCodec, ...]:
    if name == "mozjpeg":
        return (_mozjpeg_codec(import_extra("mozjpeg_lossless_optimization")),)
    if name == "jxl":
        return (_jxl_codec(import_extra("imagecodecs")),)
    if not is_cae(name):
        return _PILLOW_CODECS[name]
    if model is None:
        raise ConfigError(f"codec {name!r} has no model, expected one")
    encode = partial(_compress, model, CAE_EFFORTS.get(name, DEFAULT_EFFORT))
    return (ImageCodec(name, encode, model.decompress, CAE_QUALITIES, is_lossless=False),)


def _with_qualities(codec: ImageCodec, qualities: Sequence[float]) -> ImageCodec:
    for quality in qualities:
        if not MIN_QUALITY <= quality <= MAX_QUALITY:
            raise ConfigError(f"quality is {quality:g}, expected 0 to 100")
        if not is_cae(codec.name) and quality != int(quality):
            raise ConfigError(f"quality is {quality:g}, expected a whole number for {codec.name}")
    if not qualities:
        raise ConfigError("no quality, expected at least one")
    return dataclasses.replace(
        codec, qualities=tuple(sorted({float(value) for value in qualities}))
    )


def _compress(model: Compressor, effort: int, image: Image.Image, quality: float) -> bytes:
    return model.compress(image, quality=quality, effort=effort)


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


def _mozjpeg_codec(mozjpeg: ModuleType) -> ImageCodec:
    def encode(image: Image.Image, quality: float) -> bytes:
        data = _pillow_encode(
            image, quality, format="JPEG", optimize=True, progressive=True, subsampling="4:2:0"
        )
        return bytes(mozjpeg.optimize(data))

    return ImageCodec("mozjpeg", encode, _pillow_decode, _JPEG_QUALITIES, is_lossless=False)


def _jp2_encode(image: Image.Image, quality: float) -> bytes:
    bits_per_pixel = 0.06 * 100 ** (quality / 100)
    buffer = io.BytesIO()
    with _openjpeg_threads():
        image.save(
            buffer,
            format="JPEG2000",
            quality_mode="rates",
            quality_layers=[24 / bits_per_pixel],
            irreversible=True,
            mct=1,
        )
    return buffer.getvalue()


def _jp2_decode(data: bytes) -> Image.Image:
    with _openjpeg_threads():
        return _pillow_decode(data)


@contextmanager
def _openjpeg_threads() -> Iterator[None]:
    """Set the threads of OpenJPEG, which reads only the environment."""
    variable = "OPJ_NUM_THREADS"
    before = os.environ.get(variable)
    os.environ[variable] = str(num_threads())
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _jxl_codec(imagecodecs: ModuleType) -> ImageCodec:
    def encode(image: Image.Image, quality: float) -> bytes:
        data = imagecodecs.jpegxl_encode(
            np.asarray(image),
            distance=_jxl_distance(quality),
            effort=7,
            lossless=False,
            numthreads=num_threads(),
        )
        return bytes(data)

    def decode(data: bytes) -> Image.Image:
        return Image.fromarray(imagecodecs.jpegxl_decode(data, numthreads=num_threads()))

    return ImageCodec("jxl", encode, decode, _JXL_QUALITIES, is_lossless=False)


def _jxl_distance(quality: float) -> float:
    """Return the Butteraugli distance of a quality.

    Source: libjxl, `JxlEncoderDistanceFromQuality`, but 0.1 at 100.
    """
    if quality >= 30:
        return 0.1 + 0.09 * (100 - quality)
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


_JPEG_QUALITIES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)
_WEBP_QUALITIES = (5.0, *_JPEG_QUALITIES)
# About 0.1 to 2.5 bpp on Kodak, JPEG 2000 by its definition.
_JP2_QUALITIES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 65.0, 70.0, 75.0, 80.0)
_JXL_QUALITIES = (0.0, 10.0, 20.0, 30.0, 50.0, 70.0, 80.0, 85.0, 90.0, 95.0)
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
    "jp2": (ImageCodec("jp2", _jp2_encode, _jp2_decode, _JP2_QUALITIES, is_lossless=False),),
    "avif": (_pillow_codec("avif", _AVIF_QUALITIES, format="AVIF", speed=6),),
    "avif-psnr": (
        _pillow_codec(
            "avif-psnr",
            _AVIF_QUALITIES,
            format="AVIF",
            speed=6,
            subsampling="4:4:4",
            advanced={"tune": "psnr"},
        ),
    ),
}

# The codec, Pillow's name of its library, the library's own name.
_PILLOW_LIBRARIES = (
    ("jpeg", "libjpeg_turbo", "libjpeg-turbo"),
    ("mozjpeg", "libjpeg_turbo", "libjpeg-turbo"),
    ("webp", "webp", "libwebp"),
    ("jp2", "jpg_2000", "OpenJPEG"),
    ("avif", "avif", "libavif"),
    ("avif-psnr", "avif", "libavif"),
)
