"""Segmentation of words into the subwords of a vocabulary.

Shapes: M distinct words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from celltune.data_prep.dataset.vocabulary import SPECIALS
from celltune.data_prep.text.indexing import IndexedTexts, Numbering, TokenTable
from celltune.data_prep.text.tokenizers import WORD_START


class Subwords:
    """Splits words into the longest subwords of a vocabulary, from left to right.

    The pieces of a word, joined, are the word. Characters that are no subwords are unknown: a run
    of them is one piece, including a mark of the start of a word in front of it, so that a word of
    unknown characters is one unknown token.

    Args:
        subwords: the vocabulary, with or without unk and pad.
    """

    def __init__(self, subwords: Iterable[str]) -> None:
        self._subwords = frozenset(subwords).difference(SPECIALS)
        self._longest = max(map(len, self._subwords), default=0)

    def of_word(self, word: str) -> list[str]:
        """Return the pieces of a word."""
        pieces: list[str] = []
        unknown, position = "", 0
        while position < len(word):
            piece = self._longest_at(word, position)
            if not piece:
                if pieces == [WORD_START]:
                    unknown = pieces.pop()
                unknown += word[position]
                position += 1
                continue
            if unknown:
                pieces.append(unknown)
                unknown = ""
            pieces.append(piece)
            position += len(piece)
        return [*pieces, unknown] if unknown else pieces

    def of_words(self, words: Sequence[str]) -> list[str]:
        """Return the pieces of words, one word after the other."""
        return [piece for word in words for piece in self.of_word(word)]

    def split(self, indexed: IndexedTexts) -> IndexedTexts:
        """Replace the words of texts with their pieces; each distinct word is split once."""
        pieces, table = self.table(indexed.tokens)
        return IndexedTexts(*table.expand_texts(indexed.ids, indexed.offsets), pieces)

    def table(self, words: Sequence[str]) -> tuple[list[str], TokenTable]:
        """Return the distinct pieces of M words, and the numbers of the pieces of each word."""
        pieces = Numbering()
        ids = [pieces.of(self.of_word(word)) for word in words]
        sizes = np.fromiter(map(len, ids), np.int32, len(ids))
        flat = np.concatenate([*ids, np.empty(0, np.int32)])
        return list(pieces), TokenTable(flat, sizes, np.cumsum(sizes, dtype=np.int32))

    def _longest_at(self, word: str, start: int) -> str:
        """Return the longest subword that starts at a position; empty if there is none."""
        for end in range(min(len(word), start + self._longest), start, -1):
            if word[start:end] in self._subwords:
                return word[start:end]
        return ""
