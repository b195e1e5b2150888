"""Builds prepared data: selects documents, tokenizes them, and converts tokens to ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK, Vocabulary
from celltune.data_prep.preparation.duplicates import SplitDocuments
from celltune.data_prep.preparation.selection import (
    load_documents,
    select_documents,
    with_normalized_texts,
)
from celltune.data_prep.preparation.tokens import (
    IndexedSplits,
    index_splits,
    learn_vocabulary,
    split_words,
)
from celltune.data_prep.preparation.wide_part import WidePart
from celltune.data_prep.sources.base import Document, Source, Split
from celltune.data_prep.text.normalization import are_normalized, come_from_normalized
from celltune.data_prep.text.subwords import Subwords
from celltune.data_prep.text.tokenizers import has_subwords
from celltune.data_prep.text.truncation import drop_unknown, truncate
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.vectors.corpus import TrainingCorpus
from celltune.data_prep.vectors.embedding import VectorSource, build_embedding


class _EmbeddedVocabulary(NamedTuple):
    """A vocabulary and the initial embedding of its words, if word vectors are configured."""

    vocabulary: Vocabulary
    matrix: NDArray[np.float32] | None
    coverage: dict[str, JSON] | None


class _Finished(NamedTuple):
    """A truncated split whose tokens are vocabulary ids."""

    split: TensorizedSplit
    truncated: int
    """Number of truncated documents."""


class _Test(NamedTuple):
    """The test split, its description, and the documents of all splits."""

    split: TensorizedSplit
    info: dict[str, JSON]
    documents: SplitDocuments


class Builder:
    """Builds the data that is missing in the cache.

    If `build` also prepared the test split, `build_test` returns it without reading the source
    again.
    """

    def __init__(
        self,
        config: DataConfig,
        source: Source,
        vectors: VectorSource | None,
        progress: Progress | None,
    ) -> None:
        """Create a builder; reads nothing."""
        self._config, self._source, self._vectors = config, source, vectors
        self._progress = progress
        self._wide = (
            WidePart(config, config.wide, len(source.classes), progress) if config.wide else None
        )
        self._test: _Test | None = None
        self._read: tuple[tuple[Split, ...], list[Document]] | None = None

    def are_normalized(self, splits: Sequence[Split]) -> bool:
        """Read splits of the source; return whether normalization leaves their texts unchanged.

        The test split counts only if it determines which duplicates are dropped, so that the answer
        does not depend on whether it is read for another purpose. A following `build` of the same
        splits does not read them again.

        Raises:
            DataError: the data cannot be read or is invalid.
        """
        documents = load_documents(self._source, splits, self._progress)
        self._read = tuple(splits), documents
        with_test = self._config.duplicates == "drop"
        return are_normalized(
            document.text for document in documents if with_test or document.split != "test"
        )

    def build(
        self, fingerprint: str, content: str, splits: Sequence[Split], *, with_test: bool = False
    ) -> PreparedData:
        """Prepare the training and the validation split.

        Args:
            fingerprint: identifies the result.
            content: the source's digest.
            splits: splits of the source to read.
            with_test: also prepare the test split, for `build_test`.

        Raises:
            DataError: the data cannot be read or is invalid.
        """
        documents = self._documents(splits)
        selected = select_documents(documents, self._source, self._config)
        splits_to_index = [selected.train, selected.valid, *([selected.test] if with_test else [])]
        words = index_splits(splits_to_index, self._config, self._progress)
        unlabelled = [document.text for document in documents if document.split == "unlabelled"]
        embedded = self._embed(words, unlabelled)
        indexed = split_words(words, embedded.vocabulary, self._config)
        ids_of_tokens = embedded.vocabulary.encode(indexed.tokens)
        train, valid, *test = [self._finish(split, ids_of_tokens) for split in indexed.splits]
        if test:
            self._test = _Test(test[0].split, self._describe_test(test[0], selected), selected)
        info: dict[str, JSON] = {
            "source": self._config.source,
            "content": content,
            "reviews": sum(document.split == "train" for document in documents),
            "train": self._describe(train),
            "valid": self._describe(valid),
            "duplicates": self._known_duplicates(selected),
        }
        if embedded.coverage is not None:
            info["vectors"] = embedded.coverage
        data = PreparedData(
            fingerprint=fingerprint,
            train=train.split,
            valid=valid.split,
            classes=self._source.classes,
            words=embedded.vocabulary.words,
            info=info,
            vectors=embedded.matrix,
            vectors_tuned=self._config.vectors is None or self._config.vectors.tuned,
        )
        return self._wide.add(data, selected) if self._wide else data

    def build_test(
        self, fingerprint: str, data: PreparedData, splits: Sequence[Split]
    ) -> PreparedTest:
        """Prepare the test split with the vocabulary of `data`, unless `build` already did.

        Raises:
            DataError: the data cannot be read or is invalid.
        """
        if self._test is None:
            selected = self.select(splits, normalize=come_from_normalized(data.words))
            vocabulary = Vocabulary(data.words)
            words = index_splits([selected.test], self._config, self._progress)
            indexed = split_words(words, vocabulary, self._config)
            ids_of_tokens = vocabulary.encode(indexed.tokens)
            test = self._finish(indexed.splits[0], ids_of_tokens)
            self._test = _Test(test.split, self._describe_test(test, selected), selected)
        prepared = PreparedTest(fingerprint, self._test.split, self._test.info)
        return self._wide.add_test(prepared, data, self._test.documents) if self._wide else prepared

    def select(self, splits: Sequence[Split], *, normalize: bool = True) -> SplitDocuments:
        """Read splits of the source and return the documents of the config's splits.

        Args:
            splits: splits of the source to read.
            normalize: normalize the texts; False for data of a release that did not.

        Raises:
            DataError: the data cannot be read or is invalid.
        """
        documents = self._documents(splits, normalize=normalize)
        return select_documents(documents, self._source, self._config)

    def _documents(self, splits: Sequence[Split], *, normalize: bool = True) -> list[Document]:
        """Return the documents of splits of the source, read by `are_normalized` if possible."""
        read, self._read = self._read, None
        if read is None or read[0] != tuple(splits):
            read = tuple(splits), load_documents(self._source, splits, self._progress)
        return with_normalized_texts(read[1]) if normalize else read[1]

    def _embed(self, words: IndexedSplits, unlabelled: Sequence[str]) -> _EmbeddedVocabulary:
        """Build the vocabulary of the training split, and its embedding."""
        vocabulary = learn_vocabulary(words, self._config)
        if self._vectors is None:
            return _EmbeddedVocabulary(vocabulary, None, None)
        indexed = split_words(words, vocabulary, self._config)
        subwords = Subwords(vocabulary.words) if has_subwords(self._config.tokenizer) else None
        corpus = TrainingCorpus(
            self._config, indexed.tokens, indexed.splits[0], unlabelled, subwords
        )
        matrix, known, coverage = build_embedding(self._vectors, vocabulary.words, corpus)
        if self._drops_unknown:
            vocabulary = Vocabulary([vocabulary.words[index] for index in known])
            matrix = matrix[known]
        return _EmbeddedVocabulary(vocabulary, matrix, coverage)

    def _finish(self, split: TensorizedSplit, ids_of_tokens: NDArray[np.int32]) -> _Finished:
        """Convert token indices to the vocabulary's ids, and truncate the documents."""
        ids, offsets = ids_of_tokens[split.ids], split.offsets
        if self._drops_unknown:
            ids, offsets = drop_unknown(ids, offsets)
        lengths = np.diff(offsets)
        ids, offsets = truncate(ids, offsets, self._config.max_tokens, self._config.keep)
        truncated = int(np.sum(np.diff(offsets) < lengths))
        return _Finished(TensorizedSplit(ids, offsets, split.labels), truncated)

    @property
    def _drops_unknown(self) -> bool:
        vectors = self._config.vectors
        return vectors is not None and vectors.unknown == "dropped"

    def _known_duplicates(self, selected: SplitDocuments) -> dict[str, JSON]:
        """Return the duplicates, without those of a separate test split.

        `prepare` does not read a separate test split, and its result must not depend on whether
        `prepare_test` was called first.
        """
        knows_test = self._config.test_size is not None or self._config.duplicates == "drop"
        return {
            pair: count
            for pair, count in selected.duplicates.items()
            if knows_test or not pair.endswith("_test")
        }

    def _describe(self, finished: _Finished) -> dict[str, JSON]:
        classes, split = self._source.classes, finished.split
        counts = np.bincount(split.labels, minlength=len(classes))
        return {
            "reviews": len(split),
            "classes": {name: int(count) for name, count in zip(classes, counts, strict=True)},
            "tokens": split.tokens,
            "unknown_share": float(np.mean(split.ids == UNK)),
            "cut_reviews": finished.truncated,
            "longest": int(split.lengths.max()),
        }

    def _describe_test(self, finished: _Finished, selected: SplitDocuments) -> dict[str, JSON]:
        """Describe the test split, including its documents that are still in other splits."""
        overlap: dict[str, JSON] = {}
        for name, documents in (("train", selected.train), ("valid", selected.valid)):
            texts = {document.text.strip() for document in documents}
            overlap[f"also_in_{name}"] = sum(
                document.text.strip() in texts for document in selected.test
            )
        return {**self._describe(finished), **overlap}
