"""The two blocks of features: n-grams of words, and n-grams of characters within chunks.

A chunk is everything between white space, with a space before and after it, so that prefixes,
suffixes, smileys and hashtags have n-grams of their own (scikit-learn's `char_wb`). As no n-gram
crosses chunks, each distinct chunk is read once, however many texts contain it.

Shapes: n texts, N positions in all texts, C distinct chunks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, pairwise, repeat
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from celltune.data_prep.wide.ngrams import Corpus, Integers, Level, NgramTable, grow
from celltune.data_prep.wide.presence import Rows, interleave
from celltune.data_prep.wide.text import SEPARATOR, words_of

TEXTS_AT_ONCE = 2_000
"""Number of texts whose words are strings at the same time."""
PAIRS_AT_ONCE = 1 << 20
"""Approximate number of n-grams of characters that are compared at the same time. Arrays of this
size are allocated in memory that was used before."""
SHORTEST_CHARACTERS = 2

_END, _UNKNOWN = -2, -1


class Block(Protocol):
    """One kind of n-grams of normalized texts."""

    kind: ClassVar[str]
    table: NgramTable

    def rows(self, texts: Sequence[str]) -> Rows:
        """Return the features of each text, without repetition."""

    def occurrences(self, text: str) -> Iterator[tuple[int, str]]:
        """Return the features of a text, with their spelling."""


class WordNgrams:
    """n-grams of adjacent words and punctuation marks.

    Args:
        words: the known words; a symbol is an index into them.
        table: the n-grams.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, words: Sequence[str], table: NgramTable) -> None:
        self.words, self.table = tuple(words), table
        self._symbols = {word: symbol for symbol, word in enumerate(self.words)}
        self._symbols[SEPARATOR] = _END

    @classmethod
    def fit(
        cls, texts: Sequence[str], longest: int, minimum: int, on_counted: Callable[[], None]
    ) -> tuple[WordNgrams, Rows]:
        """Choose the n-grams of at least `minimum` texts; return them, and those of each text.

        Args:
            texts: normalized texts.
            longest: length of the longest n-grams.
            minimum: least number of texts that contain an n-gram.
            on_counted: is called for each length.
        """
        numbers = defaultdict[str, int](count().__next__, {SEPARATOR: _END})
        symbols = np.concatenate(
            [
                np.fromiter(map(numbers.__getitem__, words_of(joined)), np.int64)
                for joined in _joined(texts)
            ]
        )
        sequences = _sequences(symbols)
        corpus = Corpus(symbols, sequences, np.ones(len(texts) + 1))
        grown = grow(corpus, (1, longest), minimum, on_counted)
        distinct = list(numbers)[1:]
        words = [distinct[index] for index in grown.alphabet.tolist()]
        rows = _rows(grown.table, grown.levels, sequences, len(texts))
        return cls(words, grown.table), rows.distinct(grown.table.features)

    def rows(self, texts: Sequence[str]) -> Rows:
        """Return the features of each text, without repetition."""
        symbols = np.concatenate([self._symbols_of(words_of(joined)) for joined in _joined(texts)])
        rows = _rows(self.table, self.table.walk(symbols), _sequences(symbols), len(texts))
        return rows.distinct(self.table.features)

    def occurrences(self, text: str) -> Iterator[tuple[int, str]]:
        """Return the features of a text, with their spelling."""
        words = words_of(text)
        levels = self.table.walk(self._symbols_of(words))
        for size, level in self.table.features_of(levels):
            for start, feature in zip(level.starts.tolist(), level.nodes.tolist(), strict=True):
                yield feature, " ".join(words[start : start + size])

    def _symbols_of(self, words: Sequence[str]) -> Integers:
        known = map(self._symbols.get, words, repeat(_UNKNOWN))
        return np.fromiter(known, np.int64, len(words))


