"""Weights files: safetensors alone, named by the SHA-256 of their tensors.

A weights file holds float16 networks, the fixed-point scale head, the integer CDF tables, and the
configuration as JSON metadata. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from caecodec.config import AnyConfig, ClassicConfig, model_config_from
from caecodec.errors import ConfigError, ModelError
from caecodec.format.constants import DIGEST_BYTES
from caecodec.format.tables import CodingTables, unpack_tables
from caecodec.weights import SHIPPED, shipped_path

FORMAT_NAME = "caecodec-weights-1"
_INTEGERS = {"weight": "int16", "bias": "int64", "shifts": "int32", "offsets": "int32"}
_EXACT = {"step": "float32", "levels": "int16", "shift": "int8"}
Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model as it is stored.

    Attributes:
        config: architecture and sizes of the networks.
        tensors: name -> array; float16, or integers for `scale_head.*` and `tables.*`.
        training: how it was trained, as plain values; informative.
        path: where it was read from, or None.
    """

    config: AnyConfig
    tensors: dict[str, Array]
    training: dict[str, Any]
    path: Path | None = None

    @property
    def digest(self) -> bytes:
        """The bytes that name the model in a file's header."""
        return tensors_digest(self.tensors)[:DIGEST_BYTES]

    @property
    def num_parameters(self) -> int:
        """Number of stored values, the CDF tables aside."""
        return sum(
            array.size
            for name, array in self.tensors.items()
            if not name.startswith(("tables.", "exact."))
        )

    def tables(self) -> CodingTables:
        """Return the tables of the configuration, in their order; the first is empty.

        Raises:
            ModelError: a table is missing or malformed.
        """
        try:
            tables = unpack_tables(self.tensors["tables.lengths"], self.tensors["tables.counts"])
        except KeyError as error:
            raise ModelError(f"the weights have no {error}, expected the CDF tables") from error
        is_coded = [len(counts) > 0 for counts in tables.counts]
        if is_coded[0] or not all(is_coded[1:]):
            raise ModelError("the first CDF table alone must be empty")
        if len(tables) != self.config.num_tables:
            raise ModelError(
                f"the weights hold {len(tables)} tables, expected {self.config.num_tables}"
            )
        return tables


def tensors_digest(tensors: dict[str, Array]) -> bytes:
    """Return the SHA-256 of names, dtypes, shapes and little-endian bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {array.dtype.str[1:]} {list(array.shape)}\n".encode())
        digest.update(np.ascontiguousarray(little).data)
    return digest.digest()


def save_weights(weights: Weights, path: Path) -> None:
    """Write a weights file."""
    metadata = {
        "format": FORMAT_NAME,
        "config": json.dumps(weights.config.to_dict()),
        "training": json.dumps(weights.training),
    }
    save_file(weights.tensors, path, metadata)


def load_weights(path: Path) -> Weights:
    """Read a weights file; hostile files end in an error, never in code that runs.

    Raises:
        ModelError: no such file, not safetensors, another format, or values that are not finite.
    """
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ModelError(f"no weights file {path}") from error
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a safetensors file: {_printable(error)}") from error
    if metadata.get("format") != FORMAT_NAME:
        raise ModelError(
            f"{path} is not a caecodec weights file: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT_NAME!r}"
        )
    try:
        config = model_config_from(_json_object(metadata["config"]))
        training = _json_object(metadata.get("training", "{}"))
    except (KeyError, TypeError, ValueError, RecursionError, ConfigError) as error:
        raise ModelError(f"{path} has no valid configuration: {error}") from error
    for name, array in tensors.items():
        _check_tensor(name, array, path)
    weights = Weights(config, tensors, training, path)
    _check_size(weights)
    return weights


def find_weights(model: str | Path) -> Weights:
    """Load a shipped model by name, or any weights file by a path that ends in .safetensors.

    Raises:
        ModelError: no such model or file, or a file that is not valid.
    """
    is_path = str(model) not in SHIPPED and Path(model).suffix == ".safetensors"
    return load_weights(Path(model) if is_path else shipped_path(str(model)))


def _check_tensor(name: str, array: Array, path: Path) -> None:
    """Check a tensor's type, and that its values are finite. FORMAT.md section 12."""
    part, last = name.split(".", maxsplit=1)[0], name.rsplit(".", maxsplit=1)[-1]
    by_part = {"tables": "uint16", "scale_head": _INTEGERS.get(last), "exact": _EXACT.get(last)}
    expected = by_part.get(part, "float16")
    if not name.isprintable():
        raise ModelError(f"{path}: tensor {name!r} has a name of letters that cannot be shown")
    if str(array.dtype) != expected:
        raise ModelError(f"{path}: tensor {name} is {array.dtype}, expected {expected or 'none'}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"{path}: tensor {name} holds values that are not finite")


def _check_size(weights: Weights) -> None:
    """Check that the tensors are as many as the configuration's blocks call for, and as large.

    Networks are built by the configuration before tensors are put into them: a few bytes must not
    ask for gigabytes.
    """
    config = weights.config
    if isinstance(config, ClassicConfig):
        widths = (config.image_channels, *config.channels)
        num_tensors = 4 * len(config.channels)
        num_values = 2 * config.kernel_size**2 * sum(one * two for one, two in pairwise(widths))
    else:
        outer, inner = config.encoder_blocks + config.decoder_blocks, 2 * config.latent_blocks
        wide_outer = config.num_wide("encoder_blocks") + config.num_wide("decoder_blocks")
        wide_inner = 2 * config.num_wide("latent_blocks")
        num_tensors = 6 * (outer + inner) + 4 * (wide_outer + wide_inner)
        num_values = (
            (2 * outer + 4 * wide_outer) * config.channels**2
            + (2 * inner + 4 * wide_inner) * config.latent_channels**2
            + 18 * config.hyper_channels**2
            + 6 * config.context_channels**2
        )
    if len(weights.tensors) < num_tensors or weights.num_parameters < num_values:
        raise ModelError(
            f"{weights.path} holds {len(weights.tensors)} tensors of {weights.num_parameters} "
            f"values, its configuration calls for more than {num_tensors} of {num_values}"
        )


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"a JSON {type(value).__name__}, expected an object")
    return value


def _printable(error: Exception) -> str:
    """Return an error's text in one line; it may quote the names of a hostile file."""
    text = getattr(error, "strerror", None) or str(error)
    return "".join(letter if letter.isprintable() else " " for letter in text)
