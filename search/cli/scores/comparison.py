"""Output of `celltune compare`: published next to measured scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from celltune.search.escaping import markdown_text
from celltune.search.evaluation.comparison import Comparison, notes
from celltune.search.evaluation.published_models import Training
from celltune.search.results.formats import as_csv, as_json, check_format
from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import (
    approximate_duration,
    clock_duration,
    counted,
    percent_spread,
    percent_text,
    points_text,
)

Record = Mapping[str, Any]

FORMATS = ("table", "md", "csv", "json")
_PAIRS = {
    "test_loss": "cross-entropy",
    "train_accuracy": "train accuracy",
    "parameters": "parameters",
    "seconds": "time",
}
"""Values shown as a pair "reported / measured", with the title of their column."""
COLUMNS = (
    "model",
    "test accuracy",
    "difference",
    "seeds",
    *_PAIRS.values(),
    "scale",
    "data",
)


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
    items = "\n".join(f"- {markdown_text(note)}" for note in notes(records))
    return f"{table.markdown()}\n\n{items}"


def _cells(record: Record) -> list[str]:
    accuracy, spread = record["measured_test_accuracy"], record["spread_test_accuracy"]
    measured = "-" if accuracy is None else percent_spread(accuracy, spread)
    difference = record["difference_test_accuracy"]
    done, left = len(record["seeds"]), len(record["seeds_left"])
    pairs = [
        f"{_text(name, record[f'reported_{name}'])} / {_text(name, record[f'measured_{name}'])}"
        for name in _PAIRS
    ]
    return [
        record["name"],
        f"{_text('test_accuracy', record['reported_test_accuracy'])} / {measured}",
        "-" if difference is None else points_text(difference),
        f"{done} of {done + left}" if left else str(done),
        *pairs,
        f"{record['scale']:g}",
        record["data"] + (" (stand-in)" if record["stands_in"] else ""),
    ]


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith("_accuracy"):
        return percent_text(value)
    if name == "parameters":
        return f"{value:,}"
    return clock_duration(value) if name == "seconds" else f"{value:.4f}"


def describe_rest(comparison: Comparison, command: str) -> list[str]:
    """Return, as lines, what is done, what is left, and the command that continues a comparison.

    Args:
        comparison: the comparison.
        command: the command that was stopped.
    """
    done = sum(len(record["seeds"]) for record in comparison.records)
    total = done + len(comparison.left)
    seconds: dict[str, float] = {
        record["name"]: record["measured_seconds"]
        for record in comparison.records
        if record["measured_seconds"] is not None
    }
    left = ", ".join(_describe_left(training, seconds) for training in comparison.left)
    reason = "The time limit was reached" if comparison.reason == "time" else "Interrupted"
    return [
        f"{reason}. {done} of {counted(total, 'training')} are done.",
        f"Left: {left}.",
        f"Continue with: {command}",
    ]


def _describe_left(training: Training, seconds: Mapping[str, float]) -> str:
    """Name a training, the epochs that it has completed, and the time that it needs if known."""
    config, epochs = training.model.config, training.epoch_seconds()
    total = config.budget.max_epochs
    details = []
    if epochs:
        details.append(f"{len(epochs)} of {counted(total, 'epoch')} done")
    if epochs or config.name in seconds:
        whole = total * fmean(epochs) if epochs else seconds[config.name]
        details.append(f"about {approximate_duration(whole * (1 - len(epochs) / total))}")
    text = f"{config.name} with seed {training.seed}"
    return f"{text} ({', '.join(details)})" if details else text
