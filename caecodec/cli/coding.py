"""The implementation of `compress`, `decompress`, `thumbnail` and `verify`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from caecodec.cli.batch import Batch, Outcome, run_jobs
from caecodec.cli.jobs import Job, Plan
from caecodec.codec.targets import Target, compress_to
from caecodec.config import Progress, largest_reduction
from caecodec.errors import ConfigError, FormatError
from caecodec.files.places import file_size, is_pipe, open_file, read_file, write_file
from caecodec.format.constants import MAX_SIDE
from caecodec.format.container import unpack, unpack_header
from caecodec.image.alpha import decode_alpha
from caecodec.image.image_files import read_image
from caecodec.image.lossless import pixels_of
from caecodec.image.metrics import psnr
from caecodec.image.picture import take_apart
from caecodec.image.saving import FORMATS, check_saved, save_image
from caecodec.inspection import info

if TYPE_CHECKING:
    from PIL import Image

    from caecodec.codec.codec import Codec


@dataclasses.dataclass(frozen=True)
class Compressing:
    """What `compress` does with each image.

    Attributes:
        quality: 0..100, or None for the default.
        target: a size, PSNR or SSIMULACRA2 to reach instead.
        lossless: keep every pixel instead.
        effort: 1, 3, 5, 7 or 9.
        best_effort: write the closest result if the target is unreachable.
        verify: decode each written file before it counts as done.
        measures_psnr: decode each file and report its PSNR.
        model: name or path of the model.
        size_limit: pixels of the largest image accepted.
    """

    quality: float | None
    target: Target | None
    lossless: bool
    effort: int
    best_effort: bool
    verify: bool
    measures_psnr: bool
    model: str
    size_limit: int


def compress_all(plan: Plan, options: Compressing, batch: Batch) -> None:
    """Compress every job's image to its quality or the target, or losslessly."""
    if options.verify and any(is_pipe(job.source) or is_pipe(job.target) for job in plan.jobs):
        raise ConfigError("--verify and --rm need files: a pipe cannot be read back or removed")
    run_jobs(plan, functools.partial(_compress, options), batch)


def _compress(options: Compressing, job: Job, on_progress: Progress) -> Outcome:
    source = open_file(job.source)
    image, not_stored = read_image(source, job.source, size_limit=options.size_limit)
    codec = _codec(options.model, options.size_limit)
    started = time.perf_counter()
    data = _encoded(options, codec, image, on_progress)
    seconds = time.perf_counter() - started

    def approve(written: BinaryIO) -> None:
        try:
            codec.decompress(written.read(), scale=1 / 8)  # all of it, in little memory
        except FormatError as error:
            raise FormatError(
                f"what was written as {job.target} does not decode: {error}"
            ) from error

    write_file(
        job.target, lambda file: file.write(data), approve=approve if options.verify else None
    )
    what = info(data)
    facts = _facts(data, seconds) | {"lossless_share": what.lossless_share}
    notes = [f"{len(data):,} bytes, {what.bpp:.3f} bpp, {what.fidelity}", f"{seconds:.2f} s"]
    if options.measures_psnr:
        value = psnr(take_apart(image).color, take_apart(codec.decompress(data)).color)
        are_equal = math.isinf(value)
        facts["psnr"] = None if are_equal else round(value, 4)
        notes.insert(1, "pixels equal" if are_equal else f"{value:.2f} dB")
    if not_stored:
        notes.append(f"not stored: {', '.join(not_stored)}")
    return Outcome(
        line=_summary(job, ", ".join(notes)),
        facts=facts,
        not_stored=not_stored,
        pixels=image.width * image.height,
        bytes_in=file_size(job.source),
        bytes_out=len(data),
    )


def _encoded(
    options: Compressing, codec: Codec, image: Image.Image, on_progress: Progress
) -> bytes:
    if options.target:
        return compress_to(
            codec,
            image,
            target=options.target,
            effort=options.effort,
            best_effort=options.best_effort,
            on_progress=on_progress,
        )
    return codec.compress(
        image,
        quality=options.quality,
        lossless=options.lossless,
        effort=options.effort,
        on_progress=on_progress,
    )


def _facts(data: bytes, seconds: float) -> dict[str, Any]:
    """Return the fields of a file in JSON output."""
    header = unpack_header(data, size_limit=MAX_SIDE**2)
    return {
        "width": header.width,
        "height": header.height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "quality": header.quality,
        "seconds": round(seconds, 4),
    }


