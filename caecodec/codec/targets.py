"""Files of a wanted size, PSNR or SSIMULACRA2: a search over quality."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from caecodec.config import DEFAULT_EFFORT, MAX_QUALITY, Progress
from caecodec.errors import ConfigError, TargetError
from caecodec.extras import import_extra
from caecodec.format.constants import QUALITY_UNIT
from caecodec.image.metrics import psnr, ssimulacra2
from caecodec.image.picture import ImageLike, Pixels, take_apart

if TYPE_CHECKING:
    from caecodec.codec.codec import Codec

SIZE_SLACK = 0.01
"""The search stops at a size between (1 - SIZE_SLACK) of the target and the target."""
PSNR_SLACK = 0.03
"""The search stops at a PSNR between the target and this much above it, in dB."""
SEEN_SLACK = 0.3
"""The same for SSIMULACRA2."""
MAX_SSIMULACRA2 = 100
"""SSIMULACRA2 of the original itself."""
SECANT_STEPS = 8
"""Attempts after which the bracket is halved instead."""
MAX_UNITS = round(MAX_QUALITY * QUALITY_UNIT)
LOSSLESS_UNITS = MAX_UNITS + 1
"""To the search, the lossless file is one step of quality above 100."""
SEARCH_EFFORT = 3
"""Highest effort at which the search starts; a higher one continues from its result."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a file shall reach: exactly one of the four.

    Attributes:
        bpp: bits per pixel at most, everything counted.
        num_bytes: size at most.
        psnr: at least, in dB over the colour channels; alpha is lossless.
        ssimulacra2: at least, of the colour channels as if they were opaque; it needs the extra
            `bench`. 100 is the original, 90 is hardly told apart from it, 70 is high quality, 50
            medium.
    """

    bpp: float | None = None
    num_bytes: int | None = None
    psnr: float | None = None
    ssimulacra2: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in dataclasses.astuple(self) if value is not None]
        if len(given) != 1 or not math.isfinite(given[0]) or given[0] <= 0:
            raise ConfigError(
                "a target is one of bpp, num_bytes and psnr, or ssimulacra2, a number above 0"
            )
        if self.ssimulacra2 is not None:
            if self.ssimulacra2 > MAX_SSIMULACRA2:
                raise ConfigError(
                    f"SSIMULACRA2 is {self.ssimulacra2:g}, expected at most {MAX_SSIMULACRA2}"
                )
            import_extra("ssimulacra2", "bench")  # or an error before any work

    @property
    def measure(self) -> Callable[[Pixels, Pixels], float] | None:
        """What compares an original with what is decoded, or None where the size counts."""
        if self.psnr is not None:
            return psnr
        return None if self.ssimulacra2 is None else ssimulacra2


class _Attempt(NamedTuple):
    """A file at a quality, and what the search looks at: its log size, its PSNR or SSIMULACRA2.

    PSNR is infinite where the pixels are equal, and so is what the lossless file counts as.
    """

    units: int
    data: bytes
    value: float


class _Window(NamedTuple):
    """Values that meet a target.

    Attributes:
        low, high: the search stops between them.
        at_most: the target is `high` and must not be exceeded; otherwise it is `low`.
        slope: typical rise of the value per hundredth of a quality, for the first guesses.
    """

    low: float
    high: float
    at_most: bool
    slope: float


def compress_to(  # noqa: PLR0913 - two positional, the rest by name
    codec: Codec,
    image: ImageLike,
    *,
    target: Target,
    effort: int = DEFAULT_EFFORT,
    best_effort: bool = False,
    on_progress: Progress = lambda _: None,
) -> bytes:
    """Return a file that meets a target: a size from below, a PSNR or SSIMULACRA2 from above.

    What no quality reaches, the lossless file does, and a size that quality 100 does not fill gets
    it if it fits. The part of the analysis transform that no quality changes runs once, for images
    up to `encoder.MAX_STEM_PIXELS`.

    Args:
        codec: the model.
        image: as `Codec.compress`.
        target: a size is met within 2 %, a PSNR within 0.05 dB, SSIMULACRA2 within 0.5, where
            steps of quality allow it.
        effort: as in `Codec.compress`.
        best_effort: take the smallest file instead of an error.
        on_progress: called after each file that is tried.

    Raises:
        TargetError: the file of quality 0 is too large; the message names its size.
        ImageError, ConfigError: as `Codec.compress`.
    """
    compression = codec.start(image, keep_stems=True)
    picture = compression.picture
    pixels = picture.whole.width * picture.whole.height
    window, measure = _window(target, pixels), target.measure
    parts = (1 - 0.8**count for count in itertools.count(1))  # how many files it takes is unknown

    def try_at(units: int, level: int) -> _Attempt:
        if units == LOSSLESS_UNITS:
            data = compression.compress_losslessly()
        else:
            data = compression.compress(units / QUALITY_UNIT, effort=level)
        on_progress(next(parts))
        if measure is None:
            return _Attempt(units, data, math.log(len(data)))
        if units == LOSSLESS_UNITS:
            return _Attempt(units, data, math.inf)
        decoded = take_apart(codec.decompress(data)).color
        return _Attempt(units, data, measure(picture.color, decoded))

    start = MAX_UNITS // 2
    if effort > SEARCH_EFFORT:
        start = _search(lambda units: try_at(units, SEARCH_EFFORT), window, start)[0].units
    found, is_met = _search(lambda units: try_at(units, effort), window, start)
    if not is_met and not best_effort:
        size = len(found.data)
        raise TargetError(
            f"the target is out of range: the nearest is {size:,} bytes, "
            f"{8 * size / pixels:.4f} bpp, at quality 0"
        )
    return found.data


def _window(target: Target, pixels: int) -> _Window:
    if target.psnr is not None:
        return _Window(target.psnr, target.psnr + PSNR_SLACK, at_most=False, slope=1.2e-3)
    if target.ssimulacra2 is not None:
        wanted = target.ssimulacra2
        return _Window(wanted, wanted + SEEN_SLACK, at_most=False, slope=7e-3)
    size = target.num_bytes if target.bpp is None else math.floor(target.bpp * pixels / 8)
    high = math.log(max(size or 0, 1))
    return _Window(high + math.log1p(-SIZE_SLACK), high, at_most=True, slope=2.8e-4)


def _search(
    try_at: Callable[[int], _Attempt], window: _Window, start: int
) -> tuple[_Attempt, bool]:
    """Find the attempt in the window, or the nearest one on the side that is allowed.

    Secant steps inside a bracket that shrinks with each attempt: values rise with quality, so an
    attempt below the window excludes all lower qualities, and one above it all higher ones. (A size
    may fall where more becomes lossless; what is found then meets the target still.) Of infinite
    values nothing can be told by a secant: the bracket is halved.

    Returns:
        The attempt, and whether it is on the allowed side: a size that not even the lossless file
        fills, and a PSNR that quality 0 exceeds, count as met.
    """
    below: _Attempt | None = None
    above: _Attempt | None = None
    last: _Attempt | None = None
    aim, slope, units = (window.low + window.high) / 2, window.slope, start
    for count in itertools.count(1):
        attempt = try_at(units)
        if window.low <= attempt.value <= window.high:
            return attempt, True
        if attempt.value < window.low:
            below = attempt
        else:
            above = attempt
        low = below.units + 1 if below else 0
        high = above.units - 1 if above else min(max(low, MAX_UNITS), LOSSLESS_UNITS)
        if low > high:
            break
        units = (low + high) // 2
        if math.isfinite(attempt.value):
            if last and (attempt.value - last.value) * (attempt.units - last.units) > 0:
                slope = (attempt.value - last.value) / (attempt.units - last.units)
            if count <= SECANT_STEPS:
                units = round(min(max(attempt.units + (aim - attempt.value) / slope, low), high))
            last = attempt
    allowed, other = (below, above) if window.at_most else (above, below)
    return allowed or other or attempt, allowed is not None
