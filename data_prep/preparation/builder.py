"""Rows to arrays: choose, tokenize, count, number, cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK, Vocabulary
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.duplicates import SplitDocuments, compare_splits
from celltune.data_prep.preparation.splits import SplitIndices, stratified_split
from celltune.data_prep.sources.base import Document, Source, Split
from celltune.data_prep.text.indexing import IndexedTexts, index_texts
from celltune.data_prep.text.tokenizers import open_tokenizer
from celltune.data_prep.text.truncation import drop_unknown, truncate
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.vectors.embedding import TrainingCorpus, VectorSource, build_embedding

PROGRESS_EVERY = 500

Item = TypeVar("Item")


class Builder:
    """Builds what the cache doesn't have. A test part that was built on the way is remembered."""

    def __init__(
        self,
        config: DataConfig,
        source: Source,
        vectors: VectorSource | None,
        progress: Progress | None,
    ) -> None:
        """Reads nothing yet."""
        self._config, self._source, self._vectors = config, source, vectors
        self._progress = progress
        self._test: tuple[TensorizedSplit, dict[str, JSON]] | None = None

    def build(
        self, name: str, content: str, parts: Sequence[Split], *, with_test: bool = False
    ) -> PreparedData:
        """Prepares training and validation part.

        Args:
            name: the fingerprint.
            content: the digest of the source.
            parts: what to read of it.
            with_test: prepare the test part in the same pass; `build_test` gives it.

        Raises:
            DataError: input that can't be used.
        """
        rows = load_documents(self._source, parts, self._progress)
        labelled = sum(row.split == "train" for row in rows)
        chosen = self._chosen(rows)
        extra = [chosen.test] if with_test else []
        indexed = self._indexed([chosen.train, chosen.valid, *extra])
        train, valid, *test = _parts_of(indexed, [chosen.train, chosen.valid, *extra])
        counts = np.bincount(train.ids, minlength=len(indexed.tokens))
        vocabulary = Vocabulary.of_counts(
            indexed.tokens,
            counts,
            size=self._config.vocabulary_size,
            min_count=self._config.min_count,
        )
        matrix, coverage = None, None
        if self._vectors is not None:
            unlabelled = [row.text for row in rows if row.split == "unlabelled"]
            corpus = TrainingCorpus(self._config, indexed.tokens, train, unlabelled)
            matrix, known, coverage = build_embedding(self._vectors, vocabulary.words, corpus)
            if self._drops_unknown:
                vocabulary = Vocabulary([vocabulary.words[index] for index in known])
                matrix = matrix[known]
        numbers = vocabulary.encode(indexed.tokens)
        made = [self._tensorized(part, numbers) for part in (train, valid, *test)]
        if test:
            self._test = made[2][0], self._test_info(made[2], chosen)
        info: dict[str, JSON] = {
            "source": self._config.source,
            "content": content,
            "reviews": labelled,
            "train": self._summary(*made[0]),
            "valid": self._summary(*made[1]),
            "duplicates": self._counted(chosen),
        }
        if coverage is not None:
            info["vectors"] = coverage
        return PreparedData(
            name,
            made[0][0],
            made[1][0],
            self._source.classes,
            vocabulary.words,
            info,
            matrix,
            self._config.vectors is None or self._config.vectors.tuned,
        )

    def build_test(self, name: str, data: PreparedData, parts: Sequence[Split]) -> PreparedTest:
        """Prepares the test part in the ids of ``data``, unless `build` just did.

        Raises:
            DataError: input that can't be used.
        """
        if self._test is None:
            chosen = self.chosen(parts)
            indexed = self._indexed([chosen.test])
            (test,) = _parts_of(indexed, [chosen.test])
            made = self._tensorized(test, Vocabulary(data.words).encode(indexed.tokens))
            self._test = made[0], self._test_info(made, chosen)
        return PreparedTest(name, *self._test)

    def chosen(self, parts: Sequence[Split]) -> SplitDocuments:
        """The reviews of each part, as they were written.

        Args:
            parts: what to read.

        Raises:
            DataError: input that can't be used.
        """
        return self._chosen(load_documents(self._source, parts, self._progress))

    def _chosen(self, rows: list[Document]) -> SplitDocuments:
        pool = [row for row in rows if row.split == "train"]
        labels = labels_of(pool, self._source, self._config)
        found = split_documents(pool, labels, self._config)
        test = [row for row in rows if row.split == "test"] + [pool[i] for i in found.test]
        chosen = compare_splits(
            [pool[i] for i in found.train],
            [pool[i] for i in found.valid],
            test,
            drop=self._config.duplicates == "drop",
        )
        for rows_left, use in ((chosen.train, "train on"), (chosen.valid, "validate on")):
            if not rows_left:
                raise DataError(
                    f"dropping duplicates leaves no review to {use}: all of them stand in another "
                    f"part; set data.duplicates to report, or give other data"
                )
        return chosen

    def _indexed(self, parts: list[Sequence[Document]]) -> IndexedTexts:
        rows = [row for part in parts for row in part]
        config, progress = self._config, self._progress
        indexed = index_texts(
            [row.text for row in rows],
            config.tokenizer,
            lowercase=bool(config.lowercase),
            on_progress=lambda done: progress("tokenize", done, len(rows)) if progress else None,
        )
        empty = np.flatnonzero(np.diff(indexed.offsets) == 0)
        if len(empty):
            raise _without_tokens(rows[empty[0]], config)
        return indexed

    def _tensorized(
        self, part: TensorizedSplit, numbers: NDArray[np.int32]
    ) -> tuple[TensorizedSplit, int]:
        """The part in the vocabulary's ids and cut, and how many of its reviews were cut."""
        ids, offsets = numbers[part.ids], part.offsets
        if self._drops_unknown:
            ids, offsets = drop_unknown(ids, offsets)
        lengths = np.diff(offsets)
        ids, offsets = truncate(ids, offsets, self._config.max_tokens, self._config.keep)
        shorter = int(np.sum(np.diff(offsets) < lengths))
        return TensorizedSplit(ids, offsets, part.labels), shorter

    @property
    def _drops_unknown(self) -> bool:
        vectors = self._config.vectors
        return vectors is not None and vectors.unknown == "dropped"

    def _counted(self, chosen: SplitDocuments) -> dict[str, JSON]:
        """The duplicates, without those of a test part that `prepare` by itself doesn't look at."""
        known = self._config.test_size is not None or self._config.duplicates == "drop"
        return {k: n for k, n in chosen.duplicates.items() if known or not k.endswith("_test")}

    def _summary(self, part: TensorizedSplit, shorter: int) -> dict[str, JSON]:
        classes = self._source.classes
        counts = np.bincount(part.labels, minlength=len(classes))
        return {
            "reviews": len(part),
            "classes": {name: int(count) for name, count in zip(classes, counts, strict=True)},
            "tokens": part.tokens,
            "unknown_share": float(np.mean(part.ids == UNK)),
            "cut_reviews": shorter,
            "longest": int(part.lengths.max()),
        }

    def _test_info(
        self, made: tuple[TensorizedSplit, int], chosen: SplitDocuments
    ) -> dict[str, JSON]:
        # Counted after dropping, from the test part's side.
        also: dict[str, JSON] = {}
        for name, part in (("train", chosen.train), ("valid", chosen.valid)):
            texts = {row.text.strip() for row in part}
            also[f"also_in_{name}"] = sum(row.text.strip() in texts for row in chosen.test)
        return {**self._summary(*made), **also}


