"""Many texts to numbered tokens at once; fast, and token for token what the tokenizer gives.

Large sets go through `data_prep.native_tokens` where the machine has a compiler. Without one, it
helps that most words of a text were seen before, so that tokenizing them again is wasted: a text is
cut at its blanks into chunks ("Movie." or "(it's"), each distinct chunk is numbered and tokenized
once, and numpy puts the tokens of every chunk in its place. That holds for tokenizers for which
cutting a text at blanks changes nothing; the others are run text by text.

Shapes: n texts, N tokens of all texts together, M distinct tokens, K chunks, C distinct chunks.
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

from celltune.data_prep.text import native_tokens
from celltune.data_prep.text.tokenizers import (
    LINE_BREAK,
    basic_english,
    spaced_basic_english,
    tokenizer,
)

THREADS = min(8, os.cpu_count() or 1)

BLOCK_CHARACTERS = 1 << 23
"""Texts are worked on in blocks of about this size: large enough that few chunks are met twice,
small enough for memory, and for a progress bar to move."""

NATIVE_FROM_CHARACTERS = 1 << 20
"""Fewer are done sooner than a library is compiled."""

EXPANDED_AT_ONCE = 1 << 18
"""Chunks turned into tokens at a time: few enough to stay in the processor's cache."""

Ids = NDArray[np.int32]
_NONE: Ids = np.empty(0, np.int32)


@dataclass(frozen=True, eq=False)
class IndexedTexts:
    """Texts as numbers.

    Attributes:
        ids: ``(N,)``, each token as an index into ``tokens``.
        offsets: ``(n + 1,)``; text i is ``ids[offsets[i]:offsets[i + 1]]``.
        tokens: the M distinct tokens.
    """

    ids: Ids
    offsets: NDArray[np.int64]
    tokens: list[str]


class _Numbers(defaultdict[str, int]):
    """Numbers what it is asked for, from 0 on in the order of asking."""

    def __init__(self) -> None:
        super().__init__(count().__next__)

    def of(self, keys: Sequence[str]) -> Ids:
        return np.fromiter(map(self.__getitem__, keys), np.int32, len(keys))


def index_texts(
    texts: Sequence[str],
    name: str,
    *,
    lowercase: bool = False,
    told: Callable[[int], None] = lambda _: None,
) -> IndexedTexts:
    """Tokenizes texts and numbers their tokens.

    Args:
        texts: what to tokenize; none may hold a lone surrogate.
        name: of the tokenizer.
        lowercase: lower-case texts first.
        told: how many texts are done, after each block.

    Raises:
        DataError: a library that the tokenizer needs isn't installed.
    """
    way = _way(name, lowercase, sum(map(len, texts)))
    ids: list[Ids] = []
    lengths: list[NDArray[np.int64]] = []
    done = 0
    for of_block, lengths_of_block in way(_blocks(texts)):
        ids.append(of_block)
        lengths.append(lengths_of_block)
        done += len(lengths_of_block)
        told(done)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([*lengths, np.empty(0, np.int64)]), out=offsets[1:])
    return IndexedTexts(np.concatenate([*ids, _NONE]), offsets, list(way.tokens))


def _way(name: str, lowercase: bool, characters: int) -> _ByText | _ByChunk | _Native:
    if name not in _SPLITTERS:
        return _ByText(name, lowercase)
    if characters >= NATIVE_FROM_CHARACTERS and native_tokens.available():
        return _Native(name, lowercase)
    return _ByChunk(name, lowercase)


def _blocks(texts: Sequence[str]) -> list[Sequence[str]]:
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64) // BLOCK_CHARACTERS
    cuts = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(texts)]
    return [texts[a:b] for a, b in pairwise(cuts) if b > a]


class _ByText:
    """Any tokenizer, text by text."""

    def __init__(self, name: str, lowercase: bool) -> None:
        self._tokenize = tokenizer(name, lowercase=lowercase)
        self.tokens = _Numbers()

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        for texts in blocks:
            found = [self.tokens.of(self._tokenize(text)) for text in texts]
            yield (
                np.concatenate([*found, _NONE]),
                np.array([len(ids) for ids in found], dtype=np.int64),
            )


class _Native:
    """A tokenizer that is compiled, block by block in threads."""

    def __init__(self, name: str, lowercase: bool) -> None:
        self._number = partial(native_tokens.number_texts, name=name, lowercase=lowercase)
        self.tokens = _Numbers()

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        with ThreadPoolExecutor(min(len(blocks), THREADS) or 1) as pool:
            for found in pool.map(self._number, blocks):
                yield self.tokens.of(found.tokens)[found.ids], found.counts


