"""The models in this package (layer 3), by name; a file names its model by digest."""

from __future__ import annotations

from pathlib import Path

from caecodec.errors import UnknownModelError

SHIPPED: dict[str, str] = {"main": "ce73fb6e3afb7959", "classic": "a7f2200e9b608c12"}
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


def model_name(digest: bytes) -> str | None:
    """Return the name of the shipped model with this digest, or None."""
    return next((name for name, value in SHIPPED.items() if value == digest.hex()), None)
