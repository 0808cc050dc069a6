"""The values of options that are text with a meaning of its own: targets, crops, scales, sizes."""

from __future__ import annotations

import re

from caecodec.codec.targets import Target
from caecodec.config import REDUCTIONS
from caecodec.errors import ConfigError
from caecodec.format.constants import SIZE_LIMIT

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def parse_target(
    *,
    quality: float | None,
    effort: int | None,
    lossless: bool,
    size: str | None,
    bpp: float | None,
    psnr: float | None,
    ssimulacra2: float | None,
) -> Target | None:
    """Return the target that the options set, or None for a quality and for no loss.

    Raises:
        ConfigError: options that exclude each other, or a size that is not a number.
    """
    options = {
        "--lossless": lossless or None,
        "--effort": effort if lossless else None,
        "--quality": quality,
        "--target-size": size,
        "--target-bpp": bpp,
        "--target-psnr": psnr,
        "--target-ssimulacra2": ssimulacra2,
    }
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{given[0]} and {given[1]} exclude each other: give one of them")
    if size is not None:
        return Target(num_bytes=_parse_number(size, "--target-size", "bytes such as 12k or 1.5M"))
    if bpp is None and psnr is None and ssimulacra2 is None:
        return None
    return Target(bpp=bpp, psnr=psnr, ssimulacra2=ssimulacra2)


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


def parse_scale(text: str) -> float:
    """Return the number that `--scale` gives.

    Raises:
        ConfigError: it is none of 1, 1/2, 1/4, 1/8.
    """
    scales = {"1" if factor == 1 else f"1/{factor}": 1 / factor for factor in REDUCTIONS}
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
