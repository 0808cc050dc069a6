"""Integer CDF tables: what a symbol costs, fixed at export and shipped with the weights.

FORMAT.md section 6. A table covers the symbols -reach..reach; its last entry is the escape.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from caecodec.errors import ModelError

TABLE_TOTAL = 2**16
"""Sum of the counts of every table."""
CODER_BITS = 24
"""Precision at which the entropy coder uses a table."""
ESCAPE_BITS = 16
"""Bits that follow an escape."""
MAX_ESCAPED = 2 ** (ESCAPE_BITS - 1) - 1
"""Largest magnitude of any symbol."""
MAX_REACH = 511

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class CodingTables:
    """Tables by index; an empty table stands for the symbol 0, which costs nothing.

    Attributes:
        counts: one int64 array (2 * reach + 2,) per table, each summing to TABLE_TOTAL, or empty.
    """

    counts: tuple[NDArray[np.int64], ...]

    def __post_init__(self) -> None:
        for index, counts in enumerate(self.counts):
            if len(counts) == 0:
                continue
            if len(counts) % 2 or len(counts) > 2 * MAX_REACH + 2:
                raise ModelError(
                    f"table {index} has {len(counts)} entries, expected an even number "
                    f"up to {2 * MAX_REACH + 2}"
                )
            if counts.min() < 1 or counts.sum() != TABLE_TOTAL:
                raise ModelError(
                    f"table {index} is malformed, expected counts above 0 that sum to {TABLE_TOTAL}"
                )

    def __len__(self) -> int:
        return len(self.counts)

    def reach(self, index: int) -> int:
        """Return the largest magnitude that table `index` codes without an escape."""
        return max(0, len(self.counts[index]) // 2 - 1)

    def bits(self, symbols: IntArray, indexes: IntArray) -> float:
        """Return what the tables promise for symbols: the sum of -log2 P, escapes included."""
        total = 0.0
        for index in np.unique(indexes):
            if len(self.counts[index]) == 0:
                continue
            entries, escaped = split_escapes(symbols[indexes == index], self.reach(index))
            probabilities = coder_probabilities(self.counts[index])
            total -= float(np.log2(probabilities[entries]).sum())
            total += ESCAPE_BITS * len(escaped)
        return total

    def magnitude_bits(self, index: int, largest: int) -> FloatArray:
        """Return (largest + 1,): what symbols of magnitude 0..largest cost, the signs' mean."""
        reach = self.reach(index)
        bits = -np.log2(coder_probabilities(self.counts[index]))
        costs = np.full(largest + 1, bits[-1] + ESCAPE_BITS)
        inside = min(reach, largest)
        costs[: inside + 1] = (
            bits[reach : reach + inside + 1] + bits[reach - inside : reach + 1][::-1]
        ) / 2
        return costs

    def pack(self) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return (lengths, all counts in one row), as weights files store them."""
        lengths = np.array([len(counts) for counts in self.counts], dtype=np.uint16)
        return lengths, np.concatenate(self.counts).astype(np.uint16)


def unpack_tables(lengths: NDArray[np.uint16], values: NDArray[np.uint16]) -> CodingTables:
    """Inverse of `CodingTables.pack`.

    Raises:
        ModelError: lengths and values disagree, or a table is malformed.
    """
    if lengths.dtype != np.uint16 or values.dtype != np.uint16:
        raise ModelError("the CDF tables are not stored as uint16")
    ends = np.cumsum(lengths.astype(np.int64))
    if lengths.ndim != 1 or values.ndim != 1 or len(ends) == 0 or ends[-1] != len(values):
        raise ModelError("the table lengths do not add up to the stored counts")
    return CodingTables(tuple(np.split(values.astype(np.int64), ends[:-1])))


def make_counts(probabilities: FloatArray) -> NDArray[np.int64]:
    """Round a distribution over -reach..reach plus escape to counts, none below 1.

    Args:
        probabilities: (2 * reach + 2,), at least 0; need not sum to 1.
    """
    size = len(probabilities)
    scaled = probabilities / probabilities.sum() * (TABLE_TOTAL - size)
    counts: NDArray[np.int64] = np.floor(scaled).astype(np.int64) + 1
    missing = TABLE_TOTAL - int(counts.sum())
    largest_remainders = np.argsort(np.floor(scaled) - scaled, kind="stable")[:missing]
    counts[largest_remainders] += 1
    return counts


def coder_probabilities(counts: NDArray[np.int64]) -> FloatArray:
    """Return the probabilities that the coder uses: FORMAT.md section 6.2, all in integers.

    Entry i starts at floor(C_i (2**24 - n) / 2**16) + i, where C_i sums the counts before it and n
    is their number; the last entry ends at 2**24.
    """
    size = len(counts)
    before = np.concatenate(([0], np.cumsum(counts)[:-1]))
    starts = before * (2**CODER_BITS - size) // TABLE_TOTAL + np.arange(size)
    widths: FloatArray = np.diff(np.append(starts, 2**CODER_BITS)) / 2.0**CODER_BITS
    return widths


def split_escapes(symbols: IntArray, reach: int) -> tuple[IntArray, IntArray]:
    """Return (table entries (n,), the symbols beyond reach in order)."""
    beyond = np.abs(symbols) > reach
    entries = np.where(beyond, 2 * reach + 1, symbols + reach).astype(np.int32)
    return entries, symbols[beyond]