class _ByChunk:
    """A tokenizer that may be run on what stands between blanks."""

    def __init__(self, name: str, lowercase: bool) -> None:
        self._prepare, self._space = _SPLITTERS[name]
        self._lowercase = lowercase
        self.tokens = _Numbers()

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """For each block (N,) ids of its tokens, and (n,) the lengths of its texts."""
        import pyarrow as pa

        # Arrow and numpy work without Python's lock, so threads are as good as processes here.
        with ThreadPoolExecutor(min(len(blocks), THREADS) or 1) as pool:
            found = list(pool.map(self._cut, blocks))
            if not found:
                return
            coded = pa.chunked_array([chunks for chunks, _ in found]).unify_dictionaries()
            table = self._learn(coded.chunk(0).dictionary.to_pylist())
            occurrences = [chunk.indices.to_numpy() for chunk in coded.chunks]
            yield from pool.map(table.expanded, occurrences, [bounds for _, bounds in found])

    def _cut(self, texts: Sequence[str]) -> tuple[Any, NDArray[np.int64]]:
        """Cuts texts at their blanks.

        Returns:
            ``(K,)`` chunks as an Arrow array with a dictionary; and ``(n + 1,)``: text i is made
            of the chunks from bounds[i] to bounds[i + 1].
        """
        import pyarrow as pa

        encoded = [self._prepare(text).encode() for text in texts]
        # Every text begins with a blank, so a blank before a word is where a chunk begins.
        joined = b" " + b" ".join(encoded)
        blank = np.frombuffer(joined, np.uint8) == ord(" ")
        begins = np.flatnonzero(blank[:-1] > blank[1:])
        offsets = np.empty(len(begins) + 1, np.int32)
        offsets[:-1], offsets[-1] = begins, len(joined)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
        chunks = pa.Array.from_buffers(pa.string(), len(begins), buffers)
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
        bounds = np.searchsorted(begins, np.concatenate([[0], np.cumsum(sizes)]))
        return chunks.dictionary_encode(), bounds

    def _learn(self, chunks: list[str]) -> _ChunkTable:
        """Tokenizes the distinct chunks."""
        # One text for all: a call a chunk would take as long as all the rest. A mark that no chunk
        # holds tells in the tokens where each chunk ends.
        text = " ".join(chunks)
        mark = "\0"
        while mark in text:
            mark += "\0"
        text = f" {mark} ".join([*chunks, ""])
        spaced = self._space(text.lower() if self._lowercase else text)
        self.tokens[mark] = -1
        flat = self.tokens.of(spaced.split())
        del self.tokens[mark]
        ends = (np.flatnonzero(flat < 0) - np.arange(len(chunks))).astype(np.int32)
        return _ChunkTable(flat[flat >= 0], np.diff(ends, prepend=np.int32(0)), ends)


class _ChunkTable(NamedTuple):
    """The tokens of the C distinct chunks.

    The chunks' tokens one after the other, (C,) how many each has, and (C,) where they end.
    """

    flat: Ids
    sizes: Ids
    ends: Ids

    def expanded(self, chunks: Ids, bounds: NDArray[np.int64]) -> tuple[Ids, NDArray[np.int64]]:
        """(K,) chunks -> (N,) the ids of their tokens, and (n,) the lengths of their texts."""
        ids, before = [_NONE], [np.zeros(1, np.int64)]
        for at in range(0, len(chunks), EXPANDED_AT_ONCE):
            part = chunks[at : at + EXPANDED_AT_ONCE]  # (k,)
            each = self.sizes[part]  # (k,)
            ends = np.cumsum(each, dtype=np.int32)
            places = np.repeat(self.ends[part] - ends, each)
            places += np.arange(len(places), dtype=np.int32)
            ids.append(self.flat[places])
            before.append(before[-1][-1] + ends)
        return np.concatenate(ids), np.diff(np.concatenate(before)[bounds])


def _without_line_breaks(text: str) -> str:
    """Makes sure that nothing which `basic_english` takes together spans a blank."""
    cut = text.replace(LINE_BREAK, " ") if LINE_BREAK in text else text
    # What is left of ">" may still end a line break (`<BR />`, `<br" />`). Such a text becomes
    # its tokens, between which stand no blanks to cut at.
    if ">" in cut:
        return "\t".join(basic_english(text))
    return cut


def _as_it_is(text: str) -> str:
    return text


_SPLITTERS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "basic_english": (_without_line_breaks, spaced_basic_english),
    "whitespace": (_as_it_is, _as_it_is),
}
"""Tokenizers that may be run chunk by chunk: what makes a text fit for cutting at blanks, and
what spaces a chunk so that split() gives its tokens."""
