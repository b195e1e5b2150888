"""Tensorized reviews.

Shapes: n reviews, N tokens of all reviews together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.vocabulary import PAD, UNK
from celltune.data_prep.types import JSON

__all__ = ["JSON", "PAD", "UNK", "PreparedData", "PreparedTest", "TensorizedSplit"]


@dataclass(frozen=True, eq=False)
class TensorizedSplit:
    """The reviews of one part, one after the other in one flat array.

    Attributes:
        ids: ``(N,)``, the word ids of all reviews.
        offsets: ``(n + 1,)``; review i is ``ids[offsets[i]:offsets[i + 1]]``, never empty.
        labels: ``(n,)``, the class of each review.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of reviews."""
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each review, ``(n,)``."""
        return np.diff(self.offsets)

    @property
    def tokens(self) -> int:
        """The number of tokens of all reviews together."""
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """The bytes that the arrays take."""
        return self.ids.nbytes + self.offsets.nbytes + self.labels.nbytes


@dataclass(frozen=True, eq=False)
class PreparedData:
    """All that a trial needs to know about the data.

    Attributes:
        fingerprint: names the content: equal fingerprints, equal data.
        train: what to train on.
        valid: what decides between trials.
        classes: the names of the classes; labels are indices into them.
        words: the vocabulary in the order of its ids, unk and pad first.
        info: what a person may want to know, ready for JSON: where the data came from, the counts
            of reviews by class, the tokens, the share of unknown ones, how many were cut.
        vectors: ``(V, E)``, the embedding to start from, its row of padding zero; None where
            the model draws its own.
        vectors_tuned: whether training may change the vectors.
    """

    fingerprint: str
    train: TensorizedSplit
    valid: TensorizedSplit
    classes: tuple[str, ...]
    words: Sequence[str]
    info: dict[str, JSON] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None
    vectors_tuned: bool = True

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, unk and pad among them."""
        return len(self.words)

    @property
    def nbytes(self) -> int:
        """The bytes that the arrays take."""
        vectors = 0 if self.vectors is None else self.vectors.nbytes
        return self.train.nbytes + self.valid.nbytes + vectors


@dataclass(frozen=True, eq=False)
class PreparedTest:
    """The test part, in the ids of the training part's vocabulary. No search ever opens it.

    Attributes:
        fingerprint: names the content.
        split: its reviews.
        info: as of `PreparedData`; ``also_in_train`` and ``also_in_valid`` count its reviews
            whose text stands there as well.
    """

    fingerprint: str
    split: TensorizedSplit
    info: dict[str, JSON] = field(default_factory=dict)
