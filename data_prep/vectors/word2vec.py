"""Word vectors learned from the data (`data.vectors.train`)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from celltune.data_prep.errors import DataError
from celltune.data_prep.text.indexing import IndexedTexts
from celltune.data_prep.types import Progress
from celltune.data_prep.vectors.files import Vector
from celltune.data_prep.vectors.skip_gram import NumberedText, train_vectors

VERSION = "celltune word2vec 1"
"""Part of fingerprints; changes whenever the same texts would give other vectors."""

MIN_COUNT = 2
"""Minimum number of occurrences of a word that gets a vector."""

TRAINED_WORDS = 10_000_000
"""Number of words that are trained by default, counting every epoch (see `default_epochs`)."""
MIN_EPOCHS, MAX_EPOCHS = 5, 50
"""Limits of the default number of epochs."""


def learn(
    texts: IndexedTexts,
    words: Collection[str],
    *,
    size: int,
    epochs: int | None,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Vector]:
    """Learn vectors by skip-gram with negative sampling.

    The result depends on the tokens of the texts only, not on their numbers.

    Args:
        texts: tokenized texts.
        words: the words to return vectors for.
        size: E, the number of components of a vector.
        epochs: number of passes over the texts; None for `default_epochs`.
        seed: the same texts and seed give the same vectors on the same machine.
        progress: is called with `("vectors", trained words, words in all epochs)`.

    Returns:
        `(E,)` vectors by word; words that occur once have none.

    Raises:
        DataError: no word occurs twice.
        MemoryError: there is not enough memory.
    """
    numbered, known = _numbered(texts)
    if not known:
        raise DataError(
            "No vectors can be learned (data.vectors.train), because no word occurs twice in the "
            "training split. Remove data.vectors."
        )
    epochs = epochs or default_epochs(len(numbered.words))
    total = epochs * len(numbered.words)
    vectors = train_vectors(
        numbered,
        size=size,
        epochs=epochs,
        seed=seed,
        on_progress=lambda done: progress("vectors", done, total) if progress else None,
    )
    wanted = set(words)
    return {word: vectors[row] for row, word in enumerate(known) if word in wanted}


def default_epochs(words: int) -> int:
    """Return the number of passes over a text of a given number of words: fewer for longer ones."""
    return max(MIN_EPOCHS, min(MAX_EPOCHS, -(-TRAINED_WORDS // words)))


def _numbered(texts: IndexedTexts) -> tuple[NumberedText, list[str]]:
    """Number the words that get a vector, the most frequent first, and drop the others."""
    counts = np.bincount(texts.ids, minlength=len(texts.tokens))
    frequent = sorted(
        np.flatnonzero(counts >= MIN_COUNT).tolist(),
        key=lambda number: (-counts[number], texts.tokens[number]),
    )
    rows = np.full(len(texts.tokens), -1, np.int32)
    rows[frequent] = np.arange(len(frequent), dtype=np.int32)
    words = rows[texts.ids]
    kept = words >= 0
    offsets = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[texts.offsets]
    numbered = NumberedText(words[kept], offsets, counts[frequent])
    return numbered, [texts.tokens[number] for number in frequent]
