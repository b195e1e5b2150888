"""Documents whose text occurs in more than one split.

A model that was trained on a text is not tested by the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celltune.data_prep.sources.base import Document


@dataclass(frozen=True)
class SplitDocuments:
    """The documents of each split, and the number of duplicates between splits."""

    train: Sequence[Document]
    """Documents to train on."""
    valid: Sequence[Document]
    """Documents to validate on."""
    test: Sequence[Document]
    """Documents to test on; empty if the test split was not read."""
    duplicates: dict[str, int]
    """`train_valid`, `train_test` and `valid_test`: number of documents of the first split whose
    text is also in the second one; `dropped`: number of dropped documents."""


def compare_splits(
    train: Sequence[Document], valid: Sequence[Document], test: Sequence[Document], *, drop: bool
) -> SplitDocuments:
    """Count the duplicates between splits, and optionally drop them.

    Two texts are equal if they differ at most in leading and trailing white space.

    Args:
        train: loses the documents whose text is in `valid` or `test`.
        valid: loses the documents whose text is in `test`.
        test: never changes.
        drop: whether duplicates are dropped or only counted.
    """
    valid_texts, test_texts = _texts(valid), _texts(test)
    duplicates = {
        "train_valid": _count_in(train, valid_texts),
        "train_test": _count_in(train, test_texts),
        "valid_test": _count_in(valid, test_texts),
    }
    unique_train, unique_valid = train, valid
    if drop:
        unique_valid = _without(valid, test_texts)
        unique_train = _without(train, test_texts | valid_texts)
    dropped = len(train) - len(unique_train) + len(valid) - len(unique_valid)
    return SplitDocuments(unique_train, unique_valid, test, {**duplicates, "dropped": dropped})


def _texts(documents: Sequence[Document]) -> set[str]:
    return {document.text.strip() for document in documents}


def _count_in(documents: Sequence[Document], texts: set[str]) -> int:
    return sum(document.text.strip() in texts for document in documents)


def _without(documents: Sequence[Document], texts: set[str]) -> list[Document]:
    return [document for document in documents if document.text.strip() not in texts]
