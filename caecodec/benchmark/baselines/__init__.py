"""Published rate-distortion curves that the benchmark draws beside its own measurements.

They are results of others, not our measurements; bench/baselines/README.md lists the sources.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from caecodec.benchmark.bd_rate import bd_rates_against
from caecodec.benchmark.measure import Point
from caecodec.errors import ConfigError, first_line

KODAK_FILE = Path(__file__).parent / "kodak.json"
"""The shipped curves, for the 24 Kodak images."""
KODAK_NAMES = frozenset(f"kodim{number:02}" for number in range(1, 25))
"""Stems of the file names of the Kodak images."""
KODAK_SIZES = frozenset({(768, 512), (512, 768)})
"""Width and height of the Kodak images."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One published curve.

    Attributes:
        name: unique in its file.
        label: for tables and plots.
        source: where it was published: repository@commit and path.
        bpp: mean over images at each setting of the encoder, ascending.
        psnr: dB over RGB, mean over images, ascending; one for each bpp.
    """

    name: str
    label: str
    source: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The measured codecs compared with one published curve.

    Attributes:
        baseline: the curve.
        bd_rates: percent by measured codec, as from `bd_rates_against`.
    """

    baseline: Baseline
    bd_rates: dict[str, float | None]


def load_baselines(path: Path) -> list[Baseline]:
    """Read published curves.

    Args:
        path: JSON; "curves" maps a name to its "label", "source", "bpp" and "psnr". Other keys are
            notes.

    Raises:
        ConfigError: no such file, not JSON, or an invalid curve.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the baselines {path}: {first_line(error)}") from error
    curves = content.get("curves") if isinstance(content, dict) else None
    if not isinstance(curves, dict) or not curves:
        raise ConfigError(f"{path} has no curves, expected an object 'curves' with at least one")
    return [_baseline(name, fields, f"curve {name!r} of {path}") for name, fields in curves.items()]


def is_kodak(images: Sequence[tuple[str, Image.Image]]) -> bool:
    """Return whether a dataset is Kodak: all 24 names, each once, and their sizes.

    Args:
        images: as from `load_dataset`.
    """
    names = [PurePosixPath(name).stem.lower() for name, _ in images]
    return (
        len(names) == len(KODAK_NAMES)
        and set(names) == KODAK_NAMES
        and all(image.size in KODAK_SIZES for _, image in images)
    )


def compare(points: Iterable[Point], baselines: Iterable[Baseline]) -> list[Comparison]:
    """Compute the BD-rate of every measured codec against every published curve.

    Args:
        points: as from `summarize`, measured on the images of the baselines.
        baselines: as from `load_baselines`; their order is kept.

    Raises:
        ConfigError: bjontegaard is not installed.
    """
    measured = list(points)
    return [
        Comparison(baseline, bd_rates_against(_points(baseline), measured))
        for baseline in baselines
    ]


def _points(baseline: Baseline) -> list[Point]:
    return [
        Point(baseline.name, math.nan, 0, bpp, psnr, None, math.nan, math.nan)
        for bpp, psnr in zip(baseline.bpp, baseline.psnr, strict=True)
    ]


def _baseline(name: str, fields: Any, where: str) -> Baseline:
    if not isinstance(fields, Mapping):
        raise ConfigError(f"{where} is not an object, expected label, source, bpp and psnr")
    label, source = (_text(fields.get(key), f"{key} of {where}") for key in ("label", "source"))
    bpp, psnr = (_rising(fields.get(key), f"{key} of {where}") for key in ("bpp", "psnr"))
    if len(bpp) != len(psnr):
        raise ConfigError(f"{where} has {len(bpp)} bpp and {len(psnr)} psnr, expected as many")
    return Baseline(name, label, source, bpp, psnr)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} is {value!r}, expected text")
    return value


def _rising(values: Any, where: str) -> tuple[float, ...]:
    is_list = isinstance(values, list) and len(values) > 0
    if not is_list or not all(_is_positive(value) for value in values):
        raise ConfigError(f"{where} is not a list of positive numbers")
    if not all(low < high for low, high in pairwise(values)):
        raise ConfigError(f"{where} does not rise, expected ascending numbers")
    return tuple(float(value) for value in values)


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0
