"""A table of scores on the test split that do not depend on how frequent the classes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import percent_range, percent_text

_CALIBRATION = "calibration error"
_TITLES = {
    "test_macro_f1": "macro-F1",
    "test_balanced_accuracy": "balanced accuracy",
    "test_auroc": "AUROC",
}


def scores_note(records: Sequence[Mapping[str, Any]]) -> str:
    """Return what the columns of `other_scores_table` mean."""
    has_auroc = any(record["test_auroc"] for record in records)
    auroc = ", AUROC the area under the ROC curve" if has_auroc else ""
    note = (
        f"Macro-F1 is the mean F1 of the classes, balanced accuracy their mean recall{auroc}, each "
        "with its 95 % interval. The calibration error is the mean difference between accuracy and "
        "probability in 15 bins of equal width (Guo et al. 2017). Baselines have neither class "
        "weights nor a threshold"
    )
    if not has_auroc:
        return f"{note}."
    return (
        f"{note}; AUROC, which depends on neither threshold nor class sizes, shows which model "
        "ranks documents better."
    )


def other_scores_table(records: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return a table with one row for each record of `summaries`."""
    shown = [name for name in _TITLES if any(record[name] for record in records)]
    columns = [Column("model"), Column("on")]
    columns += [
        Column(title, right=True) for title in (*(_TITLES[name] for name in shown), _CALIBRATION)
    ]
    rows = [
        [
            record["name"],
            record["on"],
            *(_score_text(record[name]) for name in shown),
            _calibration_text(record),
        ]
        for record in records
    ]
    return TextTable(columns, rows)


def _calibration_text(record: Mapping[str, Any]) -> str:
    after, before = record["test_ece"], record["test_uncalibrated_ece"]
    if after is None:
        return "-"
    text = percent_text(after["mean"])
    return text if before is None else f"{text} (before calibration {percent_text(before['mean'])})"


def _score_text(score: Mapping[str, float] | None) -> str:
    if score is None:
        return "-"
    return f"{percent_text(score['mean'])} ({percent_range(score['low'], score['high'])})"
