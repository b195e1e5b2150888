"""Documents whose text occurs in more than one split.

A model that was trained on a text is not tested by the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celltune.data_prep.sources.base import Document

_WORTH_SAYING = 0.02
"""Share of the documents that must be concerned before it is said; fewer change no score much."""


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
    text is also in the second one; `conflicting`: number of training and validation documents
    whose text also has another label there; `dropped`: number of dropped documents."""


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
        "conflicting": _count_conflicting([*train, *valid]),
    }
    unique_train, unique_valid = train, valid
    if drop:
        unique_valid = _without(valid, test_texts)
        unique_train = _without(train, test_texts | valid_texts)
    dropped = len(train) - len(unique_train) + len(valid) - len(unique_valid)
    return SplitDocuments(unique_train, unique_valid, test, {**duplicates, "dropped": dropped})


def duplicates_notes(duplicates: Mapping[str, int], *, train: int, valid: int) -> list[str]:
    """Return what duplicates mean for the scores, as sentences; nothing if they are very few.

    Args:
        duplicates: as in `SplitDocuments`; counts that are unknown may be missing.
        train: number of training documents.
        valid: number of validation documents.
    """
    notes = []
    pairs = [key for key in ("train_valid", "train_test", "valid_test") if duplicates.get(key)]
    repeated = sum(duplicates[key] for key in pairs)
    if repeated >= max(1, _WORTH_SAYING * valid) and not duplicates.get("dropped"):
        found = ", ".join(
            f"{duplicates[key]:,} of {key.partition('_')[0]} in {key.partition('_')[2]}"
            for key in pairs
        )
        notes.append(
            f"Texts are in two splits ({found}). A model that was trained on a text knows its "
            "label, so the scores are too high. Set data.duplicates to drop to leave them out."
        )
    conflicting = duplicates.get("conflicting", 0)
    if conflicting >= max(1, _WORTH_SAYING * (train + valid)):
        notes.append(
            f"{conflicting:,} of {train + valid:,} documents have a text that also occurs with "
            "another label. No model can predict both: check the labels of these texts."
        )
    return notes


def _count_conflicting(documents: Sequence[Document]) -> int:
    first: dict[str, int] = {}
    conflicting = {
        text
        for text, label in ((document.text.strip(), document.label) for document in documents)
        if first.setdefault(text, label) != label
    }
    return _count_in(documents, conflicting) if conflicting else 0


def _texts(documents: Sequence[Document]) -> set[str]:
    return {document.text.strip() for document in documents}


def _count_in(documents: Sequence[Document], texts: set[str]) -> int:
    return sum(document.text.strip() in texts for document in documents)


def _without(documents: Sequence[Document], texts: set[str]) -> list[Document]:
    return [document for document in documents if document.text.strip() not in texts]
