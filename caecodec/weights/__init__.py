"""The models in this package, by name; a file names its model by digest."""

from __future__ import annotations

from pathlib import Path

from caecodec.config import DEFAULT_TUNE, Tune
from caecodec.errors import ConfigError, UnknownModelError

SHIPPED: dict[str, str] = {
    "visual": "e9bdb6ccfffe4993",
    "psnr": "63b93453c2bc83c7",
    "classic": "a7f2200e9b608c12",
}
"""Name -> digest (hex of the first 8 bytes of the SHA-256 of the tensors)."""


def shipped_path(name: str) -> Path:
    """Return the file of a shipped model.

    Raises:
        UnknownModelError: no shipped model of this name.
    """
    if name not in SHIPPED:
        raise UnknownModelError(
            f"no model {name!r}, expected one of {sorted(SHIPPED)} or a path to a .safetensors file"
        )
    return Path(__file__).parent / f"{name}.safetensors"


def choose_model(tune: str | None = None, model: str | Path | None = None) -> str | Path:
    """Return the model that is meant: one of one's own, or the shipped one for a tune.

    Raises:
        ConfigError: both are given, or no such tune.
    """
    if model is None:
        if tune is not None and tune not in set(Tune):
            raise ConfigError(f"tune is {tune!r}, expected one of {', '.join(Tune)}")
        return str(tune or DEFAULT_TUNE)
    if tune is not None:
        raise ConfigError("tune and model exclude each other: give one of them")
    return model


def model_name(digest: bytes) -> str | None:
    """Return the name of the shipped model with this digest, or None."""
    return next((name for name, value in SHIPPED.items() if value == digest.hex()), None)
