"""A table of the scores of each class on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.search.metrics import class_scores
from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import percent_text

LISTED_CLASSES = 30
"""Number of classes whose scores are shown by default."""


def class_table(record: Mapping[str, Any], most: int = LISTED_CLASSES) -> TextTable:
    """Return precision, recall and F1 of each class on the test split, and its usual mistake.

    Args:
        record: from `celltune.search.evaluation.summaries`.
        most: of more classes, those with the lowest F1 are shown, the lowest first.
    """
    matrix = np.array(record["test_confusion"])
    names = [str(name) for name in record["classes"]]
    scores = class_scores(matrix)
    order = list(range(len(names)))
    if len(order) > most:
        order = np.argsort(scores[:, 2], kind="stable")[:most].tolist()
    seeds = max(1, len(record["seeds"]))
    rows = [
        [
            names[index],
            f"{matrix[index].sum() // seeds:,}",
            *(percent_text(float(score), digits=1) for score in scores[index]),
            _usual_mistake(matrix[index], index, names),
        ]
        for index in order
    ]
    return TextTable(
        [
            Column("class"),
            *(Column(name, right=True) for name in ("documents", "precision", "recall", "F1")),
            Column("most often taken for"),
        ],
        rows,
    )


def _usual_mistake(counts: NDArray[Any], own: int, names: Sequence[str]) -> str:
    """Return the other class that the documents of a class are assigned to most often."""
    others = counts.copy()
    others[own] = 0
    if not others.any():
        return "-"
    other = int(others.argmax())
    return f"{names[other]} ({percent_text(float(others[other] / counts.sum()), digits=1)})"
