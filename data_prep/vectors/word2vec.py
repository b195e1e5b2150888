"""Word vectors learned from the data itself, with gensim (the extra ``word2vec``).

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
"""A word that stands only once has no company to learn from."""


def library_version() -> str:
    """The version of gensim, which the vectors depend on.

    Raises:
        DataError: gensim isn't installed.
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
    """Learns vectors by gensim's skip-gram with negative sampling, in one thread.

    One thread because the order in which several write their steps isn't the same twice.

    Args:
        sentences: tokenized texts.
        words: those whose vectors are wanted.
        size: E, numbers a vector.
        epochs: how often the sentences are gone through.
        seed: the same seed gives the same vectors.
        progress: told ``("vectors", epochs done, epochs)``.

    Returns:
        ``(E,)`` vectors by word; of words that stand only once there are none.

    Raises:
        DataError: gensim isn't installed, or no word stands twice.
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
            "data.vectors.train: no word stands twice in the training part, so there is nothing "
            "to learn vectors from; remove data.vectors"
        )
    told = [] if progress is None else [_Told(gensim, epochs, progress).callback()]
    model.train(
        sentences, total_examples=len(sentences), epochs=epochs, callbacks=told, compute_loss=False
    )
    return {word: np.array(model.wv[word], np.float32) for word in words if word in model.wv}


def _stable_hash(text: str) -> int:
    # Python's own differs from process to process.
    return zlib.crc32(text.encode("utf-8", "replace"))


class _Told:
    """Tells the end of every epoch."""

    def __init__(self, gensim: Any, epochs: int, progress: Progress) -> None:
        self._base = gensim.models.callbacks.CallbackAny2Vec
        self._epochs, self._progress = epochs, progress

    def callback(self) -> Any:
        done, epochs, progress = 0, self._epochs, self._progress

        def on_epoch_end(_: Any, __: Any) -> None:
            nonlocal done
            done += 1
            progress("vectors", done, epochs)

        return type("Told", (self._base,), {"on_epoch_end": on_epoch_end})()


def _gensim() -> Any:
    try:
        import gensim
        import gensim.models.callbacks
    except ImportError as error:
        raise DataError(
            "data.vectors.train word2vec needs gensim, which isn't installed; run "
            "pip install 'celltune[word2vec]', or set data.vectors.path to a file of vectors"
        ) from error
    return gensim
