"""Word vectors learned from the data, with gensim (the extra `word2vec`).

Source: Mikolov et al., "Efficient Estimation of Word Representations in Vector Space", 2013.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from celltune.data_prep.errors import DataError
from celltune.data_prep.types import Progress
from celltune.data_prep.vectors.files import Vector

MIN_COUNT = 2
"""Minimum number of occurrences of a word that gets a vector."""


def library_version() -> str:
    """Return the version of gensim, on which the vectors depend.

    Raises:
        DataError: gensim is not installed.
    """
    return f"gensim {_gensim().__version__}"


def learn(
    sentences: Sequence[Sequence[str]],
    words: Sequence[str],
    *,
    size: int,
    epochs: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Vector]:
    """Learn vectors by skip-gram with negative sampling.

    gensim runs in a single thread, because the result of several threads is not reproducible.

    Args:
        sentences: tokenized texts.
        words: the words to return vectors for.
        size: E, the number of components of a vector.
        epochs: number of passes over the sentences.
        seed: the same seed gives the same vectors.
        progress: is called with `("vectors", finished epochs, epochs)`.

    Returns:
        `(E,)` vectors by word; words that occur once have none.

    Raises:
        DataError: gensim is not installed, or no word occurs twice.
    """
    gensim = _gensim()
    model = gensim.models.Word2Vec(
        vector_size=size,
        min_count=MIN_COUNT,
        sg=1,
        workers=1,
        seed=seed % 2**32,
        hashfxn=_stable_hash,
    )
    model.build_vocab(sentences)
    if not len(model.wv):
        raise DataError(
            "No vectors can be learned (data.vectors.train), because no word occurs twice in the "
            "training split. Remove data.vectors."
        )
    callbacks = [] if progress is None else [_progress_callback(gensim, epochs, progress)]
    model.train(
        sentences,
        total_examples=len(sentences),
        epochs=epochs,
        callbacks=callbacks,
        compute_loss=False,
    )
    return {word: np.array(model.wv[word], np.float32) for word in words if word in model.wv}


def _stable_hash(text: str) -> int:
    # Python's own hash of a string differs between processes.
    return zlib.crc32(text.encode("utf-8", "replace"))


def _progress_callback(gensim: Any, epochs: int, progress: Progress) -> Any:
    """Return a gensim callback that reports the end of every epoch."""
    finished = 0

    def on_epoch_end(_: Any, __: Any) -> None:
        nonlocal finished
        finished += 1
        progress("vectors", finished, epochs)

    # The base class exists only once gensim, which is optional, is imported.
    base = gensim.models.callbacks.CallbackAny2Vec
    return type("ProgressCallback", (base,), {"on_epoch_end": on_epoch_end})()


def _gensim() -> Any:
    try:
        import gensim
        import gensim.models.callbacks
    except ImportError as error:
        raise DataError(
            "data.vectors.train is 'word2vec', but gensim is not installed. Install the extra "
            "with: pip install 'celltune[word2vec]'. Or set data.vectors.path to a file of vectors."
        ) from error
    return gensim
