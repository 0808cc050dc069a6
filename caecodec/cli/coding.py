"""The work behind `caecodec compress` and `caecodec decompress`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caecodec.cli.console import run_jobs
from caecodec.cli.files import (
    PIPE,
    Job,
    check_target,
    open_source,
    read_source,
    remove_source,
    write_target,
)
from caecodec.config import DEFAULT_QUALITY, REDUCTIONS
from caecodec.container import QUALITY_UNIT, SIZE_LIMIT, unpack, unpack_header
from caecodec.errors import ConfigError, FormatError
from caecodec.pixels import FORMATS, decode_alpha, open_image, save_image
from caecodec.targets import Target, compress_to

if TYPE_CHECKING:
    from PIL import Image

    from caecodec.codec import Codec

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def parse_target(
    quality: float | None, size: str | None, bpp: float | None, psnr: float | None
) -> Target | None:
    """Return the target that the options name, or None for a quality.

    Raises:
        ConfigError: more than one of them, or a size that is not a number.
    """
    options = {
        "--quality": quality, "--target-size": size, "--target-bpp": bpp, "--target-psnr": psnr
    }  # fmt: skip
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{given[0]} and {given[1]} exclude each other: give one of them")
    if size is not None:
        return Target(num_bytes=_parse_number(size, "--target-size", "bytes such as 12k or 1.5M"))
    if bpp is None and psnr is None:
        return None
    return Target(bpp=bpp, psnr=psnr)


def compress_all(
    jobs: Sequence[Job],
    *,
    quality: float | None,
    target: Target | None,
    effort: int,
    best_effort: bool,
    verify: bool,
    remove: bool,
    force: bool,
    model: str | None,
    size_limit: int,
) -> None:
    """Compress every job's image to its quality, or to the target.

    With `verify` or `remove`, a file counts as done when what was written decodes; `remove` then
    deletes the input.
    """
    if (verify or remove) and any(PIPE in (job.source, job.target) for job in jobs):
        raise ConfigError("--verify and --rm need files: a pipe cannot be read back or removed")

    def work(job: Job, on_progress: Callable[[float], None]) -> str:
        check_target(job, force=force)
        image = open_image(open_source(job.source), job.source, size_limit=size_limit)
        codec = _codec(model or "main", size_limit)
        started = time.perf_counter()
        if target:
            data = compress_to(
                codec,
                image,
                target=target,
                effort=effort,
                best_effort=best_effort,
                on_progress=on_progress,
            )
        else:
            chosen = DEFAULT_QUALITY if quality is None else quality
            data = codec.compress(image, quality=chosen, effort=effort, on_progress=on_progress)
        seconds = time.perf_counter() - started

        def approve(written: bytes) -> None:
            codec.decompress(written, reduce=8)  # all of it, in little memory

        write_target(
            job.target,
            lambda file: file.write(data),
            approve=approve if verify or remove else None,
        )
        if remove:
            remove_source(job.source)
        bpp = 8 * len(data) / (image.width * image.height)
        quality_made = unpack_header(data).quality_units / QUALITY_UNIT
        facts = f"{len(data):,} bytes, {bpp:.3f} bpp, quality {quality_made:g}, {seconds:.2f} s"
        return _summary(job, facts)

    run_jobs(jobs, work)


def parse_crop(text: str | None) -> tuple[int, int, int, int] | None:
    """Return x, y, width and height of `--crop`.

    Raises:
        ConfigError: it is not four whole numbers.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text.strip())
    if match is None:
        raise ConfigError(f"--crop is {text!r}, expected X,Y,W,H in pixels, such as 0,0,640,480")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def decompress_all(
    jobs: Sequence[Job],
    *,
    suffix: str | None,
    crop: tuple[int, int, int, int] | None,
    reduce: int,
    allow_partial: bool,
    force: bool,
    model: str | None,
    size_limit: int,
) -> None:
    """Decompress every job's file, or a part of it, or smaller, or what is intact of it.

    `suffix` names the format, or None for that of the output.
    """
    if allow_partial and (crop or reduce > 1):
        raise ConfigError("--allow-partial takes the whole image: leave out --crop and --scale")

    def work(job: Job, on_progress: Callable[[float], None]) -> str:
        check_target(job, force=force)
        data = read_source(job.source)
        codec = _codec_for(data, model, size_limit)
        started = time.perf_counter()
        losses: list[str] = []
        if allow_partial:
            image, losses = codec.salvage(data)
        else:
            image = codec.decompress(data, crop=crop, reduce=reduce, on_progress=on_progress)
        seconds = time.perf_counter() - started
        default = ".png" if job.target == PIPE else Path(job.target).suffix
        dropped = _write_image(job.target, image, suffix or default)
        if losses:
            raise FormatError(f"{job.target} written without what is lost: {'; '.join(losses)}")
        note = f", {' and '.join(dropped)} dropped: the format cannot hold it" if dropped else ""
        return _summary(job, f"{image.width} x {image.height}, {seconds:.2f} s{note}")

    run_jobs(jobs, work)


