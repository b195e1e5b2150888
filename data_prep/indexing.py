"""Many texts to numbered tokens at once; fast, and token for token what the tokenizer gives.

Most words of a text were seen before, so tokenizing them again is wasted. A text is cut at its
blanks into chunks ("Movie." or "(it's"), each distinct chunk is numbered and tokenized once, and
numpy puts the tokens of every chunk in its place. That holds for tokenizers for which cutting a
text at blanks changes nothing; the others are run text by text.

Shapes: n texts, N tokens of all texts together, M distinct tokens, K chunks, C distinct chunks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.tokenizers import LINE_BREAK, basic_english, spaced_basic_english, tokenizer

BLOCK_CHARACTERS = 1 << 24
"""Texts are worked on in blocks of about this size: large enough that few chunks are met twice,
small enough for memory, and for a progress bar to move."""

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


class _Chunked(NamedTuple):
    """A block of texts in chunks.

    (K,) which of the distinct ones; these; (n + 1,): text i is made of the chunks from bounds[i]
    to bounds[i + 1].
    """

    occurrences: Ids
    distinct: list[str]
    bounds: NDArray[np.int64]


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
    way = _ByChunk(name, lowercase) if name in _SPLITTERS else _ByText(name, lowercase)
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


class _ByChunk:
    """A tokenizer that may be run on what stands between blanks."""

    def __init__(self, name: str, lowercase: bool) -> None:
        self._prepare, self._space = _SPLITTERS[name]
        self._lowercase = lowercase
        self.tokens = _Numbers()
        self._chunks = _Numbers()
        self._flat: Ids = np.empty(
            0, np.int32
        )  # the tokens of all distinct chunks, one after another
        self._ends = np.zeros(1, np.int64)  # (C + 1,): where in `_flat` each chunk's tokens end

    def __call__(self, blocks: Sequence[Sequence[str]]) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """For each block (N,) ids of its tokens, and (n,) the lengths of its texts."""
        # Cutting runs without Python's lock, so the next block is cut while this one is looked up.
        with ThreadPoolExecutor(1) as ahead:
            yield from map(self._looked_up, ahead.map(self._cut, blocks))

    def _cut(self, texts: Sequence[str]) -> _Chunked:
        return _chunked([self._prepare(text) for text in texts])

    def _looked_up(self, block: _Chunked) -> tuple[Ids, NDArray[np.int64]]:
        occurrences, distinct, bounds = block
        numbers = self._chunks.of(distinct)
        known = len(self._ends) - 1
        self._learn([distinct[index] for index in np.flatnonzero(numbers >= known)])
        starts = self._ends[numbers].astype(np.int32)
        sizes = self._ends[numbers + 1].astype(np.int32) - starts
        ids = [
            self._expanded(occurrences[at : at + EXPANDED_AT_ONCE], starts, sizes)
            for at in range(0, len(occurrences), EXPANDED_AT_ONCE)
        ]
        before = np.zeros(len(occurrences) + 1, dtype=np.int64)
        np.cumsum(sizes[occurrences], out=before[1:])
        return np.concatenate([*ids, _NONE]), np.diff(before[bounds])

    def _learn(self, chunks: list[str]) -> None:
        """Tokenizes chunks that were never met before."""
        # One text for all: a call a chunk would take as long as all the rest. A mark that no chunk
        # holds tells in the tokens where each chunk ends.
        text = " ".join(chunks)
        mark = "\0"
        while mark in text or mark in self.tokens:
            mark += "\0"
        text = "".join([f"{chunk} {mark} " for chunk in chunks])
        spaced = self._space(text.lower() if self._lowercase else text)
        self.tokens[mark] = -1
        flat = self.tokens.of(spaced.split())
        del self.tokens[mark]
        ends = np.flatnonzero(flat < 0) - np.arange(len(chunks))
        self._ends = np.concatenate([self._ends, self._ends[-1] + ends])
        self._flat = np.concatenate([self._flat, flat[flat >= 0]])

    def _expanded(self, chunks: Ids, starts: Ids, sizes: Ids) -> Ids:
        """(k,) chunks -> the ids of their tokens, one after the other."""
        each = sizes[chunks]  # (k,)
        ends = np.cumsum(each, dtype=np.int32)
        at = np.repeat(starts[chunks] - (ends - each), each)
        at += np.arange(len(at), dtype=np.int32)
        ids: Ids = self._flat[at]
        return ids


def _chunked(texts: list[str]) -> _Chunked:
    """Cuts texts at their blanks."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    # Every text begins with a blank, so a blank before a word is where a chunk begins.
    joined = b" " + b" ".join(encoded)
    blank = np.frombuffer(joined, np.uint8) == ord(" ")
    begins = np.flatnonzero(blank[:-1] > blank[1:])
    offsets = np.empty(len(begins) + 1, np.int32)
    offsets[:-1], offsets[-1] = begins, len(joined)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
    coded = pa.Array.from_buffers(pa.string(), len(begins), buffers).dictionary_encode()
    sizes = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
    bounds = np.searchsorted(begins, np.concatenate([[0], np.cumsum(sizes)]))
    return _Chunked(coded.indices.to_numpy(), coded.dictionary.to_pylist(), bounds)


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
