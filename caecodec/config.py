"""The numbers that define a model and the constants of the format that networks and bytes share."""

from __future__ import annotations

import dataclasses
import enum
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
EFFORTS = (1, 3, 5, 7, 9)
"""Levels of effort; those between would hardly pay."""
DEFAULT_EFFORT = 3
REDUCTIONS = (1, 2, 4, 8)
"""How many times smaller an image can be decoded, each way."""
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
"""Largest value of any size in a model's configuration."""
MAX_Z_TABLES = 2**15
"""Most CDF tables by anchor and channel: with the others, a table index fits in 16 bits."""
MAX_STAGES = 6
MAX_STRIDE = 64
"""Most pixels per latent position of a classic model, each way."""

POOLINGS = ("max", "avg", "none")
ACTIVATIONS = ("relu", "leaky_relu", "gelu")
"""Activations of a classic model."""
BLOCK_ACTIVATIONS = ("silu", "hardswish")
COLORS = ("gray", "rgb")


class Tune(enum.StrEnum):
    """What a shipped model spends its bits on; the model has the same name."""

    visual = "visual"
    psnr = "psnr"


DEFAULT_TUNE = Tune.psnr


@dataclasses.dataclass(frozen=True)
class MainConfig:
    """Sizes of the main architecture, all of whose layers run at 1/8 and 1/16 of the image.

    The defaults are those of the shipped model `psnr`.

    Attributes:
        channels: C, width at 1/8 resolution.
        latent_channels: M, channels of y and width at 1/16; a multiple of 4.
        hyper_channels: N, channels of z and width of the hyperprior.
        context_channels: width of the context network for means.
        encoder_blocks: blocks of the analysis transform at 1/8.
        decoder_blocks: blocks of the synthesis transform at 1/8.
        latent_blocks: blocks at 1/16, in each transform.
        decoder_wide: the transforms' blocks with a wide branch: so many at 1/8 of the synthesis,
            from the first, and none elsewhere; or None for all.
        block_tables: whether the synthesis's blocks scale and shift their channels by quality.
        activation: silu or hardswish, of the blocks that decode.
        quality_anchors: equally spaced qualities that own a row in each quality table.
    """

    channels: int = 192
    latent_channels: int = 320
    hyper_channels: int = 128
    context_channels: int = 192
    encoder_blocks: int = 6
    decoder_blocks: int = 6
    latent_blocks: int = 3
    decoder_wide: int | None = None
    block_tables: bool = False
    activation: str = "silu"
    quality_anchors: int = 9

    def __post_init__(self) -> None:
        for name in ("channels", "latent_channels", "hyper_channels", "context_channels"):
            _check_size(name, getattr(self, name))
        for name in ("encoder_blocks", "decoder_blocks", "latent_blocks", "quality_anchors"):
            _check_size(name, getattr(self, name))
        _check_wide(self.decoder_wide, self.decoder_blocks)
        _check_choice("block_tables", self.block_tables, (False, True))
        _check_choice("activation", self.activation, BLOCK_ACTIVATIONS)
        if self.latent_channels % 4:
            raise ConfigError(
                f"latent_channels is {self.latent_channels}, expected a multiple of 4"
            )
        _check_anchors(self.quality_anchors, "hyper_channels", self.hyper_channels)

    @property
    def num_tables(self) -> int:
        """CDF tables: those of the scale indexes, then one per anchor and channel of z."""
        return NUM_SCALES + self.quality_anchors * self.hyper_channels

    def num_wide(self, name: str) -> int:
        """Return how many of the blocks that the size `name` counts have a wide branch."""
        if self.decoder_wide is None:
            return getattr(self, name)
        return self.decoder_wide if name == "decoder_blocks" else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, for JSON and TOML: None is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class ClassicConfig:
    """Sizes of the classic architecture: the textbook's convolutional autoencoder.

    Attributes:
        channels: filters of each encoder stage, first to last; the decoder mirrors them. The last
            is M, the channels of y.
        kernel_size: side of every kernel, an odd number.
        stride: of every stage's convolution.
        pool_size: side of every stage's pooling windows.
        pooling: max, avg, or none: the convolution then takes the pool size as its stride as well.
        dropout: part of a stage's outputs that training leaves out.
        activation: relu, leaky_relu or gelu, after every convolution but the last.
        color: gray or rgb, the channels of the image.
        quality_anchors: equally spaced qualities that own a row in each quality table.
    """

    channels: tuple[int, ...] = (64, 32, 16)
    kernel_size: int = 3
    stride: int = 1
    pool_size: int = 2
    pooling: str = "max"
    dropout: float = 0.0
    activation: str = "relu"
    color: str = "rgb"
    quality_anchors: int = 9

    def __post_init__(self) -> None:
        if not isinstance(self.channels, tuple) or not 1 <= len(self.channels) <= MAX_STAGES:
            raise ConfigError(
                f"channels is {self.channels!r}, expected 1 to {MAX_STAGES} whole numbers"
            )
        for width in self.channels:
            _check_size("channels", width)
        for name in ("kernel_size", "stride", "pool_size", "quality_anchors"):
            _check_size(name, getattr(self, name))
        for name, known in (("pooling", POOLINGS), ("activation", ACTIVATIONS), ("color", COLORS)):
            _check_choice(name, getattr(self, name), known)
        if not self.kernel_size % 2:
            raise ConfigError(f"kernel_size is {self.kernel_size}, expected an odd number")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout!r}, expected a number from 0 to below 1")
        if self.latent_stride > MAX_STRIDE:
            raise ConfigError(
                f"{len(self.channels)} stages of stride {self.stride} and pool_size "
                f"{self.pool_size} shrink the image {self.latent_stride} times, "
                f"expected at most {MAX_STRIDE}: use fewer channels or a smaller pool"
            )
        _check_anchors(self.quality_anchors, "channels", self.latent_channels)

    @property
    def latent_channels(self) -> int:
        """M, channels of y."""
        return self.channels[-1]

    @property
    def image_channels(self) -> int:
        """Channels of x: 1 or 3."""
        return 1 if self.color == "gray" else 3

    @property
    def stage_stride(self) -> int:
        """Positions that one stage makes one of, each way."""
        return self.stride * self.pool_size

    @property
    def latent_stride(self) -> int:
        """Pixels per latent position, each way."""
        return self.stage_stride ** len(self.channels)

    @property
    def num_tables(self) -> int:
        """CDF tables: the empty one, then one per anchor and channel of y."""
        return 1 + self.quality_anchors * self.latent_channels

    def to_dict(self) -> dict[str, Any]:
        """Return the architecture's name and the fields as a plain dict, for JSON."""
        fields = dataclasses.asdict(self) | {"channels": list(self.channels)}
        return {"architecture": "classic", **fields}


