"""Changed weights files end in a ModelError, or in a model of finite values; soon, in few bytes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from checks import check_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from mutators import GOLDEN
from safetensors.numpy import save_file
from weights_mutators import change_weights

from caecodec.errors import ModelError
from caecodec.weights import shipped_path
from caecodec.weights.storage import FORMAT_NAME, load_weights

TOY = GOLDEN / "toy.safetensors"
SEEDS = [TOY, shipped_path("classic")]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "changed.safetensors"


def saved(path: Path, source: Path, config: object, tensors: dict[str, Any] | None = None) -> None:
    weights = load_weights(source)
    metadata = {"format": FORMAT_NAME, "config": json.dumps(config)}
    save_file(weights.tensors | (tensors or {}), path, metadata)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_changed_weights_are_refused_or_load(path: Path, source: Path, random: Random) -> None:
    path.write_bytes(change_weights(source.read_bytes(), random))
    check_weights(path)


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        (TOY, {"channels": 4096}),
        (TOY, {"context_channels": 4096}),
        (TOY, {"latent_channels": 4096}),
        (TOY, {"hyper_channels": 4096}),
        (TOY, {"encoder_blocks": 4096}),
        (TOY, {"decoder_blocks": 4096}),
        (TOY, {"latent_blocks": 4096}),
        (shipped_path("classic"), {"channels": [4096, 4096, 16]}),
        (shipped_path("classic"), {"kernel_size": 4095}),
    ],
    ids=str,
)
def test_sizes_that_the_tensors_do_not_bear_out_are_refused_before_networks_are_built(
    source: Path, fields: dict[str, Any], path: Path
) -> None:
    config = load_weights(source).config.to_dict() | fields
    saved(path, source, config)
    with pytest.raises(ModelError, match="calls for more than"):
        load_weights(path)


def test_blocks_without_tensors_of_their_own_are_refused_whatever_the_values(path: Path) -> None:
    config = load_weights(TOY).config.to_dict() | {"latent_blocks": 64}
    saved(path, TOY, config, {"filler": np.zeros(2**20, np.float16)})
    with pytest.raises(ModelError, match="calls for more than"):
        load_weights(path)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred"])
def test_names_of_tensors_that_cannot_be_shown_are_refused_in_one_line(
    name: str, path: Path
) -> None:
    config = load_weights(TOY).config.to_dict()
    for values in (np.zeros(1, np.float16), np.zeros(1, np.float64)):
        saved(path, TOY, config, {name: values})
        with pytest.raises(ModelError, match="cannot be shown") as caught:
            load_weights(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["config", "training"])
@pytest.mark.parametrize("text", ["[]", "3", '[["channels", 24]]', "null"])
def test_metadata_other_than_json_objects_are_refused(name: str, text: str, path: Path) -> None:
    weights = load_weights(TOY)
    metadata = {"format": FORMAT_NAME, "config": json.dumps(weights.config.to_dict()), name: text}
    save_file(weights.tensors, path, metadata)
    with pytest.raises(ModelError, match="expected an object"):
        load_weights(path)
