"""Output of `celltune compare`: published next to measured scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celltune.search.evaluation.comparison import notes
from celltune.search.results.formats import as_csv, as_json, check_format
from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import clock_duration, percent_text

Record = Mapping[str, Any]

FORMATS = ("table", "md", "csv", "json")
_PAIRS = {
    "test_accuracy": "test accuracy",
    "test_loss": "cross-entropy",
    "train_accuracy": "train accuracy",
    "parameters": "parameters",
    "seconds": "time",
}
"""Values shown as a pair "published / measured", with the title of their column."""
COLUMNS = ("model", *_PAIRS.values(), "scale", "data")


def render(records: Sequence[Record], form: str) -> str | TextTable:
    """Return a comparison in one of `FORMATS`; csv and json keep every digit.

    Args:
        records: from `celltune.search.evaluation.comparison.compare`.
        form: one of `FORMATS`.

    Raises:
        OptionError: there is no such format.
    """
    check_format(form, FORMATS)
    if form == "csv":
        return as_csv(records)
    if form == "json":
        return as_json(records)
    table = TextTable(
        [
            Column(name, right=name not in ("model", "data"), wrap=name != "model")
            for name in COLUMNS
        ],
        [_cells(record) for record in records],
    )
    if form == "table":
        return table
    return f"{table.markdown()}\n\n" + "\n".join(f"- {note}" for note in notes(records))


def _cells(record: Record) -> list[str]:
    pairs = [
        f"{_text(name, record[f'reported_{name}'])} / {_text(name, record[f'measured_{name}'])}"
        for name in _PAIRS
    ]
    data = record["data"] + (" (stand-in)" if record["stands_in"] else "")
    return [record["name"], *pairs, f"{record['scale']:g}", data]


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith("_accuracy"):
        return percent_text(value)
    if name == "parameters":
        return f"{value:,}"
    return clock_duration(value) if name == "seconds" else f"{value:.4f}"
