"""Reads the documents of a source and assigns them to the training, validation and test splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.preparation.duplicates import SplitDocuments, compare_splits
from celltune.data_prep.preparation.splits import SplitIndices, stratified_split
from celltune.data_prep.sources.base import Document, Source, Split
from celltune.data_prep.sources.problems import SHOWN_PLACES
from celltune.data_prep.text.normalization import normalized
from celltune.data_prep.text.tokenizers import open_tokenizer
from celltune.data_prep.types import Progress
from celltune.printable import printable, quoted

_NOT_IN_A_NAME = ("Cc", "Zl", "Zp")
"""Unicode categories of control characters and of line separators."""

_SHOWN_CLASSES = 20
"""Classes that an error lists."""
_SHOWN_CHARACTERS = 40
"""Characters of a text that an error shows."""

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

    With `missing: drop`, documents without tokens are left out first.

    Args:
        documents: documents of the source's train split, of its validation split if it has one,
            and of its test split if it was read.
        source: the source of the documents.
        config: sizes of the splits, seed, groups, and treatment of duplicates.

    Raises:
        DataError: the documents cannot be split, or a split without its duplicates is empty.
    """
    if config.missing == "drop":
        tokenizer = open_tokenizer(config.tokenizer, lowercase=bool(config.lowercase))
        documents = [each for each in documents if tokenizer.has_token(each.text)]
    pool = [document for document in documents if document.split == "train"]
    indices = _split_documents(pool, source, config)
    own_valid = [document for document in documents if document.split == "valid"]
    own_test = [document for document in documents if document.split == "test"]
    selected = compare_splits(
        [pool[index] for index in indices.train],
        own_valid + [pool[index] for index in indices.valid],
        own_test + [pool[index] for index in indices.test],
        drop=config.duplicates == "drop",
    )
    for remaining, purpose in ((selected.train, "train on"), (selected.valid, "validate on")):
        if not remaining:
            raise DataError(
                f"After dropping duplicates, no document is left to {purpose}: all of them are in "
                f"another split, too. Set data.duplicates to report, or provide other data."
            )
    return selected


def _labels_of(
    documents: Sequence[Document], source: Source, config: DataConfig
) -> NDArray[np.int64]:
    """Return the labels of documents, `(len(documents),)`.

    Raises:
        DataError: a class has no documents, or a name that does not fit on one line.
    """
    labels = np.array([document.label for document in documents], dtype=np.int64)
    check_classes(source.classes, np.bincount(labels, minlength=len(source.classes)), config)
    return labels


def check_classes(classes: Sequence[str], counts: NDArray[np.int64], config: DataConfig) -> None:
    """Check that every class has documents, and a name that is text on one line.

    Args:
        classes: names of the classes.
        counts: `(c,)` number of documents of each class.
        config: the data set, for messages.

    Raises:
        DataError: a class has no documents, or a name that does not fit on one line.
    """
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        present = [quoted(name) for name in classes if name not in missing]
        shown = ", ".join(present[:_SHOWN_CLASSES]) or "none"
        if len(present) > _SHOWN_CLASSES:
            shown += f" and {len(present) - _SHOWN_CLASSES:,} others"
        raise DataError(
            f"{config.location}: none of the {counts.sum()} documents is of class "
            f"{quoted(missing[0])}. The classes present are: {shown}. A classifier needs documents "
            f"of every class."
        )
    _check_class_names(classes, config)


def _check_class_names(classes: Sequence[str], config: DataConfig) -> None:
    """Check that the names of the classes are text on one line.

    Only new data is checked, so that data and models of earlier releases remain usable.
    """
    for name in classes:
        if any(unicodedata.category(character) in _NOT_IN_A_NAME for character in name):
            raise DataError(
                f"{config.location}: the class {quoted(name)} contains a control "
                "character or a line break, as labels of damaged files do. Rename it in the data "
                "and in data.classes."
            )


def _split_documents(
    documents: Sequence[Document], source: Source, config: DataConfig
) -> SplitIndices:
    """Return the indices of the documents in each split that a config defines.

    Raises:
        DataError: a class has no documents, or they cannot be split (see `stratified_split`).
    """
    labels = _labels_of(documents, source, config)
    has_groups = config.groups is not None or config.group_column is not None
    return stratified_split(
        labels,
        config.train_size,
        0 if "valid" in source.splits else config.valid_size,
        config.seed,
        test_size=config.test_size or 0,
        groups=[document.group for document in documents] if has_groups else None,
        min_per_class=config.min_per_class or 0,
        names=source.classes,
    )


def require_tokens(documents: Iterable[Document], config: DataConfig) -> None:
    """Check that every document has a token.

    Raises:
        DataError: documents have none.
    """
    tokenizer = open_tokenizer(config.tokenizer, lowercase=bool(config.lowercase))
    without = [document for document in documents if not tokenizer.has_token(document.text)]
    if without:
        raise no_tokens_error(without, config)


def no_tokens_error(documents: Sequence[Document], config: DataConfig) -> DataError:
    """Return the error for documents without tokens."""
    first = documents[0]
    where = config.location_of(first.split)
    suffix = f"no tokens for the tokenizer '{config.tokenizer}'"
    can_drop = "missing" in SOURCES.load(config.source).optional_keys
    fix = ", or use `data.missing: drop` to leave such rows out." if can_drop else "."
    if len(documents) == 1:
        text = printable(first.text, _SHOWN_CHARACTERS)
        return DataError(
            f"{where}, {printable(first.id)}: the text '{text}' has {suffix}. Remove it{fix}"
        )
    shown = ", ".join(
        f"{printable(document.id)} '{printable(document.text, _SHOWN_CHARACTERS)}'"
        for document in documents[:SHOWN_PLACES]
    )
    if len(documents) > SHOWN_PLACES:
        shown += f" and {len(documents) - SHOWN_PLACES:,} more"
    return DataError(f"{where}: {len(documents):,} texts have {suffix}: {shown}. Remove them{fix}")


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
