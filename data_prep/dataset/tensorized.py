"""Tensorized documents.

Shapes: n documents, N tokens in all documents of a split, V words in the vocabulary, E numbers per
word vector, L outputs of the wide part: 1 for two classes (the log-odds of class 1), else one for
each class (its log probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.vocabulary import PAD, UNK
from celltune.data_prep.types import JSON
from celltune.data_prep.wide.model import WideModel

__all__ = ["JSON", "PAD", "UNK", "PreparedData", "PreparedTest", "TensorizedSplit"]


@dataclass(frozen=True, eq=False)
class TensorizedSplit:
    """The documents of one split, concatenated in a flat array.

    Attributes:
        ids: `(N,)` token ids of all documents.
        offsets: `(n + 1,)`; document i is `ids[offsets[i]:offsets[i + 1]]` and never empty.
        labels: `(n,)` class of each document.
        wide: `(n, L)` outputs of the wide part, or None if there is none. Those of training
            documents are from models that were fitted without them.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    wide: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each document, `(n,)`."""
        return np.diff(self.offsets)

    @property
    def tokens(self) -> int:
        """Number of tokens in all documents."""
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        wide = 0 if self.wide is None else self.wide.nbytes
        return self.ids.nbytes + self.offsets.nbytes + self.labels.nbytes + wide


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The data of a search: training and validation split, vocabulary and word vectors.

    Attributes:
        fingerprint: identifies the content: equal fingerprints mean equal data.
        train: documents that models are trained on.
        valid: documents by which trials are compared.
        classes: names of the classes; labels are indices into them.
        words: the vocabulary in the order of the ids, unk and pad first.
        info: JSON-compatible description of the data: source, number of documents by class, number
            of tokens, share of unknown tokens, number of truncated documents.
        vectors: `(V, E)` initial embedding; the row of pad is zero. None if the model creates
            its own.
        vectors_tuned: whether training changes the vectors.
        wide: the wide part, or None if there is none. It is not published in a Ray cluster, because
            trials only need its outputs, which are part of the splits.
    """

    fingerprint: str
    train: TensorizedSplit
    valid: TensorizedSplit
    classes: tuple[str, ...]
    words: Sequence[str]
    info: dict[str, JSON] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None
    vectors_tuned: bool = True
    wide: WideModel | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def wide_parameters(self) -> int:
        """Number of weights of the wide part, with its intercepts; 0 if there is none."""
        wide = self.info.get("wide")
        features = wide.get("features") if isinstance(wide, dict) else None
        outputs = 1 if self.num_classes == 2 else self.num_classes
        return outputs * (features + 1) if isinstance(features, int) else 0

    @property
    def vocabulary_size(self) -> int:
        """Number of ids including unk and pad."""
        return len(self.words)

    def majority(self) -> tuple[str, float]:
        """Return the training split's most frequent class, and its share of the validation split.

        The share is the validation accuracy of a model that always predicts this class.
        """
        label = int(np.bincount(self.train.labels, minlength=self.num_classes).argmax())
        return self.classes[label], float((self.valid.labels == label).mean())

    @property
    def nbytes(self) -> int:
        """Size of the published arrays in bytes."""
        vectors = 0 if self.vectors is None else self.vectors.nbytes
        return self.train.nbytes + self.valid.nbytes + vectors


@dataclass(frozen=True, eq=False)
class PreparedTest:
    """The test split, encoded with the training split's vocabulary. A search never opens it.

    Attributes:
        fingerprint: identifies the content.
        split: the documents.
        info: see `PreparedData`; `also_in_train` and `also_in_valid` count the documents whose text
            occurs in that split, too; `wide` contains the `milliseconds` that the wide part takes
            for a document, and the seconds of its fit to the training and the validation split.
        wide_train_valid: `(n, L)` outputs of a wide part that was fitted on the training and the
            validation split, or None if there is none; those of `split` are from the training split
            alone.
    """

    fingerprint: str
    split: TensorizedSplit
    info: dict[str, JSON] = field(default_factory=dict)
    wide_train_valid: NDArray[np.float32] | None = None