@dataclasses.dataclass(frozen=True)
class Decompressing:
    """What `decompress` does with each file.

    Attributes:
        suffix: suffix of the output format, or None for that of the output.
        crop: x, y, width and height of the part to decode, or None for all.
        scale: 1, 1/2, 1/4 or 1/8 of the size each way.
        allow_partial: write the intact parts of a damaged file, and fail.
        model: name or path of the model, or None for the one that the file names.
        size_limit: pixels of the largest image accepted.
    """

    suffix: str | None
    crop: tuple[int, int, int, int] | None
    scale: float
    allow_partial: bool
    model: str | None
    size_limit: int

    def __post_init__(self) -> None:
        if self.allow_partial and (self.crop or self.scale < 1):
            raise ConfigError("--allow-partial takes the whole image: leave out --crop and --scale")


def decompress_all(plan: Plan, options: Decompressing, batch: Batch) -> None:
    """Decompress every job's file: all of it, a part, at reduced size, or what is intact."""
    run_jobs(plan, functools.partial(_decompress, options), batch)


def _decompress(options: Decompressing, job: Job, on_progress: Progress) -> Outcome:
    data = read_file(job.source)
    codec = _codec_for(data, options.model, options.size_limit)
    started = time.perf_counter()
    losses: list[str] = []
    if options.allow_partial:
        image, losses = codec.salvage(data)
    else:
        image = codec.decompress(
            data, crop=options.crop, scale=options.scale, on_progress=on_progress
        )
    seconds = time.perf_counter() - started
    dropped = _write_image(job.target, image, options.suffix or Path(job.target).suffix)
    if losses:
        raise FormatError(f"{job.target} written without what is lost: {'; '.join(losses)}")
    note = f", {' and '.join(dropped)} dropped: the format cannot hold it" if dropped else ""
    return Outcome(
        line=_summary(job, f"{image.width} x {image.height}, {seconds:.2f} s{note}"),
        facts=_facts(data, seconds),
        not_stored=tuple(dropped),
        pixels=image.width * image.height,
        bytes_in=len(data),
        bytes_out=file_size(job.target),
    )


def make_thumbnail(job: Job, *, size: int, model: str | None, size_limit: int) -> None:
    """Write an upright image of at most `size` pixels per side, in the format of its suffix."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - after the arguments are known to be right

    data = read_file(job.source)
    codec = _codec_for(data, model, size_limit)
    header = unpack_header(data, size_limit=size_limit)
    reduction = largest_reduction(max(header.width, header.height), size)
    image = ImageOps.exif_transpose(codec.decompress(data, scale=1 / reduction))
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    _write_image(job.target, image, Path(job.target).suffix)


def _write_image(target: str, image: Image.Image, suffix: str) -> list[str]:
    """Write in the format of a suffix, PNG if unknown; return the metadata that it cannot hold."""
    dropped: list[str] = []
    image_format = FORMATS.get(suffix.lower(), "PNG")
    write_file(
        target,
        lambda file: dropped.extend(save_image(image, file, image_format)),
        approve=lambda written: check_saved(written, image, image_format, dropped),
    )
    return dropped


def verify_all(
    paths: Sequence[str], *, deep: bool, model: str | None, size_limit: int, batch: Batch
) -> None:
    """Check each file's framing, checksums, alpha and lossless blocks; if deep, symbols, too."""

    def work(job: Job, _: Progress) -> Outcome:
        data = read_file(job.source)
        started = time.perf_counter()
        container = unpack(data, size_limit=size_limit)
        header, count = container.header, len(container.tiles)
        if container.alpha is not None:
            decode_alpha(container.alpha, header.width, header.height)
        for number, tile in enumerate(container.tiles):
            if tile.lossless:
                pixels_of(tile.lossless, header, number)
        if deep:
            _codec_for(data, model, size_limit).file_symbols(data)
        tiles = f"{count} tile{'s' if count > 1 else ''}{', symbols decoded' if deep else ''}"
        return Outcome(
            line=f"{job.source}: whole, {header.width} x {header.height}, {tiles}",
            facts=_facts(data, time.perf_counter() - started),
            pixels=header.width * header.height,
            bytes_in=len(data),
        )

    run_jobs(Plan([Job(path, "") for path in paths]), work, batch)


def _codec(model: str, size_limit: int) -> Codec:
    with _no_collections_while_torch_loads():
        from caecodec.codec.codec import shared_codec  # noqa: PLC0415 - loads torch

    return shared_codec(model, size_limit=size_limit)


def _codec_for(data: bytes, model: str | None, size_limit: int) -> Codec:
    unpack_header(data, size_limit=size_limit)  # before loading torch: bad files fail at once
    if model:
        return _codec(model, size_limit)
    with _no_collections_while_torch_loads():
        from caecodec.codec.codec import codec_for  # noqa: PLC0415 - loads torch

    return codec_for(data, size_limit=size_limit)


@contextlib.contextmanager
def _no_collections_while_torch_loads() -> Iterator[None]:
    """Load torch faster: none of its half a million objects is garbage, now or later."""
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _summary(job: Job, facts: str) -> str:
    return f"{job.source} -> {job.target}: {facts}"
