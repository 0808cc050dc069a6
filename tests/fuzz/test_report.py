"""bench/mutations.py counts what is right and what is not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from mutators import Mutant, damage, forge, golden_files
from PIL import Image, ImageOps

from caecodec.codec.codec import Codec

SCRIPT = Path(__file__).parents[2] / "bench" / "mutations.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    path = sys.path.copy()
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


mutations = load_script()


@pytest.fixture(scope="module")
def found(limited: Codec) -> list[mutations.Source]:
    files = {name: golden_files()[name] for name in ("rgb-2x2", "metadata", "gray-alpha")}
    return [
        mutations.Source(name, data, limited, limited.decompress(data))
        for name, data in files.items()
    ]


@pytest.mark.parametrize("change", [damage, forge])
def test_every_file_ends_in_each_reader_once_and_rightly(
    change: object, found: list[mutations.Source]
) -> None:
    counted = mutations.campaign(found, change, 30, Random(0))
    for reader in mutations.READERS:
        assert sum(counted[reader]["outcomes"].values()) == counted["files"] == 30
        assert counted[reader]["wrong"] == 0


def test_another_image_and_another_error_are_wrong(found: list[mutations.Source]) -> None:
    source = found[0]
    negative = source._replace(image=ImageOps.invert(source.image))
    runs = [
        mutations.measured(negative, Mutant(source.data, "none"), reader, is_forged=False)
        for reader in mutations.READERS
    ]
    assert [run.outcome for run in runs] == ["WRONG IMAGE", "LOSSES NOT NAMED"]
    broken = source._replace(codec=None)
    runs.append(
        mutations.measured(broken, Mutant(source.data, "none"), "decompress", is_forged=False)
    )
    assert runs[-1].outcome.startswith("TRACEBACK AttributeError")
    assert mutations.summary(runs)["wrong"] == 3


def test_a_forgery_may_be_another_image_of_the_stated_size_alone(
    found: list[mutations.Source],
) -> None:
    source, other = found[0]._replace(image=Image.new("RGB", (2, 2))), found[1]
    run = mutations.measured(source, Mutant(other.data, "swap"), "decompress", is_forged=True)
    assert run.outcome == "image of another valid file"
    assert run.is_right
