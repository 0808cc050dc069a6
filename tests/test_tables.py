"""Laws of the CDF tables: FORMAT.md sections 6.1 and 6.2."""

from __future__ import annotations

import numpy as np
import pytest
from constriction import stream
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from caecodec.errors import ModelError
from caecodec.format.tables import (
    CODER_BITS,
    ESCAPE_BITS,
    MAX_REACH,
    TABLE_TOTAL,
    CodingTables,
    coder_probabilities,
    make_counts,
    split_escapes,
    unpack_tables,
)

Counts = NDArray[np.int64]
EMPTY = np.zeros(0, dtype=np.int64)


@st.composite
def counts_of_tables(draw: st.DrawFn) -> Counts:
    """Draw the counts of one legal table: few entries or many, flat or spiked."""
    size = 2 * draw(st.integers(1, MAX_REACH + 1) if draw(st.booleans()) else st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return make_counts(random.random(size) ** draw(st.integers(0, 60)) + 1e-300)


def coder_starts(counts: Counts) -> list[int]:
    """Return where each entry starts and the last one ends, in units of 2**-24."""
    edges = np.cumsum(np.append(0, coder_probabilities(counts))) * 2**CODER_BITS
    assert (edges == np.rint(edges)).all()
    return [int(edge) for edge in edges]


def entries_at(counts: Counts, quantiles: list[int]) -> list[int]:
    """Return the entry that constriction decodes from a state with each quantile."""
    model = stream.model.Categorical(counts.astype(np.float64), perfect=False)
    states = [np.array([q | (5 << CODER_BITS), 7], dtype=np.uint32) for q in quantiles]
    return [int(stream.stack.AnsCoder(state).decode(model)) for state in states]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=2 * MAX_REACH + 2))
def test_counts_sum_to_the_total_and_none_is_below_1(probabilities: list[float]) -> None:
    p = np.array(probabilities)
    assume(p.sum() > 1e-6)
    counts = make_counts(p)
    assert counts.sum() == TABLE_TOTAL
    assert counts.min() >= 1
    exact = 1 + p / p.sum() * (TABLE_TOTAL - len(p))
    assert np.abs(counts - exact).max() <= 1 + 1e-6


def test_counts_do_not_depend_on_the_sum_of_the_distribution() -> None:
    p = np.array([0.5, 2.0, 1.25, 0.25])
    assert np.array_equal(make_counts(p), make_counts(1024 * p))


@settings(deadline=None, max_examples=100)
@given(counts_of_tables())
def test_coder_intervals_follow_the_integer_rule_of_the_format(counts: Counts) -> None:
    n = len(counts)
    own = [sum(counts[:i].tolist()) * (2**24 - n) // 2**16 + i for i in range(n)] + [2**24]
    assert coder_starts(counts) == own


@settings(deadline=None, max_examples=100)
@given(counts_of_tables())
def test_coder_probabilities_are_exactly_those_of_constriction(counts: Counts) -> None:
    starts = coder_starts(counts)
    entries = list(range(len(counts)))
    assert entries_at(counts, starts[:-1]) == entries
    assert entries_at(counts, [end - 1 for end in starts[1:]]) == entries


@settings(deadline=None, max_examples=50)
@given(counts_of_tables())
def test_coder_probabilities_sum_to_1_and_stay_close_to_the_counts(counts: Counts) -> None:
    probabilities = coder_probabilities(counts)
    assert probabilities.sum() == 1
    assert probabilities.min() > 0
    error = np.abs(probabilities - counts / TABLE_TOTAL).max()
    assert error <= (len(counts) + 1) / 2**CODER_BITS


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(counts_of_tables(), st.just(EMPTY)), min_size=1, max_size=6))
def test_unpack_is_the_inverse_of_pack(counts: list[Counts]) -> None:
    tables = CodingTables(tuple(counts))
    lengths, values = tables.pack()
    assert lengths.dtype == values.dtype == np.uint16
    again = unpack_tables(lengths, values)
    assert len(again) == len(tables)
    for own, other in zip(tables.counts, again.counts, strict=True):
        assert np.array_equal(own, other)


def test_table_reaches_from_minus_to_plus_its_reach() -> None:
    tables = CodingTables((EMPTY, np.array([TABLE_TOTAL - 1, 1]), make_counts(np.ones(8))))
    assert [tables.reach(index) for index in range(3)] == [0, 0, 3]


@pytest.mark.parametrize(
    "counts",
    [
        [TABLE_TOTAL],
        [1, 1, TABLE_TOTAL - 2],
        [0, TABLE_TOTAL],
        [-1, TABLE_TOTAL + 1],
        [1, TABLE_TOTAL - 2],
        [1, TABLE_TOTAL],
        [1] * (2 * MAX_REACH + 3) + [TABLE_TOTAL - 2 * MAX_REACH - 3],
    ],
)
def test_malformed_tables_are_refused(counts: list[int]) -> None:
    with pytest.raises(ModelError, match="table 1"):
        CodingTables((EMPTY, np.array(counts, dtype=np.int64)))


def test_table_of_the_largest_reach_is_accepted() -> None:
    size = 2 * MAX_REACH + 2
    assert CodingTables((make_counts(np.ones(size)),)).reach(0) == MAX_REACH


@pytest.mark.parametrize("lengths", [[], [2], [6], [2, 4], [[4]], [65535, 4]])
def test_lengths_that_do_not_add_up_are_refused(lengths: list[int]) -> None:
    values = make_counts(np.ones(4)).astype(np.uint16)
    with pytest.raises(ModelError, match="add up"):
        unpack_tables(np.array(lengths, dtype=np.uint16), values)


def test_counts_in_more_than_one_row_are_refused() -> None:
    values = make_counts(np.ones(4)).astype(np.uint16)
    with pytest.raises(ModelError):
        unpack_tables(np.array([4], dtype=np.uint16), values[None])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 2**16 - 1), max_size=8),
    st.lists(st.integers(0, 2**16 - 1), max_size=40),
)
def test_garbage_tables_are_refused_with_model_errors_alone(
    lengths: list[int], values: list[int]
) -> None:
    try:
        tables = unpack_tables(np.array(lengths, np.uint16), np.array(values, np.uint16))
    except ModelError:
        return
    assert [len(counts) for counts in tables.counts] == lengths


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-32767, 32767)), st.integers(0, MAX_REACH))
def test_symbols_beyond_the_reach_become_escapes(symbols: list[int], reach: int) -> None:
    entries, escaped = split_escapes(np.array(symbols, dtype=np.int32), reach)
    assert escaped.tolist() == [symbol for symbol in symbols if abs(symbol) > reach]
    expected = [2 * reach + 1 if abs(symbol) > reach else symbol + reach for symbol in symbols]
    assert entries.tolist() == expected


def test_bits_are_those_of_the_coder_and_escapes_cost_16_more() -> None:
    tables = CodingTables((EMPTY, make_counts(np.array([1.0, 2.0, 1.0, 0.5]))))
    cost = -np.log2(coder_probabilities(tables.counts[1]))
    symbols = np.array([0, 0, -1, 0, 1, 9], dtype=np.int32)
    indexes = np.array([0, 0, 1, 1, 1, 1], dtype=np.int32)
    assert tables.bits(symbols, indexes) == pytest.approx(cost.sum() + ESCAPE_BITS)
    assert tables.bits(symbols[:2], indexes[:2]) == 0
