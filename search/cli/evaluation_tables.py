"""Evaluations for people: a table, confusion matrices, and what they mean in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from celltune.search.evaluation.metrics import row_shares
from celltune.search.wording import percent_text

Record = Mapping[str, Any]

COLUMNS = (
    "model",
    "on",
    "seeds",
    "test accuracy",
    "95 % interval",
    "F1",
    "cross-entropy",
    "train",
    "parameters",
    "s/epoch",
    "ms/review",
)

FIRM = ("test accuracy", "95 % interval")
"""Columns that a narrow terminal doesn't break."""


def as_table(records: Sequence[Record]) -> Table:
    """Draw what was measured, a line for each record of `search.evaluation.summaries`."""
    drawn = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in COLUMNS:
        left = name in ("model", "on")
        drawn.add_column(name, justify="left" if left else "right", no_wrap=name in FIRM)
    for record in records:
        drawn.add_row(*cells(record))
    return drawn


def cells(record: Record) -> list[str]:
    """Write a record in the order of `COLUMNS`."""
    accuracy, loss = record["test_accuracy"], record["test_loss"]
    failed = len(record["failed_seeds"])
    seeds = str(len(record["seeds"]) or "-") + (f", {failed} failed" if failed else "")
    epoch = record["seconds_per_epoch"]
    return [
        record["name"],
        record["on"],
        seeds,
        _plus_minus(accuracy),
        f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}",
        f"{record['test_f1']['mean']:.4f}",
        "-" if loss is None else f"{loss['mean']:.4f}",
        percent_text(record["train_accuracy"]["mean"]),
        f"{record['parameters']:,.0f}",
        "-" if epoch is None else f"{epoch:.1f}",
        f"{record['milliseconds_per_review']:.2f}",
    ]


def _plus_minus(spread: Mapping[str, float | None]) -> str:
    mean, std = spread["mean"] or 0.0, spread["std"]
    return percent_text(mean) if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def confusion_table(record: Record, part: str) -> Table:
    """Draw a confusion matrix: rows the truth, counts of all seeds and shares of the row.

    Args:
        record: of `search.evaluation.summaries`.
        part: train or test.
    """
    matrix = np.array(record[f"{part}_confusion"])
    shares = row_shares(matrix)
    drawn = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    drawn.add_column(f"{part}: truth \\ answer")
    for name in record["classes"]:
        drawn.add_column(str(name), justify="right")
    for name, counts, parts in zip(record["classes"], matrix, shares, strict=True):
        drawn.add_row(
            str(name),
            *(f"{c:,} ({percent_text(s)})" for c, s in zip(counts, parts, strict=True)),
        )
    return drawn