def make_thumbnail(job: Job, *, size: int, model: str | None, size_limit: int) -> None:
    """Write an image of at most `size` pixels a side, upright, in the format of its suffix."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - after the arguments are known to be right

    data = read_source(job.source)
    codec = _codec_for(data, model, size_limit)
    header = unpack_header(data, size_limit=size_limit)
    longest = max(header.width, header.height)
    reduce = max(factor for factor in REDUCTIONS if factor == 1 or longest >= factor * size)
    image = ImageOps.exif_transpose(codec.decompress(data, reduce=reduce))
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    _write_image(job.target, image, Path(job.target).suffix)


def _write_image(target: str, image: Image.Image, suffix: str) -> list[str]:
    """Write in the format of a suffix (PNG for an unknown one); return what it cannot hold."""
    dropped: list[str] = []
    image_format = FORMATS.get(suffix.lower(), "PNG")
    write_target(target, lambda file: dropped.extend(save_image(image, file, image_format)))
    return dropped


def verify_all(paths: Sequence[str], *, deep: bool, model: str | None, size_limit: int) -> None:
    """Check every file's framing, checksums and alpha; if deep, decode its symbols as well."""

    def work(job: Job, _: Callable[[float], None]) -> str:
        data = read_source(job.source)
        container = unpack(data, size_limit=size_limit)
        header, count = container.header, len(container.tiles)
        if container.alpha is not None:
            decode_alpha(container.alpha, header.width, header.height)
        if deep:
            _codec_for(data, model, size_limit).file_symbols(data)
        tiles = f"{count} tile{'s' if count > 1 else ''}{', symbols decoded' if deep else ''}"
        return f"{job.source}: whole, {header.width} x {header.height}, {tiles}"

    run_jobs([Job(path, PIPE) for path in paths], work)


def parse_scale(text: str) -> int:
    """Return how many times smaller `--scale` makes an image.

    Raises:
        ConfigError: it is none of 1, 1/2, 1/4, 1/8.
    """
    scales = {"1" if factor == 1 else f"1/{factor}": factor for factor in REDUCTIONS}
    if text.strip() not in scales:
        raise ConfigError(f"--scale is {text!r}, expected one of {', '.join(scales)}")
    return scales[text.strip()]


def parse_size_limit(text: str | None) -> int:
    """Return the pixels of `--size-limit`.

    Raises:
        ConfigError: it is not a number.
    """
    if text is None:
        return SIZE_LIMIT
    return _parse_number(text, "--size-limit", "pixels such as 200M or 1.5G")


def _parse_number(text: str, option: str, expected: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]?)b?", text.strip().lower())
    if match is None:
        raise ConfigError(f"{option} is {text!r}, expected {expected}")
    return int(float(match[1]) * _UNITS[match[2]])


def _codec(model: str, size_limit: int) -> Codec:
    from caecodec.codec import shared_codec  # noqa: PLC0415 - loads torch

    return shared_codec(model, size_limit=size_limit)


def _codec_for(data: bytes, model: str | None, size_limit: int) -> Codec:
    unpack_header(data, size_limit=size_limit)  # before torch: what is no file is told at once
    if model:
        return _codec(model, size_limit)
    from caecodec.codec import codec_for  # noqa: PLC0415 - loads torch

    return codec_for(data, size_limit=size_limit)


def _summary(job: Job, facts: str) -> str:
    return f"{job.source} -> {job.target}: {facts}"
