"""n-grams of symbols as a trie in sorted arrays.

An n-gram is identified by its key, `node of its first n - 1 symbols * A + last symbol`, where A is
the size of the alphabet; its node is the rank of the key among the keys of its length. The node of
a single symbol is the symbol. A set of n-grams that contains the parts of each of its members, such
as the n-grams of at least two documents, is therefore one sorted array of numbers for each length:
16 million bytes for 2 million n-grams, found by bisection, without a string.

Shapes: N positions in all sequences, A symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Level(NamedTuple):
    """The known n-grams of one length in a text.

    Attributes:
        starts: positions of the first symbols, ascending.
        nodes: the n-gram at each of these positions.
    """

    starts: Integers
    nodes: Integers


class NgramTable:
    """A set of n-grams.

    Args:
        symbols: A.
        keys: ascending keys of the n-grams of length 2, 3, etc.
        shortest: length of the shortest n-grams that are features.
    """

    def __init__(self, symbols: int, keys: Sequence[Integers], shortest: int) -> None:
        self.symbols, self.keys, self.shortest = symbols, tuple(keys), shortest
        sizes = [0] * (shortest - 1) + [symbols, *map(len, keys)][shortest - 1 :]
        ends = np.cumsum(sizes).tolist()
        self.first_features = [0, *ends[:-1]]
        """Index of the first feature of length 1, 2, etc."""
        self.features: int = ends[-1]
        """Number of features."""

    def walk(self, symbols: Integers) -> Iterator[Level]:
        """Find the n-grams of a text, from the shortest to the longest.

        Args:
            symbols: `(N,)`, negative where no n-gram extends across.
        """
        starts = np.flatnonzero(symbols >= 0)
        level = Level(starts, symbols[starts])
        yield level
        for size, keys in enumerate(self.keys, start=2):
            extended = _extend(level, symbols, size, self.symbols)
            nodes = _ranks(extended.nodes, keys)
            found = nodes >= 0
            level = Level(extended.starts[found], nodes[found])
            yield level

    def features_of(self, levels: Iterable[Level]) -> Iterator[tuple[int, Level]]:
        """Yield the length of the n-grams and the level, for levels that are features.

        Args:
            levels: the n-grams of length 1, 2, etc. In the result, features replace the nodes.
        """
        for size, level in enumerate(levels, start=1):
            if size >= self.shortest:
                yield size, Level(level.starts, level.nodes + self.first_features[size - 1])

    def pruned(self, kept: NDArray[np.bool_]) -> NgramTable:
        """Return the n-grams that a mask of the features selects.

        Args:
            kept: one value for each feature; true for the parts of each n-gram that is kept.
        """
        ranks: Integers = np.arange(self.symbols)
        keys = []
        for size, old in enumerate(self.keys, start=2):
            first = self.first_features[size - 1]
            mask = kept[first : first + len(old)]
            prefixes, last = np.divmod(old[mask], self.symbols)
            keys.append(ranks[prefixes] * self.symbols + last)
            ranks = np.cumsum(mask) - 1
        return NgramTable(self.symbols, keys, self.shortest)


@dataclass(frozen=True)
class Grown:
    """n-grams that occur often enough in a corpus.

    Attributes:
        alphabet: the A known symbols, ascending; a symbol of `table` is an index into them.
        table: the n-grams.
        levels: their occurrences in the corpus.
    """

    alphabet: Integers
    table: NgramTable
    levels: list[Level]


class Corpus(NamedTuple):
    """Sequences of symbols, one after the other.

    Attributes:
        symbols: `(N,)` any numbers, negative where no n-gram extends across.
        sequences: `(N,)` number of the sequence of each position, ascending.
        weights: weight of each sequence.
    """

    symbols: Integers
    sequences: Integers
    weights: NDArray[Any]


def grow(
    corpus: Corpus, lengths: tuple[int, int], minimum: int, on_counted: Callable[[], None]
) -> Grown:
    """Find the n-grams that occur often enough.

    An n-gram occurs at most as often as its parts, so that an n-gram is only counted if those that
    are shorter by one symbol are kept.

    Args:
        corpus: the sequences.
        lengths: length of the shortest and of the longest n-grams.
        minimum: least sum of the weights of the sequences that contain an n-gram.
        on_counted: is called for each length from 1.
    """
    symbols, sequences, weights = corpus
    starts = np.flatnonzero(symbols >= 0)
    level, alphabet = _frequent(Level(starts, symbols[starts]), sequences, weights, minimum)
    on_counted()
    ranks = np.full(len(symbols), -1, np.int64)
    ranks[level.starts] = level.nodes
    levels, tables = [level], []
    for size in range(2, lengths[1] + 1):
        extended = _extend(level, ranks, size, len(alphabet))
        level, keys = _frequent(extended, sequences, weights, minimum)
        levels.append(level)
        tables.append(keys)
        on_counted()
    return Grown(alphabet, NgramTable(len(alphabet), tables, lengths[0]), levels)


def _sorted(keys: Integers) -> tuple[Integers, Integers]:
    """Sort keys of at least 0; return them, and their indices, which ascend among equal keys."""
    bits = len(keys).bit_length()
    if len(keys) and int(keys.max()) >> (63 - bits):
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    # Sorting numbers that contain their index takes less than a fifth of the time of argsort.
    packed = keys << bits
    packed |= np.arange(len(keys))
    packed.sort()
    return packed >> bits, packed & ((1 << bits) - 1)


def _ranks(wanted: Integers, keys: Integers) -> Integers:
    """Return the index of each wanted key in the ascending keys, or -1."""
    # With ascending values, bisection reads the keys in order, which saves more time than sorting
    # takes.
    ascending, order = _sorted(wanted)
    positions = np.searchsorted(keys, ascending)
    is_known = np.append(keys, -1)[positions] == ascending
    ranks = np.empty(len(wanted), np.int64)
    ranks[order] = np.where(is_known, positions, -1)
    return ranks


def _extend(level: Level, symbols: Integers, size: int, alphabet: int) -> Level:
    """Return the keys of the n-grams of `size` symbols whose two shorter parts are known."""
    known = np.zeros(len(symbols) + 1, bool)
    known[level.starts] = True
    extended = known[level.starts + 1]
    starts = level.starts[extended]
    return Level(starts, level.nodes[extended] * alphabet + symbols[starts + size - 1])


def _frequent(
    level: Level, sequences: Integers, weights: NDArray[Any], minimum: int
) -> tuple[Level, Integers]:
    """Keep the keys with enough weight; return their ranks, and the ascending keys."""
    keys, order = _sorted(level.nodes)
    containing = sequences[level.starts[order]]
    is_first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    groups = np.cumsum(is_first, dtype=np.int32) - 1
    in_new_sequence = is_first.copy()
    in_new_sequence[1:] |= containing[1:] != containing[:-1]
    totals = np.bincount(groups[in_new_sequence], weights[containing[in_new_sequence]])
    kept = totals >= minimum
    ranks = np.where(kept, np.cumsum(kept) - 1, -1)
    nodes = np.empty(len(order), np.int64)
    nodes[order] = ranks[groups]
    found = nodes >= 0
    return Level(level.starts[found], nodes[found]), keys[is_first][kept]
