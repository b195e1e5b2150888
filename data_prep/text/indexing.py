"""Tokenization of many texts into numbered tokens.

There are three implementations with equal results:

- `_NativeIndexer` runs the built-in rules in C++, for large data sets on machines with a compiler.
- `_ChunkIndexer` tokenizes each distinct chunk between spaces ("Movie." or "(it's") once, because
  most chunks of a text have occurred before; numpy then expands chunks to tokens.
- `_TextIndexer` calls the tokenizer for each text, for a few texts and for tokenizers that are not
  `ChunkTokenizer`s.

Shapes: n texts, N tokens in all texts, M distinct tokens, K chunks, C distinct chunks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.text import native_tokens
from celltune.data_prep.text.base import ChunkTokenizer, Tokenizer
from celltune.data_prep.text.tokenizers import open_tokenizer

THREADS = min(8, os.cpu_count() or 1)

BLOCK_CHARACTERS = 1 << 23
"""Approximate size of a block of texts. Larger blocks repeat fewer chunks; smaller ones save memory
and give finer progress."""

CHUNKS_FROM_CHARACTERS = 1 << 16
"""Size below which tokenizing text by text is faster than importing Arrow."""

NATIVE_FROM_CHARACTERS = 1 << 20
"""Size below which tokenizing in Python is faster than compiling the library."""

EXPANDED_AT_ONCE = 1 << 18
"""Number of chunks that are expanded to tokens at a time, chosen to fit the processor's cache."""

Ids = NDArray[np.int32]
Lengths = NDArray[np.int64]
_EMPTY: Ids = np.empty(0, np.int32)


@dataclass(frozen=True, eq=False)
class IndexedTexts:
    """Tokenized texts as indices.

    Attributes:
        ids: `(N,)` index of each token in `tokens`.
        offsets: `(n + 1,)`; text i is `ids[offsets[i]:offsets[i + 1]]`.
        tokens: the M distinct tokens.
    """

    ids: Ids
    offsets: NDArray[np.int64]
    tokens: list[str]


class Numbering(defaultdict[str, int]):
    """Numbers distinct strings from 0 in the order of their first look-up."""

    def __init__(self) -> None:
        super().__init__(count().__next__)

    def of(self, keys: Sequence[str]) -> Ids:
        """Return the `(len(keys),)` numbers of strings."""
        return np.fromiter(map(self.__getitem__, keys), np.int32, len(keys))


def index_texts(
    texts: Sequence[str],
    name: str,
    *,
    lowercase: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> IndexedTexts:
    """Tokenize texts and number their tokens.

    Args:
        texts: texts without lone surrogates.
        name: name of the tokenizer.
        lowercase: lower-case texts first.
        on_progress: is called with the number of finished texts after each block.

    Raises:
        DataError: a library that the tokenizer needs is not installed, or the tokenizer returned an
            empty token.
    """
    indexer = _indexer(open_tokenizer(name), lowercase, sum(map(len, texts)))
    ids: list[Ids] = []
    lengths: list[Lengths] = []
    finished = 0
    for block_ids, block_lengths in indexer(_blocks(texts)):
        ids.append(block_ids)
        lengths.append(block_lengths)
        finished += len(block_lengths)
        on_progress(finished)
    if "" in indexer.tokens:
        raise DataError(
            f"The tokenizer '{name}' returned an empty token. Fix the package that defines it."
        )
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([*lengths, np.empty(0, np.int64)]), out=offsets[1:])
    return IndexedTexts(np.concatenate([*ids, _EMPTY]), offsets, list(indexer.tokens))


def _indexer(
    tokenizer: Tokenizer, lowercase: bool, characters: int
) -> _TextIndexer | _ChunkIndexer | _NativeIndexer:
    if not isinstance(tokenizer, ChunkTokenizer) or characters < CHUNKS_FROM_CHARACTERS:
        return _TextIndexer(tokenizer, lowercase)
    if (
        tokenizer.native_rules is not None
        and characters >= NATIVE_FROM_CHARACTERS
        and native_tokens.available()
    ):
        return _NativeIndexer(tokenizer.native_rules, lowercase)
    return _ChunkIndexer(tokenizer, lowercase)


def _blocks(texts: Sequence[str]) -> list[Sequence[str]]:
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64) // BLOCK_CHARACTERS
    cuts = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(texts)]
    return [texts[a:b] for a, b in pairwise(cuts) if b > a]


class _TextIndexer:
    """Runs any tokenizer text by text."""

    def __init__(self, tokenizer: Tokenizer, lowercase: bool) -> None:
        self._tokenizer, self._lowercase = tokenizer, lowercase
        self.tokens = Numbering()

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, Lengths]]:
        for texts in blocks:
            ids = [self._ids(text.lower() if self._lowercase else text) for text in texts]
            lengths = np.array([len(text_ids) for text_ids in ids], dtype=np.int64)
            yield np.concatenate([*ids, _EMPTY]), lengths

    def _ids(self, text: str) -> Ids:
        return self.tokens.of(self._tokenizer(text))


class _NativeIndexer:
    """Runs the rules of native_tokens.cpp, blocks in parallel threads."""

    def __init__(self, rules: str, lowercase: bool) -> None:
        self._number = partial(native_tokens.number_texts, rules=rules, lowercase=lowercase)
        self.tokens = Numbering()

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, Lengths]]:
        with ThreadPoolExecutor(min(len(blocks), THREADS) or 1) as pool:
            for block in pool.map(self._number, blocks):
                yield self.tokens.of(block.tokens)[block.ids], block.counts


