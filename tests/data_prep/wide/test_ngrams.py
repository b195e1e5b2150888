from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.wide.ngrams import Corpus, NgramTable, grow

SEQUENCES = st.lists(
    st.lists(st.sampled_from([0, 1, 5, 2**60]), max_size=8), min_size=1, max_size=6
)


def flat(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return symbols with a separator after each sequence, and the sequence of each position."""
    symbols = [symbol for sequence in sequences for symbol in [*sequence, -1]]
    numbers = [number for number, items in enumerate(sequences) for _ in [*items, -1]]
    return np.array(symbols, np.int64), np.array(numbers, np.int64)


def spell(table: NgramTable, alphabet: np.ndarray) -> set[tuple[int, ...]]:
    """Return all n-grams of a table, decoded from their keys."""
    nodes = [(symbol,) for symbol in alphabet.tolist()]
    found = set(nodes)
    for keys in table.keys:
        prefixes, last = np.divmod(keys, max(table.symbols, 1))
        pairs = zip(prefixes.tolist(), last.tolist(), strict=True)
        nodes = [(*nodes[prefix], int(alphabet[symbol])) for prefix, symbol in pairs]
        found.update(nodes)
    return found


@given(SEQUENCES, st.integers(1, 3), st.integers(1, 4))
def test_ngrams_are_counted_once_per_sequence_with_its_weight(
    sequences: list[list[int]], minimum: int, longest: int
) -> None:
    # Symbols of 2**60 do not leave room for an index in 63 bits: the other way of sorting.
    symbols, numbers = flat(sequences)
    weights = 1 + np.arange(len(sequences)) % 2
    grown = grow(Corpus(symbols, numbers, weights), (1, longest), minimum, lambda: None)
    totals: dict[tuple[int, ...], int] = {}
    for sequence, weight in zip(sequences, weights.tolist(), strict=True):
        ngrams = {
            tuple(sequence[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(sequence) - size + 1)
        }
        for ngram in ngrams:
            totals[ngram] = totals.get(ngram, 0) + weight
    expected = {ngram for ngram, total in totals.items() if total >= minimum}
    assert spell(grown.table, grown.alphabet) == expected
    assert grown.table.features == len(expected)
    found = np.searchsorted(grown.alphabet, symbols)
    known = np.isin(symbols, grown.alphabet)
    again = list(grown.table.walk(np.where(known, found, -1)))
    for level, expected_level in zip(again, grown.levels, strict=True):
        assert level.starts.tolist() == expected_level.starts.tolist()
        assert level.nodes.tolist() == expected_level.nodes.tolist()


def test_pruning_keeps_the_selected_ngrams() -> None:
    symbols, numbers = flat([[3, 4, 3, 4], [3, 4, 4], [4, 3]])
    grown = grow(Corpus(symbols, numbers, np.ones(3)), (2, 3), 1, lambda: None)
    spelled = spell(grown.table, grown.alphabet)
    counts = {ngram for ngram in spelled if len(ngram) == 1 or ngram in {(3, 4), (4, 3)}}
    table = grown.table
    # Both kept n-grams have two symbols; keys are ordered by them.
    pairs = [(3, 4), (4, 3), (4, 4)]
    kept = np.array([pair != (4, 4) for pair in pairs] + [False] * len(table.keys[1]))
    assert spell(table.pruned(kept), grown.alphabet) == counts


@pytest.mark.parametrize("size", [1, 3])
def test_a_table_without_ngrams_finds_nothing(size: int) -> None:
    table = NgramTable(0, [np.empty(0, np.int64)] * (size - 1), 1)
    levels = list(table.walk(np.full(4, -1)))
    assert [len(level.starts) for level in levels] == [0] * size
    assert table.features == 0
