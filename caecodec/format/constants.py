"""The numbers of the format: quality, colour modes, limits. FORMAT.md sections 4 and 9."""

from __future__ import annotations

import enum
import math
import numbers

from caecodec.config import MAX_QUALITY, MIN_QUALITY
from caecodec.errors import ConfigError

VERSION = 1
MAX_SIDE = 65_535
SIZE_LIMIT = 178_956_970
"""Pixels of the largest image that is read or written unless a caller asks for more: Pillow's own
limit, twice its MAX_IMAGE_PIXELS."""
DIGEST_BYTES = 8
QUALITY_UNIT = 100
"""Header units per quality point."""

TILE_SIZES = (4, 8, 16, 32, 64, 128)
"""Sides of a tile, in units of 16 pixels."""


class Mode(enum.IntEnum):
    """Channels of the image, as Pillow names them."""

    L = 1
    LA = 2
    RGB = 3
    RGBA = 4

    @property
    def is_gray(self) -> bool:
        """Whether there is one channel of colour."""
        return self in (Mode.L, Mode.LA)

    @property
    def has_alpha(self) -> bool:
        """Whether an alpha box is required."""
        return self in (Mode.LA, Mode.RGBA)


def quality_to_units(quality: float) -> int:
    """Return the header's hundredths of a quality.

    Raises:
        ConfigError: not a number from 0 to 100.
    """
    is_number = isinstance(quality, numbers.Real) and math.isfinite(quality)
    if not is_number or not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise ConfigError(f"quality is {quality!r}, expected a number from 0 to 100")
    return round(quality * QUALITY_UNIT)
