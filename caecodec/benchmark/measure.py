"""Measure codecs on images: rate, distortion and time of every file, and their means."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from caecodec.benchmark.codecs import ImageCodec
from caecodec.benchmark.extras import import_extra
from caecodec.errors import ImageError, first_line
from caecodec.image.image_files import image_suffixes, open_raster
from caecodec.image.metrics import MAX_LEVEL, MIN_SEEN, psnr, ssimulacra2

MS_SSIM_LIMIT = 160
"""MS-SSIM needs more pixels than this on each side: an 11-tap window after four halvings."""

MAX_PSNR = 99.0
"""What an image counts as in a mean, in dB, if its pixels are equal or hardly differ."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One image through one codec at one quality.

    Attributes:
        image: name of the image.
        codec: name of the codec.
        quality: 0 to 100, on the codec's own scale.
        width: in pixels.
        height: in pixels.
        num_bytes: length of the real file, header included.
        bpp: 8 * num_bytes / (width * height).
        psnr: dB over RGB; infinity when the decoded image is equal.
        ms_ssim: at most 1; None when a side is not above MS_SSIM_LIMIT.
        encode_seconds: wall time, image in memory to bytes in memory.
        decode_seconds: wall time, bytes in memory to image in memory.
        ssimulacra2: at most 100; None when it was not requested, or for an image below 8 pixels.
    """

    image: str
    codec: str
    quality: float
    width: int
    height: int
    num_bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_seconds: float
    decode_seconds: float
    ssimulacra2: float | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    """One codec at one quality, over all images.

    Attributes:
        codec: name of the codec.
        quality: 0 to 100, on the codec's own scale.
        num_images: records behind this point.
        bpp: mean over images.
        psnr: mean over images, dB, each at most MAX_PSNR; infinity when all were decoded unchanged.
        ms_ssim: mean over the images that have one; None when there is none.
        encode_seconds_per_megapixel: median over images.
        decode_seconds_per_megapixel: median over images.
        ssimulacra2: mean over images; None when it was not requested.
    """

    codec: str
    quality: float
    num_images: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_seconds_per_megapixel: float
    decode_seconds_per_megapixel: float
    ssimulacra2: float | None = None


class Progress(Protocol):
    """Called after each record with the numbers of records done and in total."""

    def __call__(self, done: int, total: int, record: Record) -> None:
        """Show one record."""


def load_dataset(folder: Path) -> list[tuple[str, Image.Image]]:
    """Decode every image of a folder and its subfolders.

    Grayscale and palette images become RGB, alpha is dropped (not composited), and metadata is
    dropped, so that the files of all codecs hold pixels alone. Tar shards are not opened.

    Returns:
        Path below the folder and RGB image, in order of the paths.

    Raises:
        ImageError: no such folder, no image in it, or an image that is damaged or not 8-bit.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder, expected a folder of images")
    suffixes = image_suffixes()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not paths:
        raise ImageError(f"no image in {folder}, by the suffixes of its files")
    return [(path.relative_to(folder).as_posix(), _load_rgb(path)) for path in paths]