class _ChunkIndexer:
    """Tokenizes each distinct chunk between spaces once."""

    def __init__(self, tokenizer: ChunkTokenizer, lowercase: bool) -> None:
        self._tokenizer, self._lowercase = tokenizer, lowercase
        self.tokens = Numbering()

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, Lengths]]:
        """Yield the `(N,)` ids and the `(n,)` lengths of the texts of each block."""
        import pyarrow as pa

        # Arrow and numpy release the GIL, so threads suffice.
        with ThreadPoolExecutor(min(len(blocks), THREADS) or 1) as pool:
            chunked = list(pool.map(self._cut, blocks))
            if not chunked:
                return
            coded = pa.chunked_array([chunks for chunks, _ in chunked]).unify_dictionaries()
            table = self._tokenize(coded.chunk(0).dictionary.to_pylist())
            occurrences = [chunk.indices.to_numpy() for chunk in coded.chunks]
            yield from pool.map(table.expand, occurrences, [bounds for _, bounds in chunked])

    def _cut(self, texts: Sequence[str]) -> tuple[Any, NDArray[np.int64]]:
        """Cut texts at spaces.

        Returns:
            The `(K,)` chunks as a dictionary-encoded Arrow array, and `(n + 1,)` bounds: text i
            consists of chunks `bounds[i]` to `bounds[i + 1]`.
        """
        import pyarrow as pa

        encoded = [self._tokenizer.isolate(text).encode() for text in texts]
        # Every text starts with a space, so a chunk starts at each space before another character.
        joined = b" " + b" ".join(encoded)
        is_space = np.frombuffer(joined, np.uint8) == ord(" ")
        starts = np.flatnonzero(is_space[:-1] > is_space[1:])
        offsets = np.empty(len(starts) + 1, np.int32)
        offsets[:-1], offsets[-1] = starts, len(joined)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
        chunks = pa.Array.from_buffers(pa.string(), len(starts), buffers)
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
        bounds = np.searchsorted(starts, np.concatenate([[0], np.cumsum(sizes)]))
        return chunks.dictionary_encode(), bounds

    def _tokenize(self, chunks: list[str]) -> TokenTable:
        """Tokenize the C distinct chunks."""
        # All chunks are marked as one text, because one call per chunk would dominate the time. A
        # separator that occurs in no chunk shows where the tokens of each chunk end.
        text = " ".join(chunks)
        separator = "\0"
        # Marking can remove what is between two of these characters, so both texts are searched.
        texts = (text, self._mark(text)) if separator in text else ()
        while any(separator in each for each in texts):
            separator += "\0"
        marked = self._mark(f" {separator} ".join([*chunks, ""]))
        self.tokens[separator] = -1
        ids = self.tokens.of(marked.split())
        del self.tokens[separator]
        ends = (np.flatnonzero(ids < 0) - np.arange(len(chunks))).astype(np.int32)
        return TokenTable(ids[ids >= 0], np.diff(ends, prepend=np.int32(0)), ends)

    def _mark(self, text: str) -> str:
        return self._tokenizer.mark(text.lower() if self._lowercase else text)


class TokenTable(NamedTuple):
    """The tokens of C distinct chunks, or the subwords of C distinct words.

    Attributes:
        ids: the tokens of all distinct chunks.
        sizes: `(C,)` number of tokens of each chunk.
        ends: `(C,)` end of each chunk in `ids`.
    """

    ids: Ids
    sizes: Ids
    ends: Ids

    def expand_texts(
        self, chunks: Ids, offsets: NDArray[np.int64]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """Replace chunks with their tokens, and return offsets of the texts instead of lengths.

        Args:
            chunks: `(K,)` indices of distinct chunks.
            offsets: `(n + 1,)`; text i consists of chunks `offsets[i]` to `offsets[i + 1]`.

        Returns:
            `(N,)` token ids and their `(n + 1,)` offsets.
        """
        ids, lengths = self.expand(chunks, offsets)
        return ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def expand(self, chunks: Ids, bounds: NDArray[np.int64]) -> tuple[Ids, Lengths]:
        """Replace chunks with their tokens.

        Args:
            chunks: `(K,)` indices of distinct chunks.
            bounds: `(n + 1,)`; text i consists of chunks `bounds[i]` to `bounds[i + 1]`.

        Returns:
            `(N,)` token ids and `(n,)` lengths of the texts.
        """
        ids, ends_in_text = [_EMPTY], [np.zeros(1, np.int64)]
        for start in range(0, len(chunks), EXPANDED_AT_ONCE):
            group = chunks[start : start + EXPANDED_AT_ONCE]  # (k,)
            sizes = self.sizes[group]  # (k,)
            ends = np.cumsum(sizes, dtype=np.int32)
            positions = np.repeat(self.ends[group] - ends, sizes)
            positions += np.arange(len(positions), dtype=np.int32)
            ids.append(self.ids[positions])
            ends_in_text.append(ends_in_text[-1][-1] + ends)
        return np.concatenate(ids), np.diff(np.concatenate(ends_in_text)[bounds])
