"""The section of the report about the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celltune.search.evaluation.other_scores import SCORES_NOTE, other_scores_table
from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.markup import Section, collapsed, paragraphs, scrollable
from celltune.search.results.tables import Column, TextTable
from celltune.search.types import Metric
from celltune.search.wording import (
    loss_text,
    percent_range,
    percent_spread,
    percent_text,
)

_ONE_SEED = "Each trial was trained with one seed, so the variation between seeds is unknown."

_TEXT_COLUMNS = ("model", "trained on")


def evaluation_sentence(state: ExperimentState, metric: Metric) -> str:
    """Return a sentence about the test accuracy of the best evaluated trial, if there is one."""
    trials = [record for record in summaries(state, metric) if record["kind"] == "trial"]
    if not trials:
        return _ONE_SEED
    record, accuracy = trials[0], trials[0]["test_accuracy"]
    seeds = len(record["seeds"])
    return (
        f"Retrained with {seeds} {'seed' if seeds == 1 else 'seeds'}, trial {record['trial']} "
        f"reaches a test accuracy of {percent_text(accuracy['mean'])} on {record['reviews']:,} "
        f"documents (95 % interval: {percent_range(accuracy['low'], accuracy['high'])})."
    )


def evaluation_section(state: ExperimentState, metric: Metric) -> Section | None:
    """Return the results on the test split with confusion matrices; None if there are none."""
    records = summaries(state, metric)
    if not records:
        return None
    times = "once" if state.test_reads == 1 else f"{state.test_reads} times"
    intro = paragraphs(
        verdict(state, metric),
        "Every trial was retrained with each seed. The intervals are 95 % bootstrap intervals over "
        f"documents and seeds. The test split was read {times} in this experiment.",
    )
    confusions = [
        _confusion(record, split)
        for record in records
        for split in ("train", "test")
        if record[f"{split}_confusion"]
    ]
    title = "Results on the test split"
    table = scrollable(title, _results_table(records).html())
    others = scrollable("Other scores on the test split", other_scores_table(records).html())
    return Section(title, [intro, table, paragraphs(SCORES_NOTE), others, *confusions])


def _results_table(records: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = [_result_cells(record) for record in records]
    columns = [Column(title, right=title not in _TEXT_COLUMNS) for title in rows[0]]
    return TextTable(columns, [list(row.values()) for row in rows])


def _result_cells(record: Mapping[str, Any]) -> dict[str, str]:
    accuracy, loss = record["test_accuracy"], record["test_loss"]
    epoch_seconds, document = record["seconds_per_epoch"], record["milliseconds_per_review"]
    return {
        "model": record["name"],
        "trained on": record["on"],
        "seeds": str(len(record["seeds"]) or ""),
        "accuracy": percent_spread(accuracy["mean"], accuracy["std"]),
        "95 % interval": percent_range(accuracy["low"], accuracy["high"]),
        "F1": f"{record['test_f1']['mean']:.4f}",
        "cross-entropy": "" if loss is None else loss_text(loss["mean"]),
        "parameters": f"{record['parameters']:,.0f}",
        "s/epoch": "" if epoch_seconds is None else f"{epoch_seconds:.4g}",
        "ms/document": "" if document is None else f"{document:.4g}",
    }


def _confusion(record: Mapping[str, Any], split: str) -> str:
    """Return a confusion matrix with the counts of all seeds and the shares of each row."""
    classes = [str(name) for name in record["classes"]]
    rows = [
        [name, *(f"{n:,} ({percent_text(n / max(1, sum(counts)), digits=1)})" for n in counts)]
        for name, counts in zip(classes, record[f"{split}_confusion"], strict=True)
    ]
    columns = [Column("true class"), *(Column(f"predicted {name}", right=True) for name in classes)]
    title = f"Confusion matrix: {record['name']}, trained on {record['on']}, {split} split"
    return collapsed(title, scrollable(title, TextTable(columns, rows).html()))
