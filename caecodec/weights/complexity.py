"""Multiply-accumulates per pixel, counted from the sizes of a model (layer 1; no torch).

Each function returns MACs per position of its own resolution; biases and activations are not
counted, as is the field's custom.
"""

from __future__ import annotations

from itertools import pairwise

from caecodec.config import (
    HYPER_STRIDE,
    PATCH,
    STRIDE,
    AnyConfig,
    ClassicConfig,
    MainConfig,
)

_PATCH_VALUES = 3 * PATCH * PATCH
_PATCH_PIXELS = PATCH * PATCH
_LATENT_PIXELS = STRIDE * STRIDE
_HYPER_PIXELS = (STRIDE * HYPER_STRIDE) ** 2
_MIDDLE_PIXELS = (2 * STRIDE) ** 2


def kmac_per_pixel(config: AnyConfig) -> tuple[float, float]:
    """Return (encode, decode) in thousands of MACs per image pixel, entropy networks included."""
    if isinstance(config, ClassicConfig):
        return _encoder(config) / 1000, _decoder(config) / 1000
    hyperprior = _scale_head(config) + _mean_features(config) + _mean_context(config)
    encode = _analysis(config) + _hyper_analysis(config) + hyperprior
    decode = _synthesis(config) + hyperprior
    return encode / 1000, decode / 1000


def _block(channels: int) -> int:
    return _blocks(channels, 1, 1)


def _blocks(channels: int, count: int, num_wide: int) -> int:
    return count * (2 * channels**2 + 9 * channels) + num_wide * 4 * channels**2


def _blocks_of(config: MainConfig, name: str, channels: int) -> int:
    return _blocks(channels, getattr(config, name), config.num_wide(name))


def _analysis(config: MainConfig) -> float:
    width, latent = config.channels, config.latent_channels
    eighth = _PATCH_VALUES * width + _blocks_of(config, "encoder_blocks", width)
    coarse = _blocks_of(config, "latent_blocks", latent)
    sixteenth = 4 * width * latent + coarse + latent**2
    return eighth / _PATCH_PIXELS + sixteenth / _LATENT_PIXELS


def _synthesis(config: MainConfig) -> float:
    width, latent = config.channels, config.latent_channels
    eighth = _PATCH_VALUES * width + _blocks_of(config, "decoder_blocks", width)
    coarse = _blocks_of(config, "latent_blocks", latent)
    sixteenth = 4 * width * latent + coarse + latent**2
    return eighth / _PATCH_PIXELS + sixteenth / _LATENT_PIXELS


def _hyper_analysis(config: MainConfig) -> float:
    width = config.hyper_channels
    sixteenth = 2 * config.latent_channels * width + _block(width)
    down = 4 * width**2
    return sixteenth / _LATENT_PIXELS + down / _MIDDLE_PIXELS + down / _HYPER_PIXELS


def _scale_head(config: MainConfig) -> float:
    width = config.hyper_channels
    hyper, middle = (9 + 4) * width**2, (9 + 4) * width**2
    last = width * config.latent_channels
    return hyper / _HYPER_PIXELS + middle / _MIDDLE_PIXELS + last / _LATENT_PIXELS


def _mean_features(config: MainConfig) -> float:
    width = config.hyper_channels
    middle = _block(width) + 4 * width**2
    return 4 * width**2 / _HYPER_PIXELS + middle / _MIDDLE_PIXELS + _block(width) / _LATENT_PIXELS


def _mean_context(config: MainConfig) -> float:
    latent, hyper, width = config.latent_channels, config.hyper_channels, config.context_channels
    step = (latent + hyper) * width + 9 * width + _block(width) + width * latent
    return (hyper * latent + 3 * step) / _LATENT_PIXELS


def _encoder(config: ClassicConfig) -> float:
    """Return MACs per pixel of convolutions that stand before their stage's pooling."""
    total, pixels = 0.0, 1
    for pair in pairwise((config.image_channels, *config.channels)):
        shrink = config.stage_stride if config.pooling == "none" else config.stride
        total += pair[0] * pair[1] * config.kernel_size**2 / (pixels * shrink) ** 2
        pixels *= config.stage_stride
    return total


def _decoder(config: ClassicConfig) -> float:
    """Return MACs per pixel of transposed convolutions: one kernel per input position."""
    total = float(config.channels[0] * config.image_channels * config.kernel_size**2)
    pixels = config.latent_stride
    for pair in pairwise((config.latent_channels, *reversed(config.channels))):
        total += pair[0] * pair[1] * config.kernel_size**2 / pixels**2
        pixels //= config.stage_stride
    return total
