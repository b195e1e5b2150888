"""Tokens to ids; built on the training part only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError

UNK, PAD = 0, 1
"""The ids of an unknown word and of padding, in torchtext's order."""

SPECIALS = ("<unk>", "<pad>")


class Vocabulary:
    """The known words in the order of their ids.

    Args:
        words: all words with ``SPECIALS`` first, each once.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """See the class."""
        self.words = tuple(words)
        # A text may hold "<pad>" itself; it must stay an unknown word, never become padding.
        self._ids = {word: index for index, word in enumerate(self.words) if index > PAD}

    @classmethod
    def build(cls, texts: Iterable[Sequence[str]], *, size: int, min_count: int = 1) -> Vocabulary:
        """The most frequent words of tokenized texts; equal counts go by the alphabet.

        Args:
            texts: the tokens of each text of the training part.
            size: the most words to keep beside unk and pad, at least 1.
            min_count: rarer words are left out.

        Source: the order is that of torchtext 0.6.0's ``Vocab``.
        """
        counts: Counter[str] = Counter()
        for tokens in texts:
            counts.update(tokens)
        numbers = np.fromiter(counts.values(), np.int64, len(counts))
        return cls.of_counts(list(counts), numbers, size=size, min_count=min_count)

    @classmethod
    def of_counts(
        cls, words: Sequence[str], counts: NDArray[np.int64], *, size: int, min_count: int = 1
    ) -> Vocabulary:
        """As `build`, of distinct words and ``(len(words),)`` how often each stands there.

        Raises:
            DataError: no word is left.
        """
        likely = np.flatnonzero(counts >= max(1, min_count))
        if len(likely) > size:
            # Only the words that may still be kept are worth sorting; two seats are for the
            # specials, which may stand among the words.
            least = np.partition(counts[likely], -min(size + 2, len(likely)))
            likely = likely[counts[likely] >= least[-min(size + 2, len(likely))]]
        ranked = sorted((-int(counts[index]), words[index]) for index in likely)
        kept = [word for _, word in ranked if word not in SPECIALS]
        if not kept:
            raise DataError(
                f"no word stands {min_count} times in the training part (the commonest "
                f"{int(counts.max(initial=0))} times), so the vocabulary would hold none; lower "
                f"data.min_count"
            )
        return cls((*SPECIALS, *kept[:size]))

    def __len__(self) -> int:
        """The number of ids, unk and pad among them."""
        return len(self.words)

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """The id of each token, ``(len(tokens),)``; ``UNK`` for an unknown one."""
        found = map(self._ids.get, tokens, repeat(UNK))
        return np.fromiter(found, dtype=np.int32, count=len(tokens))
