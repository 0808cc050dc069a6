"""Laws of the entropy coder: FORMAT.md sections 6.3 to 6.5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caecodec.errors import DesyncError, FormatError, SymbolRangeError
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.tables import MAX_ESCAPED, CodingTables, IntArray, make_counts

Section = tuple[IntArray, IntArray]

SLACK_BITS = 56
"""24 for a state that starts at 0, 32 for the last word."""
SLACK_RATIO = 1.0002
"""2**-8 / (32 ln 2) is what rounding in a state of at least 2**32 costs at worst."""
UNLIKELY_BITS = 64
"""A payload this much shorter than promised has a probability of 2**-64 or so."""


def some_tables() -> CodingTables:
    """Return an empty table, narrow ones, wide ones, and one of reach 0."""
    random = np.random.default_rng(0)
    shapes = [(4, 1), (6, 8), (16, 3), (80, 6), (600, 2), (1024, 30)]
    counts = [make_counts(random.random(size) ** power) for size, power in shapes]
    nothing = np.zeros(0, dtype=np.int64)
    return CodingTables((nothing, np.array([65535, 1]), nothing, *counts))


TABLES = some_tables()
CODER = EntropyCoder(TABLES)
FULL = [index for index in range(len(TABLES)) if len(TABLES.counts[index])]


@st.composite
def sections(draw: st.DrawFn, min_size: int = 0) -> Section:
    """Draw symbols of all magnitudes, 0 where the table is empty."""
    indexes = draw(st.lists(st.integers(0, len(TABLES) - 1), min_size=min_size))
    magnitudes = st.one_of(st.integers(-3, 3), st.integers(-MAX_ESCAPED, MAX_ESCAPED))
    symbols = [draw(magnitudes) if index in FULL else 0 for index in indexes]
    return np.array(symbols, dtype=np.int32), np.array(indexes, dtype=np.int32)


def likely_section(seed: int, size: int) -> Section:
    """Draw symbols from the tables themselves; escapes are uniform."""
    random = np.random.default_rng(seed)
    indexes = random.integers(0, len(TABLES), size).astype(np.int32)
    symbols = np.zeros(size, dtype=np.int32)
    for index in FULL:
        where = indexes == index
        counts, reach = TABLES.counts[index], TABLES.reach(index)
        entries = random.choice(len(counts), where.sum(), p=counts / counts.sum())
        escaped = random.integers(reach + 1, MAX_ESCAPED, where.sum())
        symbols[where] = np.where(entries == 2 * reach + 1, escaped, entries - reach)
    return symbols, indexes


def decoded(payload: bytes, indexes: list[IntArray]) -> list[IntArray]:
    decoder = CODER.decoder(payload)
    symbols = [decoder.decode(own) for own in indexes]
    decoder.finish()
    return symbols


def promised_bits(coded: list[Section]) -> float:
    return sum(TABLES.bits(symbols, indexes) for symbols, indexes in coded)


@settings(deadline=None, max_examples=200)
@given(st.lists(sections(), max_size=4))
def test_decoding_is_the_inverse_of_encoding_section_by_section(coded: list[Section]) -> None:
    payload = CODER.entropy_encode(coded)
    again = decoded(payload, [indexes for _, indexes in coded])
    for (symbols, _), other in zip(coded, again, strict=True):
        assert other.dtype == np.int32
        assert np.array_equal(symbols, other)


@settings(deadline=None, max_examples=100)
@given(st.lists(sections(), max_size=3))
def test_payload_is_whole_words_and_the_last_one_is_not_0(coded: list[Section]) -> None:
    payload = CODER.entropy_encode(coded)
    assert len(payload) % 4 == 0
    assert payload[-4:] != bytes(4)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.lists(sections(), min_size=1, max_size=4))
def test_payload_never_exceeds_the_promise_by_more_than_its_slack(coded: list[Section]) -> None:
    bits = 8 * len(CODER.entropy_encode(coded))
    assert bits <= promised_bits(coded) * SLACK_RATIO + SLACK_BITS


@pytest.mark.parametrize("index", FULL)
def test_payload_of_one_symbol_repeated_keeps_within_its_slack(index: int) -> None:
    reach = TABLES.reach(index)
    for symbol in {-reach, 0, reach, -MAX_ESCAPED, MAX_ESCAPED}:
        coded = [(np.full(5000, symbol, np.int32), np.full(5000, index, np.int32))]
        bits = 8 * len(CODER.entropy_encode(coded))
        assert bits <= promised_bits(coded) * SLACK_RATIO + SLACK_BITS


@pytest.mark.parametrize("size", [0, 1, 10, 1000, 30_000])
@pytest.mark.parametrize("seed", range(3))
def test_payload_of_likely_symbols_has_the_information_of_its_symbols(size: int, seed: int) -> None:
    coded = [likely_section(seed, size), likely_section(seed + 100, size // 2)]
    bits, promised = 8 * len(CODER.entropy_encode(coded)), promised_bits(coded)
    assert promised - UNLIKELY_BITS <= bits <= promised * SLACK_RATIO + SLACK_BITS


def test_payload_is_empty_where_nothing_is_coded() -> None:
    nothing = np.zeros(7, dtype=np.int32)
    assert CODER.entropy_encode([]) == b""
    assert CODER.entropy_encode([(nothing, nothing)]) == b""
    assert decoded(b"", [nothing])[0].tolist() == [0] * 7


def test_decoder_reads_the_same_whatever_the_coder_coded_before() -> None:
    section = likely_section(7, 500)
    first = CODER.entropy_encode([section])
    assert EntropyCoder(TABLES).entropy_encode([section]) == first
    assert CODER.entropy_encode([section]) == first


def test_payload_bytes_are_part_of_the_format() -> None:
    tables = CodingTables((np.zeros(0, np.int64), np.array([1000, 60000, 4000, 536])))
    symbols = np.array([0, 1, 0, -1, 0, 300, 0, 0], dtype=np.int32)
    indexes = np.array([1, 1, 1, 1, 1, 1, 0, 1], dtype=np.int32)
    payload = EntropyCoder(tables).entropy_encode([(symbols, indexes)])
    assert payload.hex() == "560e697a5d010000"


@pytest.mark.parametrize("symbol", [MAX_ESCAPED + 1, -MAX_ESCAPED - 1, 2**31 - 1])
def test_symbols_beyond_the_escape_are_refused(symbol: int) -> None:
    coded = [(np.array([symbol], np.int32), np.array([FULL[0]], np.int32))]
    with pytest.raises(SymbolRangeError):
        CODER.entropy_encode(coded)


@pytest.mark.parametrize("symbol", [-1, 1, MAX_ESCAPED])
def test_symbols_other_than_0_have_no_code_in_an_empty_table(symbol: int) -> None:
    coded = [(np.array([symbol], np.int32), np.array([0], np.int32))]
    with pytest.raises(SymbolRangeError):
        CODER.entropy_encode(coded)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), st.lists(sections(min_size=1), max_size=3))
def test_garbage_raises_format_errors_or_decodes_to_symbols_in_range(
    payload: bytes, shapes: list[Section]
) -> None:
    try:
        found = decoded(payload, [indexes for _, indexes in shapes])
    except FormatError:
        return
    for symbols, (_, indexes) in zip(found, shapes, strict=True):
        assert symbols.shape == indexes.shape
        assert np.abs(symbols).max() <= 2**15


@settings(deadline=None, max_examples=100)
@given(st.lists(sections(min_size=1), min_size=1, max_size=3), st.data())
def test_damaged_payload_is_refused_or_decodes_to_other_symbols(
    coded: list[Section], data: st.DataObject
) -> None:
    payload = bytearray(CODER.entropy_encode(coded) or b"\1\0\0\0")
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decoded(bytes(payload), [indexes for _, indexes in coded])
    except FormatError:
        return
    same = [np.array_equal(own, symbols) for own, (symbols, _) in zip(found, coded, strict=True)]
    assert not all(same)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
def test_payload_that_is_not_whole_words_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="multiple of 4"):
        CODER.decoder(b"\1" * length)


@pytest.mark.parametrize("words", [1, 2, 3])
def test_payload_that_ends_in_a_zero_word_is_refused(words: int) -> None:
    with pytest.raises(FormatError, match="zero word"):
        CODER.decoder(b"\1" * 4 * (words - 1) + bytes(4))


def test_payload_with_words_left_over_is_out_of_step() -> None:
    section = likely_section(3, 100)
    decoder = CODER.decoder(CODER.entropy_encode([section]) + b"\1\0\0\0")
    decoder.decode(section[1])
    with pytest.raises(DesyncError):
        decoder.finish()
