"""Reviews whose text stands in more than one part of a data set.

A model that has seen a review's very words is not tested by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celltune.data_prep.sources.base import Document


@dataclass(frozen=True)
class SplitDocuments:
    """The reviews of each part, and how many of them stand in another one as well.

    Attributes:
        train: what to train on.
        valid: what decides.
        test: the test part, as far as it was read.
        duplicates: ``train_valid``, ``train_test``, ``valid_test``: how many reviews of the first
            part have a text that stands in the second one too; ``dropped``: how many were.
    """

    train: Sequence[Document]
    valid: Sequence[Document]
    test: Sequence[Document]
    duplicates: dict[str, int]


def compare_splits(
    train: Sequence[Document], valid: Sequence[Document], test: Sequence[Document], *, drop: bool
) -> SplitDocuments:
    """Counts duplicates between parts and drops them, if asked to.

    Texts are the same if they are letter by letter, but for blanks around them.

    Args:
        train: loses what stands in valid or test.
        valid: loses what stands in test.
        test: never changes.
        drop: whether anything is lost at all.
    """
    of_valid, of_test = _texts(valid), _texts(test)
    counted = {
        "train_valid": _also(train, of_valid),
        "train_test": _also(train, of_test),
        "valid_test": _also(valid, of_test),
    }
    kept_train, kept_valid = train, valid
    if drop:
        kept_valid = [row for row in valid if row.text.strip() not in of_test]
        held_out = of_test | of_valid
        kept_train = [row for row in train if row.text.strip() not in held_out]
    dropped = len(train) - len(kept_train) + len(valid) - len(kept_valid)
    return SplitDocuments(kept_train, kept_valid, test, {**counted, "dropped": dropped})


def _texts(rows: Sequence[Document]) -> set[str]:
    return {row.text.strip() for row in rows}


def _also(rows: Sequence[Document], texts: set[str]) -> int:
    return sum(row.text.strip() in texts for row in rows)
