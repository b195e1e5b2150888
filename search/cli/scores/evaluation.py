"""Tables of an evaluation for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from celltune.search.metrics import row_shares
from celltune.search.results.tables import Column, TextTable
from celltune.search.types import is_wide_only
from celltune.search.wording import (
    CROSS_FITTED,
    loss_text,
    percent_range,
    percent_spread,
    percent_text,
)

Record = Mapping[str, Any]

COLUMNS = (
    "model",
    "on",
    "seeds",
    "test accuracy",
    "95 % interval",
    "F1",
    "test loss",
    "train",
    "parameters",
    "s per epoch",
    "ms per document",
)

CROSS_FITTED_MARK = "*"
"""Marks the training accuracy of the wide part alone."""

WIDE_COLUMNS = ("train", "parameters", "s per epoch", "ms per document")
"""Columns that a terminal of fewer than `WIDE` columns does not show."""
WIDE = 120
MATRIX_CLASSES = 4
"""Largest number of classes whose confusion matrix is printed."""

UNBROKEN = ("test accuracy", "95 % interval")
"""Columns that do not wrap in a narrow terminal."""


def as_table(records: Sequence[Record], width: int = WIDE) -> TextTable:
    """Return a table with one row for each record of `celltune.search.evaluation.summaries`.

    Args:
        records: the models.
        width: of the terminal; a narrow one does not show `WIDE_COLUMNS`.
    """
    shown = [name for name in COLUMNS if width >= WIDE or name not in WIDE_COLUMNS]
    columns = [
        Column(name, right=name not in ("model", "on"), wrap=name not in UNBROKEN) for name in shown
    ]
    values = [dict(zip(COLUMNS, cells(record), strict=True)) for record in records]
    return TextTable(columns, [[row[name] for name in shown] for row in values])


def cells(record: Record) -> list[str]:
    """Return the values of a record as text, in the order of `COLUMNS`."""
    accuracy, loss = record["test_accuracy"], record["test_loss"]
    failed = len(record["failed_seeds"])
    seeds = str(len(record["seeds"]) or "-") + (f", {failed} failed" if failed else "")
    epoch, document = record["seconds_per_epoch"], record["milliseconds_per_review"]
    return [
        record["name"],
        record["on"],
        seeds,
        percent_spread(accuracy["mean"] or 0.0, accuracy["std"]),
        percent_range(accuracy["low"], accuracy["high"]),
        f"{record['test_f1']['mean']:.4f}",
        "-" if loss is None else loss_text(loss["mean"]),
        percent_text(record["train_accuracy"]["mean"])
        + (CROSS_FITTED_MARK * is_cross_fitted(record)),
        f"{record['parameters']:,.0f}",
        "-" if epoch is None else f"{epoch:.1f}",
        "-" if document is None else f"{document:.2f}",
    ]


def is_cross_fitted(record: Record) -> bool:
    """Return whether the training scores of a record are those of models without the document."""
    return is_wide_only(record["params"])


def notes_below(records: Sequence[Record], width: int = WIDE) -> list[str]:
    """Return the sentences that explain the marks in the table, and what it does not show.

    Args:
        records: the models in the table.
        width: of the terminal.
    """
    notes = []
    if width < WIDE:
        notes.append(
            f"A terminal of {WIDE} columns also shows the training accuracy, the number of "
            "parameters and the speed."
        )
    elif any(map(is_cross_fitted, records)):
        notes.append(f"{CROSS_FITTED_MARK} {CROSS_FITTED}.")
    return notes


def confusion_table(record: Record, split: str) -> TextTable:
    """Return a confusion matrix: a row for each true class, with counts and shares of the row.

    Args:
        record: from `celltune.search.evaluation.summaries`.
        split: train or test.
    """
    matrix = np.array(record[f"{split}_confusion"])
    names = [str(name) for name in record["classes"]]
    columns = [Column(f"{split}: true \\ predicted"), *(Column(name, right=True) for name in names)]
    rows = [
        [name, *(f"{c:,} ({percent_text(s)})" for c, s in zip(counts, shares, strict=True))]
        for name, counts, shares in zip(names, matrix, row_shares(matrix), strict=True)
    ]
    return TextTable(columns, rows)
