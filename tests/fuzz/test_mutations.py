"""Changed files end in a CodecError or in a right result, never in noise."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from checks import check_file, check_payloads
from hypothesis import given, settings
from hypothesis import strategies as st
from mutators import DAMAGES, damage, forge, frame, golden_files, split

from caecodec.codec.codec import Codec
from caecodec.errors import CodecError
from caecodec.format.constants import TILE_SIZES, Mode
from caecodec.format.container import HEADER_BYTES, Header

FILES = golden_files()
SEEDS = list(FILES.values())
SIDE, COLUMNS, ROWS = 64, 4, 3
"""Of the tiles of the files of `whole`: pixels a side, how many beside and below each other."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # on an alpha's own chunks
small_files = st.sampled_from([name for name in FILES if name != "alpha-png"])
randoms = st.randoms(use_true_random=False)


def bounded(max_examples: int) -> settings:
    return settings(derandomize=True, deadline=None, max_examples=max_examples)


@pytest.fixture(scope="module")
def whole(limited: Codec) -> dict[str, np.ndarray]:
    """The pixels of the golden files of several tiles in colour."""
    names = ("tiles", "lossless-mixed")
    return {name: np.array(limited.decompress(FILES[name])).astype(int) for name in names}


@pytest.mark.parametrize("name", FILES)
def test_the_boxes_of_a_file_make_it_again(name: str) -> None:
    data = FILES[name]
    boxes = split(data)
    assert boxes
    assert data[:HEADER_BYTES] + frame(boxes) == data


@pytest.mark.slow
@bounded(150)
@given(small_files, randoms)
def test_damage_is_refused_by_every_decoder(limited: Codec, name: str, random: Random) -> None:
    mutant = damage(FILES[name], SEEDS, random)
    assert check_file(limited, mutant.data) is None, mutant.kind
    with pytest.raises(CodecError):
        limited.file_symbols(mutant.data)


@pytest.mark.slow
@bounded(60)
@given(
    st.sampled_from(("tiles", "lossless-mixed")),
    st.sampled_from(sorted(set(DAMAGES) - {"splice"})),
    randoms,
)
def test_what_is_salvaged_is_right_or_named_as_lost(
    limited: Codec, whole: dict[str, np.ndarray], name: str, kind: str, random: Random
) -> None:
    head, body = FILES[name][:HEADER_BYTES], FILES[name][HEADER_BYTES:]
    try:
        image, losses = limited.salvage(head + DAMAGES[kind](body, body, random))
    except CodecError:
        return
    lost = {int(line.split()[1].rstrip(":")) for line in losses if line.startswith("tile ")}
    difference = np.abs(np.array(image) - whole[name])
    for number in range(ROWS * COLUMNS):
        row, column = divmod(number, COLUMNS)
        near = {
            COLUMNS * r + c for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)
        }
        if not near & lost:  # next to a lost tile, pixels may be off
            top, left = SIDE * row, SIDE * column
            assert difference[top : top + SIDE, left : left + SIDE].max() <= 1


@pytest.mark.slow
@bounded(150)
@given(small_files, randoms)
def test_forgeries_are_refused_or_give_all_decoders_one_image_of_the_stated_size(
    limited: Codec, name: str, random: Random
) -> None:
    check_file(limited, forge(FILES[name], SEEDS, random).data)


@pytest.mark.slow
@bounded(40)
@given(
    st.sampled_from((Mode.L, Mode.RGB)),
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 150), st.integers(1, 150), st.sampled_from(TILE_SIZES)),
    st.lists(st.binary(max_size=64).map(lambda data: data[: len(data) // 4 * 4]), min_size=1),
)
def test_payloads_of_any_words_are_refused_and_their_symbols_decode(
    limited: Codec, mode: Mode, units: int, sizes: tuple[int, int, int], payloads: list[bytes]
) -> None:
    width, height, tile_size = sizes
    header = Header(mode, units, width, height, limited.digest, tile_size)
    dealt = [payloads[number % len(payloads)] for number in range(len(header.grid))]
    check_payloads(limited, header, dealt)