AnyConfig = MainConfig | ClassicConfig
ARCHITECTURES: dict[str, type[MainConfig | ClassicConfig]] = {
    "main": MainConfig,
    "classic": ClassicConfig,
}


def model_config_from(values: dict[str, Any]) -> AnyConfig:
    """Build a configuration from parsed TOML or JSON; without `architecture` it is main's.

    Raises:
        ConfigError: an unknown architecture or field, or a value out of range.
    """
    fields = dict(values)
    name = fields.pop("architecture", "main")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ConfigError(f"architecture is {name!r}, expected one of {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]
    known = {field.name for field in dataclasses.fields(architecture)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ConfigError(f"unknown model field {unknown[0]!r}, expected one of {sorted(known)}")
    if isinstance(fields.get("channels"), list):
        fields["channels"] = tuple(fields["channels"])
    return architecture(**fields)


def _check_size(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
        raise ConfigError(f"{name} is {value!r}, expected a whole number from 1 to {MAX_SIZE}")


def _check_wide(wide: Any, blocks: int) -> None:
    is_number = isinstance(wide, int) and not isinstance(wide, bool)
    if wide is not None and not (is_number and 0 <= wide <= blocks):
        raise ConfigError(
            f"decoder_wide is {wide!r}, expected a whole number up to decoder_blocks, {blocks}"
        )


def _check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if not any(type(value) is type(one) and value == one for one in known):
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(map(str, known))}")


def _check_anchors(anchors: int, name: str, channels: int) -> None:
    """Check that each (anchor, channel) can own a CDF table, and that there are two anchors."""
    if anchors < 2:
        raise ConfigError("quality_anchors is 1, expected at least 2")
    if anchors * channels > MAX_Z_TABLES:
        raise ConfigError(
            f"quality_anchors x {name} is {anchors * channels}, expected at most {MAX_Z_TABLES}"
        )


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


def largest_reduction(length: int, wanted: int) -> int:
    """Return the largest of REDUCTIONS that leaves a side of `length` pixels `wanted` or more."""
    return max(factor for factor in REDUCTIONS if factor == 1 or length >= factor * wanted)
