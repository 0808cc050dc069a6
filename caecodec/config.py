"""The numbers that define a model and the constants of the format that networks and bytes share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from caecodec.errors import ConfigError

PATCH = 8
"""Pixels per side of the patches that the first convolution sees (the 1/8 resolution)."""
STRIDE = 16
"""Pixels per latent position, each way."""
HYPER_STRIDE = 4
"""Latent positions per hyper-latent position, each way."""

MIN_QUALITY = 0.0
MAX_QUALITY = 100.0
DEFAULT_QUALITY = 50.0
MIN_EFFORT = 1
MAX_EFFORT = 9
DEFAULT_EFFORT = 3
MIN_LAMBDA = 0.0008
MAX_LAMBDA = 0.3

Progress = Callable[[float], None]
"""Called with the part of the work that is done, 0 to 1."""

NUM_SCALES = 64
"""Scale indexes of y; index 0 means that the symbol is 0 and is not coded."""
MIN_SCALE = 0.11
"""Standard deviation that scale index 0 stands for, in quantiser steps."""
OCTAVES_PER_SCALE = 0.16
"""Scale i stands for the standard deviation MIN_SCALE * 2**(OCTAVES_PER_SCALE * i)."""

MAX_SIZE = 4096
"""Largest value of any field of a `ModelConfig`."""
MAX_Z_TABLES = 2**15
"""Most CDF tables for z: with those of y, a table index fits in 16 bits."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of the main architecture (DESIGN: everything runs at 1/8 and 1/16 of the image).

    Attributes:
        channels: C, width at 1/8 resolution.
        latent_channels: M, channels of y and width at 1/16; a multiple of 4.
        hyper_channels: N, channels of z and width of the hyperprior.
        context_channels: width of the context network for means.
        encoder_blocks: blocks of the analysis transform at 1/8.
        decoder_blocks: blocks of the synthesis transform at 1/8.
        latent_blocks: blocks at 1/16, in each transform.
        quality_anchors: equally spaced qualities that own a row in each quality table.
    """

    channels: int = 192
    latent_channels: int = 320
    hyper_channels: int = 128
    context_channels: int = 192
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    latent_blocks: int = 1
    quality_anchors: int = 9

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
                raise ConfigError(
                    f"{field.name} is {value!r}, expected a whole number from 1 to {MAX_SIZE}"
                )
        if self.latent_channels % 4:
            raise ConfigError(
                f"latent_channels is {self.latent_channels}, expected a multiple of 4"
            )
        num_tables = self.quality_anchors * self.hyper_channels
        if num_tables > MAX_Z_TABLES:
            raise ConfigError(
                f"quality_anchors x hyper_channels is {num_tables}, expected at most {MAX_Z_TABLES}"
            )
        if self.quality_anchors < 2:
            raise ConfigError("quality_anchors is 1, expected at least 2")

    def to_dict(self) -> dict[str, int]:
        """Return the fields as a plain dict, for JSON."""
        return dataclasses.asdict(self)


def model_config_from(values: dict[str, Any]) -> ModelConfig:
    """Build a `ModelConfig` from parsed TOML or JSON.

    Raises:
        ConfigError: an unknown field or a value out of range.
    """
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown model field {unknown[0]!r}, expected one of {sorted(known)}")
    return ModelConfig(**values)


def rd_lambda(quality: float) -> float:
    """Return lambda of the loss bpp + lambda * 255**2 * MSE (MSE on [0, 1]) for a quality.

    Log-uniform from MIN_LAMBDA at quality 0 to MAX_LAMBDA at quality 100.
    """
    return math.exp(
        math.log(MIN_LAMBDA) + quality / MAX_QUALITY * math.log(MAX_LAMBDA / MIN_LAMBDA)
    )


def optimal_step(quality: float) -> float:
    """Return the uniform quantiser step, in units of x, that is optimal at high rate.

    With R = 3 (h - log2 step) bits and D = step**2 / 12 per pixel of three channels, the minimum of
    R + lambda 255**2 D lies at step**2 = 18 / (ln 2 lambda 255**2).
    """
    return math.sqrt(18 / (math.log(2) * rd_lambda(quality) * 255**2))
