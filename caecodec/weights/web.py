"""Weights of decoders: what a web page fetches to show files of a model. FORMAT.md section 12."""

from __future__ import annotations

import json

from safetensors.numpy import save

from caecodec.config import MainConfig
from caecodec.errors import ModelError
from caecodec.format.constants import DIGEST_BYTES
from caecodec.weights.storage import Weights, tensors_digest

FORMAT_NAME = "caecodec-web-1"
ENCODER_ALONE = ("analysis", "hyper_analysis", "gain")
"""What the names of tensors start with that decoders do without."""


def web_weights(weights: Weights) -> bytes:
    """Return what decoders need of an exact model, and the digest that files know it by.

    Raises:
        ModelError: another model, whose pixels decoders in browsers do not reproduce.
    """
    is_exact = any(name.startswith("exact.") for name in weights.tensors)
    if not isinstance(weights.config, MainConfig) or not is_exact:
        raise ModelError(
            "only an exact model has weights for the web: make one by `caecodec export --exact`"
        )
    tensors = {
        name: values
        for name, values in weights.tensors.items()
        if name.split(".")[0] not in ENCODER_ALONE
    }
    metadata = {
        "format": FORMAT_NAME,
        "config": json.dumps(weights.config.to_dict()),
        "model": weights.digest.hex(),
        "digest": tensors_digest(tensors)[:DIGEST_BYTES].hex(),
    }
    return save(tensors, metadata)