class CharacterNgrams:
    """n-grams of characters within chunks.

    Args:
        alphabet: the known code points, ascending; a symbol is an index into them.
        table: the n-grams.
    """

    kind: ClassVar[str] = "characters"

    def __init__(self, alphabet: Integers, table: NgramTable) -> None:
        self.alphabet, self.table = alphabet, table

    @classmethod
    def fit(
        cls, texts: Sequence[str], longest: int, minimum: int, on_counted: Callable[[], None]
    ) -> tuple[CharacterNgrams, Rows]:
        """Choose the n-grams of at least `minimum` texts; return them, and those of each text.

        Args:
            texts: normalized texts.
            longest: length of the longest n-grams.
            minimum: least number of texts that contain an n-gram.
            on_counted: is called for each length.
        """
        chunked = _chunk(texts)
        # The sum over the chunks that contain an n-gram counts a text once for each of them, so the
        # n-grams that are chosen by it include all that occur in enough texts.
        texts_of_chunks = np.bincount(chunked.rows.items, minlength=len(chunked.chunks))
        codes = _code_points(chunked.chunks)
        sequences = _sequences(codes)
        corpus = Corpus(codes, sequences, texts_of_chunks)
        grown = grow(corpus, (SHORTEST_CHARACTERS, longest), minimum, on_counted)
        table = grown.table
        of_chunks = _rows(table, grown.levels, sequences, len(chunked.chunks))
        rows = _expand(chunked.rows, of_chunks, table.features)
        kept = np.bincount(rows.items, minlength=table.features) >= minimum
        ranks = (np.cumsum(kept) - 1).astype(np.int32)
        rows = rows.select(kept[rows.items])
        return cls(grown.alphabet, table.pruned(kept)), Rows(ranks[rows.items], rows.offsets)

    def rows(self, texts: Sequence[str]) -> Rows:
        """Return the features of each text, without repetition."""
        chunked = _chunk(texts)
        codes = _code_points(chunked.chunks)
        levels = self.table.walk(self._symbols_of(codes))
        of_chunks = _rows(self.table, levels, _sequences(codes), len(chunked.chunks))
        return _expand(chunked.rows, of_chunks, self.table.features)

    def occurrences(self, text: str) -> Iterator[tuple[int, str]]:
        """Return the features of a text, with their spelling."""
        chunks = text.split()
        joined = _padded(chunks)
        levels = self.table.walk(self._symbols_of(_code_points(chunks)))
        for size, level in self.table.features_of(levels):
            for start, feature in zip(level.starts.tolist(), level.nodes.tolist(), strict=True):
                yield feature, joined[start : start + size]

    def _symbols_of(self, codes: Integers) -> Integers:
        symbols = np.searchsorted(self.alphabet, codes)
        known = np.append(self.alphabet, _UNKNOWN)[symbols] == codes
        return np.where(known, symbols, _UNKNOWN)


class _Chunked(NamedTuple):
    """Texts as chunks.

    Attributes:
        chunks: the C distinct chunks.
        rows: the distinct chunks of each text.
    """

    chunks: list[str]
    rows: Rows


def _chunk(texts: Sequence[str]) -> _Chunked:
    numbers = defaultdict[str, int](count().__next__)
    parts = [np.fromiter(map(numbers.__getitem__, text.split()), np.int32) for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    rows = Rows(np.concatenate([*parts, np.empty(0, np.int32)]), offsets)
    return _Chunked(list(numbers), rows.distinct(len(numbers)))


def _padded(chunks: Iterable[str]) -> str:
    return "".join(f" {chunk} {SEPARATOR}" for chunk in chunks)


def _code_points(chunks: Iterable[str]) -> Integers:
    """Return the characters of padded chunks, `(N,)`; the separator is `_END`."""
    encoded = _padded(chunks).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, np.dtype("<u4")).astype(np.int64)
    codes[codes == ord(SEPARATOR)] = _END
    return codes


def _joined(texts: Sequence[str]) -> Iterator[str]:
    """Join groups of texts; each text ends with a separator."""
    for start in range(0, max(len(texts), 1), TEXTS_AT_ONCE):
        yield "".join(text + SEPARATOR for text in texts[start : start + TEXTS_AT_ONCE])


def _sequences(symbols: Integers) -> Integers:
    """Return the number of separators before each position, `(N,)`."""
    return np.cumsum(symbols == _END, dtype=np.int32)


def _rows(table: NgramTable, levels: Iterable[Level], sequences: Integers, total: int) -> Rows:
    """Return the features of each of `total` sequences, some of them repeatedly."""
    parts = [
        Rows.of_sorted(sequences[level.starts], level.nodes, total)
        for _, level in table.features_of(levels)
    ]
    mixed = interleave(parts)
    return Rows(mixed.items, mixed.offsets[:: len(parts)])


def _expand(chunks_of_texts: Rows, features_of_chunks: Rows, features: int) -> Rows:
    """Return the features of the chunks of each text, without repetition."""
    pairs = chunks_of_texts.sums(features_of_chunks.lengths[chunks_of_texts.items])
    groups = np.cumsum(pairs) // PAIRS_AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(chunks_of_texts)]
    parts = []
    for begin, end in pairwise(bounds):
        offsets = chunks_of_texts.offsets[begin : end + 1]
        expanded = features_of_chunks.take(chunks_of_texts.items[offsets[0] : offsets[-1]])
        rows = Rows(expanded.items, expanded.offsets[offsets - offsets[0]])
        parts.append(rows.distinct(features))
    return Rows.stacked(parts)
