"""Reads the documents of a source and assigns them to the training, validation and test splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.duplicates import SplitDocuments, compare_splits
from celltune.data_prep.preparation.splits import SplitIndices, stratified_split
from celltune.data_prep.sources.base import Document, Source, Split
from celltune.data_prep.text.normalization import normalized
from celltune.data_prep.text.tokenizers import open_tokenizer
from celltune.data_prep.types import Progress
from celltune.printable import printable, quoted

_NOT_IN_A_NAME = ("Cc", "Zl", "Zp")
"""Unicode categories of control characters and of line separators."""

PROGRESS_INTERVAL = 500
"""Number of documents between two progress reports."""


def load_documents(
    source: Source, splits: Sequence[Split], progress: Progress | None
) -> list[Document]:
    """Return all documents of some splits of a source, with their unchanged texts.

    Raises:
        DataError: the data cannot be read or is invalid.
    """
    return list(_report_progress(source.documents(splits), progress))


def with_normalized_texts(documents: Iterable[Document]) -> list[Document]:
    """Return documents with their texts in Unicode's composed form (NFC)."""
    return [document._replace(text=normalized(document.text)) for document in documents]


def select_documents(
    documents: Sequence[Document], source: Source, config: DataConfig
) -> SplitDocuments:
    """Assign the documents of a source to the splits that a config defines.

    Args:
        documents: documents of the source's train split, and of its test split if it was read.
        source: the source of the documents.
        config: sizes of the splits, seed, groups, and treatment of duplicates.

    Raises:
        DataError: the documents cannot be split, or a split without its duplicates is empty.
    """
    pool = [document for document in documents if document.split == "train"]
    indices = split_documents(pool, labels_of(pool, source, config), config)
    separate_test = [document for document in documents if document.split == "test"]
    selected = compare_splits(
        [pool[index] for index in indices.train],
        [pool[index] for index in indices.valid],
        separate_test + [pool[index] for index in indices.test],
        drop=config.duplicates == "drop",
    )
    for remaining, purpose in ((selected.train, "train on"), (selected.valid, "validate on")):
        if not remaining:
            raise DataError(
                f"After dropping duplicates, no document is left to {purpose}: all of them are in "
                f"another split, too. Set data.duplicates to report, or provide other data."
            )
    return selected


def labels_of(
    documents: Sequence[Document], source: Source, config: DataConfig
) -> NDArray[np.int64]:
    """Return the labels of documents, `(len(documents),)`.

    Raises:
        DataError: a class has no documents, or a name that does not fit on one line.
    """
    _check_class_names(source, config)
    labels = np.array([document.label for document in documents], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(source.classes))
    missing = [name for name, count in zip(source.classes, counts, strict=True) if not count]
    if missing:
        present = [quoted(name) for name in source.classes if name not in missing]
        raise DataError(
            f"{config.location}: none of the {len(documents)} documents is of class "
            f"{quoted(missing[0])}. The classes present are: {', '.join(present) or 'none'}. A "
            f"classifier needs documents of every class."
        )
    return labels


def _check_class_names(source: Source, config: DataConfig) -> None:
    """Check that the names of the classes are text on one line.

    Only new data is checked, so that data and models of earlier releases remain usable.
    """
    for name in source.classes:
        if any(unicodedata.category(character) in _NOT_IN_A_NAME for character in name):
            raise DataError(
                f"{config.location}: the class {quoted(name)} contains a control "
                "character or a line break, as labels of damaged files do. Rename it in the data "
                "and in data.classes."
            )


def split_documents(
    documents: Sequence[Document], labels: NDArray[np.int64], config: DataConfig
) -> SplitIndices:
    """Return the indices of the documents in each split that a config defines.

    Raises:
        DataError: the documents cannot be split (see `stratified_split`).
    """
    has_groups = config.groups is not None or config.group_column is not None
    return stratified_split(
        labels,
        config.train_size,
        config.valid_size,
        config.seed,
        test_size=config.test_size or 0,
        groups=[document.group for document in documents] if has_groups else None,
    )


def require_tokens(documents: Iterable[Document], config: DataConfig) -> None:
    """Check that every document has a token.

    Raises:
        DataError: a document has none.
    """
    tokenizer = open_tokenizer(config.tokenizer, lowercase=bool(config.lowercase))
    for document in documents:
        if not tokenizer.has_token(document.text):
            raise no_tokens_error(document, config)


def no_tokens_error(document: Document, config: DataConfig) -> DataError:
    """Return the error for a document without tokens."""
    return DataError(
        f"{config.location}, {printable(document.id)}: the text "
        f"'{printable(document.text, 40)}' has no tokens for the tokenizer "
        f"'{config.tokenizer}'. Remove the document."
    )


def _report_progress(
    documents: Iterable[Document], progress: Progress | None
) -> Iterator[Document]:
    done = 0
    if progress:
        progress("read", 0, None)
    for done, document in enumerate(documents, start=1):
        yield document
        if progress and done % PROGRESS_INTERVAL == 0:
            progress("read", done, None)
    if progress and done % PROGRESS_INTERVAL:
        progress("read", done, None)
