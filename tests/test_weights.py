"""Weights files are input like any other: what is not exactly right is a ModelError."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_golden import TOY
from safetensors.numpy import save_file

from caecodec.codec.codec import Codec
from caecodec.errors import ModelError, UnknownModelError
from caecodec.nn.inference_main import FrozenMain
from caecodec.weights import SHIPPED, model_name, shipped_path
from caecodec.weights.storage import (
    FORMAT_NAME,
    find_weights,
    load_weights,
    save_weights,
    tensors_digest,
)

TENSORS = load_weights(TOY).tensors
METADATA = {"format": FORMAT_NAME, "config": json.dumps(load_weights(TOY).config.to_dict())}
MAX_BYTES = 25_000_000


def changed(**tensors: Any) -> dict[str, Any]:
    return TENSORS | {name.replace("__", "."): value for name, value in tensors.items()}


def without(name: str) -> dict[str, Any]:
    return {other: value for other, value in TENSORS.items() if other != name}


def edited(name: str, edit: Callable[[Any], None]) -> dict[str, Any]:
    array = TENSORS[name].copy()
    edit(array)
    return TENSORS | {name: array}


HOSTILE: dict[str, dict[str, Any]] = {
    "tensor missing": without("synthesis.patch.weight"),
    "head layer missing": without("scale_head.3.weight"),
    "tables missing": without("tables.counts"),
    "tensor unknown": changed(surprise=np.zeros(3, np.float16)),
    "tensor of another shape": changed(latent_std=np.ones(5, np.float16)),
    "tensor of another type": changed(latent_std=TENSORS["latent_std"].astype(np.float32)),
    "head weights too wide": changed(
        scale_head__0__weight=TENSORS["scale_head.0.weight"].astype(np.int64)
    ),
    "head weight beyond its limits": edited(
        "scale_head.0.weight", lambda array: array.fill(np.iinfo(np.int16).min)
    ),
    "head part unknown": changed(scale_head__5__weight=TENSORS["scale_head.4.weight"]),
    "head bias beyond exact sums": edited(
        "scale_head.0.bias", lambda array: array.fill(np.iinfo(np.int64).min)
    ),
    "shift beyond its limits": edited("scale_head.shifts", lambda array: array.fill(60)),
    "shifts too few": changed(scale_head__shifts=TENSORS["scale_head.shifts"][:3]),
    "shifts of two dimensions": changed(
        scale_head__shifts=TENSORS["scale_head.shifts"].reshape(5, 1)
    ),
    "shifts without dimension": changed(scale_head__shifts=np.array(8, np.int32)),
    "offsets beyond their limits": edited(
        "scale_head.offsets", lambda array: array.fill(np.iinfo(np.int32).min)
    ),
    "not finite": edited("latent_std", lambda array: array.fill(np.nan)),
    "table sum wrong": edited("tables.counts", lambda array: array.__setitem__(0, 1)),
    "table lengths wrong": edited("tables.lengths", lambda array: array.__setitem__(1, 2)),
    "table 0 coded": edited("tables.lengths", lambda array: array.__setitem__(slice(2), [2, 0])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_weights_that_are_not_exactly_right_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    save_file(HOSTILE[name], path, METADATA)
    with pytest.raises(ModelError) as caught:
        Codec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        METADATA | {"format": "other"},
        {"format": FORMAT_NAME},
        METADATA | {"config": "{"},
        METADATA | {"config": "[" * 100_000},
        METADATA | {"config": '{"channels": -1}'},
        METADATA | {"config": '{"channels": "many"}'},
        METADATA | {"config": '{"colour": 1}'},
        METADATA | {"config": "3"},
        METADATA | {"training": "{"},
    ],
    ids=range(10),
)
def test_metadata_that_is_not_exactly_right_is_refused(
    metadata: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "hostile.safetensors"
    save_file(TENSORS, path, metadata)
    with pytest.raises(ModelError):
        load_weights(path)


@pytest.mark.parametrize("data", [b"", b"{}", bytes(8), b"\xff" * 8 + b"{}", TOY.read_bytes()[:-1]])
def test_bytes_that_are_no_safetensors_file_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        load_weights(path)


def test_a_missing_file_and_an_unknown_name_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file"):
        find_weights(tmp_path / "none.safetensors")
    with pytest.raises(UnknownModelError, match="'imaginary'"):
        find_weights("imaginary")


def test_saving_and_loading_keeps_everything(tmp_path: Path) -> None:
    weights = load_weights(TOY)
    save_weights(weights, tmp_path / "copy.safetensors")
    copy = load_weights(tmp_path / "copy.safetensors")
    assert (copy.config, copy.training, copy.digest) == (
        weights.config,
        weights.training,
        weights.digest,
    )


def test_the_digest_names_tensors_and_nothing_else() -> None:
    weights = load_weights(TOY)
    assert dataclasses.replace(weights, training={}, path=None).digest == weights.digest
    other = edited("latent_std", lambda array: array.__setitem__(0, 0.5))
    assert tensors_digest(other) != tensors_digest(TENSORS)
    assert tensors_digest(dict(reversed(TENSORS.items()))) == tensors_digest(TENSORS)


def test_float16_networks_are_all_that_the_model_needs() -> None:
    weights = load_weights(TOY)
    names = {name for name in weights.tensors if not name.startswith("tables.")}
    subset = {name: weights.tensors[name] for name in names}
    assert FrozenMain(weights.config, subset).config == weights.config


def test_any_number_of_unknown_tensors_makes_one_short_line() -> None:
    unknown = {f"surprise_{number}": np.zeros(1, np.float16) for number in range(500)}
    config = load_weights(TOY).config
    with pytest.raises(ModelError, match="Unexpected key") as refused:
        FrozenMain(config, TENSORS | unknown)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_those_that_the_table_names(name: str) -> None:
    weights = find_weights(name)
    assert weights.digest.hex() == SHIPPED[name]
    assert model_name(weights.digest) == name
    assert shipped_path(name).stat().st_size < MAX_BYTES
