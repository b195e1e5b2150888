"""A survey of a data set: what a config trains on, counted without storing anything.

Shapes: C classes, n training and validation documents together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.vocabulary import UNK
from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.preparation.selection import (
    load_documents,
    require_tokens,
    select_documents,
    with_normalized_texts,
)
from celltune.data_prep.preparation.tokens import index_splits, learn_vocabulary, split_words
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.text.truncation import truncate
from celltune.data_prep.types import Progress
from celltune.data_prep.vectors.embedding import check_vectors


@dataclass(frozen=True, eq=False)
class Survey:
    """The documents of each split, and the tokens of the training and the validation split.

    Attributes:
        classes: names of the C classes.
        counts: `(C,)` number of documents of each class, by split: train, valid, and test if the
            config defines a test split.
        lengths: `(n,)` number of tokens of each training and validation document before truncation,
            in ascending order. With `vectors.unknown: dropped`, words without a vector count, too.
        max_tokens: number of tokens to which documents are truncated.
        distinct: number of distinct words of the training split, also with subwords.
        vocabulary_size: number of ids of the vocabulary, including unk and pad.
        unknown_share: share of the validation split's tokens, after truncation, that are not in the
            vocabulary.
        duplicates: `train_valid`, `train_test` and `valid_test`: number of documents of the first
            split whose text is also in the second one; `conflicting` and `dropped` as in
            `SplitDocuments`.
        unlabelled: number of unlabelled documents, or None if word vectors are not learned from
            them.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, NDArray[np.int64]]
    lengths: NDArray[np.int64]
    max_tokens: int
    distinct: int
    vocabulary_size: int
    unknown_share: float
    duplicates: Mapping[str, int]
    unlabelled: int | None = None

    def length_at(self, share: float) -> int:
        """Return the smallest length that a share of the documents does not exceed.

        Args:
            share: above 0, at most 1.
        """
        return int(self.lengths[int(np.ceil(share * len(self.lengths))) - 1])

    @property
    def cut(self) -> int:
        """Number of training and validation documents that are truncated."""
        return int(np.sum(self.lengths > self.max_tokens))

    @property
    def kept_share(self) -> float:
        """Share of all tokens that is left after truncation."""
        return float(np.minimum(self.lengths, self.max_tokens).sum() / self.lengths.sum())

    @property
    def single(self) -> int:
        """Number of training and validation documents that consist of one token."""
        return int(np.sum(self.lengths == 1))

    @property
    def majority(self) -> tuple[str, float]:
        """The training split's most frequent class, and its share of the validation split."""
        index = int(self.counts["train"].argmax())
        valid = self.counts["valid"]
        return self.classes[index], float(valid[index] / valid.sum())


def survey(config: DataConfig, *, progress: Progress | None = None) -> Survey:
    """Read and check a data set, and count what would be trained on.

    The documents are those of `prepare`. The test split is read to count its documents and their
    duplicates; no model sees it.

    Args:
        config: what to load. A source that needs a download is downloaded.
        progress: called as `progress(stage, done, total)` with the stages "download", "check",
            "read" and "tokenize".

    Raises:
        DataError: the data is invalid, as for `prepare` and `prepare_test`. Word vectors are only
            checked for existence; they are not read, downloaded or trained.
    """
    source = open_source(config, cache_dir=default_cache_dir(), progress=progress)
    check_vectors(config)
    labelled = tuple(split for split in source.splits if split != "unlabelled")
    documents = with_normalized_texts(load_documents(source, labelled, progress))
    selected = select_documents(documents, source, config)
    words = index_splits([selected.train, selected.valid], config, progress)
    require_tokens(selected.test, config)
    vocabulary = learn_vocabulary(words, config)
    indexed = split_words(words, vocabulary, config)
    valid = indexed.splits[1]
    ids = vocabulary.encode(indexed.tokens)[valid.ids]
    ids, _ = truncate(ids, valid.offsets, config.max_tokens, config.keep)
    unlabelled = None
    if config.reads_unlabelled:
        unlabelled = len(load_documents(source, ("unlabelled",), progress))
    splits = {"train": selected.train, "valid": selected.valid, "test": selected.test}
    return Survey(
        classes=source.classes,
        counts={
            name: np.bincount([d.label for d in split], minlength=len(source.classes))
            for name, split in splits.items()
            if split
        },
        lengths=np.sort(np.concatenate([split.lengths for split in indexed.splits])),
        max_tokens=config.max_tokens,
        distinct=len(np.unique(words.splits[0].ids)),
        vocabulary_size=len(vocabulary),
        unknown_share=float(np.mean(ids == UNK)),
        duplicates=selected.duplicates,
        unlabelled=unlabelled,
    )