def load_documents(
    source: Source, parts: Sequence[Split], progress: Progress | None
) -> list[Document]:
    """All rows of some parts of a source.

    Raises:
        DataError: input that can't be used.
    """
    return list(_told(source.documents(parts), progress))


def labels_of(rows: Sequence[Document], source: Source, config: DataConfig) -> NDArray[np.int64]:
    """The label of each row, ``(len(rows),)``.

    Raises:
        DataError: a class without reviews.
    """
    labels = np.array([row.label for row in rows], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(source.classes))
    missing = [name for name, count in zip(source.classes, counts, strict=True) if not count]
    if missing:
        held = [repr(name) for name, count in zip(source.classes, counts, strict=True) if count]
        raise DataError(
            f"{config.path or config.source}: none of the {len(rows)} reviews has the class "
            f"{missing[0]!r}, all are of {', '.join(held) or 'no class at all'}; a classifier "
            f"needs reviews of every class"
        )
    return labels


def split_documents(
    rows: Sequence[Document], labels: NDArray[np.int64], config: DataConfig
) -> SplitIndices:
    """The config's split of rows.

    Raises:
        DataError: what can't be split, as `stratified_split` says.
    """
    grouped = config.groups is not None or config.group_column is not None
    return stratified_split(
        labels,
        config.train_size,
        config.valid_size,
        config.seed,
        test_size=config.test_size or 0,
        groups=[row.group for row in rows] if grouped else None,
    )


def require_tokens(rows: Iterable[Document], config: DataConfig) -> None:
    """Check that every document has a token.

    Raises:
        DataError: a document has none.
    """
    tokenizer = open_tokenizer(config.tokenizer, lowercase=bool(config.lowercase))
    for row in rows:
        if not tokenizer.has_token(row.text):
            raise _without_tokens(row, config)


def _without_tokens(row: Document, config: DataConfig) -> DataError:
    return DataError(
        f"{config.path or config.source}, {row.id}: the review is empty, it holds nothing that "
        f"{config.tokenizer} calls a token ({row.text[:40]!r}); remove it"
    )


def _parts_of(indexed: IndexedTexts, parts: Sequence[Sequence[Document]]) -> list[TensorizedSplit]:
    """Cuts what was indexed together apart again; ids stay those of ``indexed.tokens``."""
    made, begin = [], 0
    for part in parts:
        offsets = indexed.offsets[begin : begin + len(part) + 1]
        labels = np.array([row.label for row in part], dtype=np.int64)
        ids = indexed.ids[offsets[0] : offsets[-1]]
        made.append(TensorizedSplit(ids, offsets - offsets[0], labels))
        begin += len(part)
    return made


def _told(items: Iterable[Item], progress: Progress | None) -> Iterator[Item]:
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if progress and done % PROGRESS_EVERY == 0:
            progress("read", done, None)
    if progress and done % PROGRESS_EVERY:
        progress("read", done, None)
