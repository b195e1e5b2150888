"""Which features occur in which documents: a binary matrix in compressed rows.

Shapes: n documents, B blocks of features, K pairs of a document and one of its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of integers, one after the other.

    Attributes:
        items: `(K,)`.
        offsets: `(n + 1,)`; row i is `items[offsets[i]:offsets[i + 1]]`.
    """

    items: NDArray[np.integer[Any]]
    offsets: Integers

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Integers:
        """Number of items in each row, `(n,)`."""
        return np.diff(self.offsets)

    @classmethod
    def of_sorted(cls, rows: Integers, items: NDArray[np.integer[Any]], count: int) -> Rows:
        """Build rows from the `(K,)` ascending row numbers of items."""
        return cls(items.astype(np.int32), offsets_of(np.bincount(rows, minlength=count)))

    @classmethod
    def stacked(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts, in order; there has to be a part."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(np.concatenate([part.items for part in parts]), offsets_of(lengths))

    def take(self, rows: NDArray[np.integer[Any]]) -> Rows:
        """Return the rows with the given numbers, in this order."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        positions = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        positions += np.arange(offsets[-1])
        return Rows(self.items[positions], offsets)

    def select(self, mask: NDArray[np.bool_]) -> Rows:
        """Return the items that the `(K,)` mask selects."""
        bounds = pairwise(self.offsets.tolist())
        lengths = np.array([np.count_nonzero(mask[begin:end]) for begin, end in bounds], np.int64)
        return Rows(self.items[mask], offsets_of(lengths))

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sum of the `(K,)` values of the items of each row, `(n,)`."""
        totals = np.zeros(len(self))
        filled = np.flatnonzero(self.lengths)
        if len(filled):
            totals[filled] = np.add.reduceat(values, self.offsets[filled], dtype=np.float64)
        return totals

    def distinct(self, size: int) -> Rows:
        """Return the rows without repeated items.

        Args:
            size: the items are below this number.
        """
        positions = np.arange(len(self.items))
        # An item of a row is kept at the position that a scatter of all positions leaves, which
        # takes a fraction of the time for sorting. Rows overwrite what earlier rows left.
        seen_at = np.empty(size, np.int64)
        kept = np.empty(len(self.items), bool)
        for begin, end in pairwise(self.offsets.tolist()):
            row, at = self.items[begin:end], positions[begin:end]
            seen_at[row] = at
            np.equal(seen_at[row], at, out=kept[begin:end])
        return self.select(kept)


def interleave(parts: Sequence[Rows]) -> Rows:
    """Return rows in which row i of every part precedes row i + 1 of the first part.

    Args:
        parts: B parts with n rows each. The result has n * B rows.
    """
    lengths = np.stack([part.lengths for part in parts], axis=1)  # (n, B)
    offsets = offsets_of(lengths.ravel())
    starts = offsets[:-1].reshape(lengths.shape)  # (n, B)
    items = np.empty(offsets[-1], np.result_type(*(part.items for part in parts)))
    for index, part in enumerate(parts):
        targets = np.repeat(starts[:, index] - part.offsets[:-1], part.lengths)
        targets += np.arange(len(part.items))
        items[targets] = part.items
    return Rows(items, offsets)


def offsets_of(lengths: NDArray[Any]) -> Integers:
    """Return the offsets of rows, from their `(n,)` lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
