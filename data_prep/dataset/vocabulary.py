"""Mapping from tokens to ids, built from the training split only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError

UNK, PAD = 0, 1
"""Ids of an unknown word and of padding, in torchtext's order."""

SPECIALS = ("<unk>", "<pad>")


class Vocabulary:
    """The known words in the order of their ids.

    Args:
        words: distinct words; the first two are `SPECIALS`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        # A "<pad>" in a text has to map to unk: padding has no meaning for a model.
        self._ids = {word: index for index, word in enumerate(self.words) if index > PAD}

    @classmethod
    def of_counts(
        cls, words: Sequence[str], counts: NDArray[np.int64], *, size: int, min_count: int = 1
    ) -> Vocabulary:
        """Build the vocabulary of the most frequent words; ties are in alphabetical order.

        Args:
            words: the distinct words of the training split.
            counts: `(len(words),)` number of occurrences of each word.
            size: maximum number of words besides unk and pad, at least 1.
            min_count: rarer words are unknown.

        Raises:
            DataError: the vocabulary would be empty.

        Source: the order is that of torchtext 0.6.0's `Vocab`.
        """
        candidates = np.flatnonzero(counts >= max(1, min_count))
        if len(candidates) > size:
            # Sort only words that can be among the most frequent ones. Two more than `size`,
            # because the specials may be among them.
            least = np.partition(counts[candidates], -min(size + 2, len(candidates)))
            candidates = candidates[counts[candidates] >= least[-min(size + 2, len(candidates))]]
        ranked = sorted((-int(counts[index]), words[index]) for index in candidates)
        frequent = [word for _, word in ranked if word not in SPECIALS]
        if not frequent:
            raise DataError(
                f"The vocabulary would be empty: no word occurs {min_count} times in the training "
                f"split, and the most frequent one occurs {int(counts.max(initial=0))} times. "
                f"Lower data.min_count."
            )
        return cls((*SPECIALS, *frequent[:size]))

    def __len__(self) -> int:
        """Return the number of ids including unk and pad."""
        return len(self.words)

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Return the `(len(tokens),)` ids of tokens; `UNK` for unknown ones."""
        ids = map(self._ids.get, tokens, repeat(UNK))
        return np.fromiter(ids, dtype=np.int32, count=len(tokens))