def ms_ssim(reference: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float | None:
    """Return the multi-scale structural similarity over RGB.

    Args:
        reference: uint8 (H, W, 3).
        decoded: uint8, same shape as `reference`.

    Returns:
        At most 1; None when the smaller side is 160 pixels (MS_SSIM_LIMIT) or less.

    Raises:
        ConfigError: torch or pytorch-msssim is not installed.

    Source: Wang, Simoncelli and Bovik 2003, as in pytorch-msssim.
    """
    if min(reference.shape[:2]) <= MS_SSIM_LIMIT:
        return None
    torch = import_extra("torch")
    similarity = import_extra("pytorch_msssim").ms_ssim
    planes = torch.from_numpy(np.stack((reference, decoded))).permute(0, 3, 1, 2).float()
    return float(similarity(planes[:1], planes[1:], data_range=MAX_LEVEL))


def run_benchmark(
    images: Sequence[tuple[str, Image.Image]],
    codecs: Sequence[ImageCodec],
    *,
    with_ssimulacra2: bool = False,
    known: Iterable[Record] = (),
    on_progress: Progress | None = None,
) -> list[Record]:
    """Encode and decode every image with every codec at every quality.

    Before anything is timed, each codec runs once on the first image, so that no time includes
    loading libraries and weights.

    Args:
        images: names and RGB images, as from `load_dataset`.
        codecs: as from `make_codecs`.
        with_ssimulacra2: also measure SSIMULACRA2, which takes 0.7 s per megapixel.
        known: records of an earlier run on these images. Where the same codec gives a file of the
            same length and PSNR again, MS-SSIM and SSIMULACRA2 are taken from there.
        on_progress: called after each record.

    Returns:
        Records by image, then codec, then quality. Their rate is the length of the encoded bytes.

    Raises:
        ImageError: a codec returned an image of another size.
        ConfigError: an optional dependency is not installed.
    """
    for codec in codecs:
        for name, image in images[:1]:
            _measure(name, image, codec, codec.qualities[0])
    total = len(images) * sum(len(codec.qualities) for codec in codecs)
    earlier = {_identity(record): record for record in known}
    records: list[Record] = []
    for name, image in images:
        for codec in codecs:
            for quality in codec.qualities:
                record = _measure(
                    name, image, codec, quality, with_ssimulacra2=with_ssimulacra2, known=earlier
                )
                records.append(record)
                if on_progress:
                    on_progress(len(records), total, records[-1])
    return records


def summarize(records: Iterable[Record]) -> list[Point]:
    """Average over images: one point per codec and quality, in order of first appearance."""
    groups: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        groups.setdefault((record.codec, record.quality), []).append(record)
    return [_point(group) for group in groups.values()]


def mean_psnr(values: Sequence[float]) -> float:
    """Return the mean of PSNRs in dB, each at most MAX_PSNR; infinity when all are."""
    if all(map(math.isinf, values)):
        return math.inf
    return statistics.fmean(min(value, MAX_PSNR) for value in values)


def _load_rgb(path: Path) -> Image.Image:
    try:
        with open_raster(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ImageError(
                    f"{path} has pixels of mode {image.mode}, expected 8 bits per channel"
                )
            # Pillow warns when a palette with transparency becomes RGB in one step.
            opaque = image.convert("RGBA") if image.has_transparency_data else image
            return Image.fromarray(np.asarray(opaque.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot decode {path}: {first_line(error)}") from error


def _measure(  # noqa: PLR0913 - what a record is of, and how it is made
    name: str,
    image: Image.Image,
    codec: ImageCodec,
    quality: float,
    *,
    with_ssimulacra2: bool = False,
    known: Mapping[tuple[Any, ...], Record] = MappingProxyType({}),
) -> Record:
    started = time.perf_counter()
    data = codec.encode(image, quality)
    encoded = time.perf_counter()
    decoded_image = codec.decode(data)
    finished = time.perf_counter()
    decoded_image = decoded_image.convert("RGB")
    reference, decoded = np.asarray(image), np.asarray(decoded_image)
    record = Record(
        image=name,
        codec=codec.name,
        quality=quality,
        width=image.width,
        height=image.height,
        num_bytes=len(data),
        bpp=8 * len(data) / (image.width * image.height),
        psnr=psnr(reference, decoded),
        ms_ssim=None,
        encode_seconds=encoded - started,
        decode_seconds=finished - encoded,
    )
    same = known.get(_identity(record))
    if same is not None and (same.ssimulacra2 is not None or not with_ssimulacra2):
        return dataclasses.replace(record, ms_ssim=same.ms_ssim, ssimulacra2=same.ssimulacra2)
    return dataclasses.replace(
        record,
        ms_ssim=ms_ssim(reference, decoded),
        ssimulacra2=_seen(reference, decoded) if with_ssimulacra2 else None,
    )


def _identity(record: Record) -> tuple[Any, ...]:
    """Return what only a file of the same pixels shares with this one."""
    return (
        record.image,
        record.codec,
        record.quality,
        record.width,
        record.height,
        record.num_bytes,
        round(record.psnr, 6),
    )


def _seen(reference: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> float | None:
    """Return SSIMULACRA2, or None for an image that is too small to have one."""
    return None if min(reference.shape[:2]) < MIN_SEEN else ssimulacra2(reference, decoded)


def _point(group: list[Record]) -> Point:
    similarities = [record.ms_ssim for record in group if record.ms_ssim is not None]
    seen = [record.ssimulacra2 for record in group if record.ssimulacra2 is not None]
    megapixels = [record.width * record.height / 1e6 for record in group]
    encode = [record.encode_seconds / size for record, size in zip(group, megapixels, strict=True)]
    decode = [record.decode_seconds / size for record, size in zip(group, megapixels, strict=True)]
    return Point(
        codec=group[0].codec,
        quality=group[0].quality,
        num_images=len(group),
        bpp=statistics.fmean(record.bpp for record in group),
        psnr=mean_psnr([record.psnr for record in group]),
        ms_ssim=statistics.fmean(similarities) if similarities else None,
        encode_seconds_per_megapixel=statistics.median(encode),
        decode_seconds_per_megapixel=statistics.median(decode),
        ssimulacra2=statistics.fmean(seen) if seen else None,
    )
