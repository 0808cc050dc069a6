"""Which classes answer for a configuration."""

from __future__ import annotations

import torch

from caecodec.config import AnyConfig, ClassicConfig
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.classic import ClassicAutoencoder
from caecodec.nn.inference import Array, FrozenModel
from caecodec.nn.inference_classic import FrozenClassic, freeze_classic
from caecodec.nn.inference_main import FrozenMain, freeze_main

Autoencoder = MainAutoencoder | ClassicAutoencoder


def build_model(
    config: AnyConfig,
    tensors: dict[str, Array],
    *,
    head_dtype: torch.dtype = torch.float64,
    folded: bool = True,
) -> FrozenModel:
    """Build the model of a weights file.

    Args:
        config: architecture and sizes.
        tensors: name -> array, as stored.
        head_dtype: float64 or int64, in which a scale head computes; the results are equal.
        folded: let layers take over neighbours that are straight lines, for speed, or keep every
            layer as it was trained.

    Raises:
        ModelError: a tensor is missing, unknown, or of the wrong shape or type.
    """
    if isinstance(config, ClassicConfig):
        return FrozenClassic(config, tensors)
    return FrozenMain(config, tensors, head_dtype=head_dtype, folded=folded)


def build_autoencoder(config: AnyConfig) -> Autoencoder:
    """Return the float model of a configuration, its weights not set."""
    if isinstance(config, ClassicConfig):
        return ClassicAutoencoder(config)
    return MainAutoencoder(config)


def freeze_autoencoder(model: Autoencoder) -> dict[str, Array]:
    """Return the tensors of a weights file, the CDF tables aside."""
    return freeze_classic(model) if isinstance(model, ClassicAutoencoder) else freeze_main(model)
