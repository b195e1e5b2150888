"""The section of the report about the test split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from celltune.search.escaping import html_text
from celltune.search.evaluation.class_table import LISTED_CLASSES, class_table
from celltune.search.evaluation.other_scores import other_scores_table, scores_note
from celltune.search.evaluation.summaries import summaries
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.markup import (
    FigureBlock,
    Section,
    collapsed,
    paragraphs,
    scrollable,
)
from celltune.search.results.tables import Column, TextTable
from celltune.search.types import Metric
from celltune.search.wording import (
    loss_text,
    percent_range,
    percent_spread,
    percent_text,
)

_ONE_SEED = "Each trial was trained with one seed, so the variation between seeds is unknown."

DRAWN_CLASSES = 50
"""Largest number of classes whose confusion matrices are shown."""

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
        "Every trial was retrained with each seed. The intervals are 95 % bootstrap intervals over "
        f"documents and seeds. The test split was read {times} in this experiment.",
    )
    title = "Results on the test split"
    table = scrollable(title, _results_table(records).html())
    others = scrollable("Other scores on the test split", other_scores_table(records).html())
    blocks = [intro, table, paragraphs(scores_note(records)), others]
    return Section(title, [*blocks, *_classes(records), *_matrices(records)])


def _classes(records: Sequence[Mapping[str, Any]]) -> Iterator[str | FigureBlock]:
    """Yield the scores of each class for the best model, and its confusion matrix as a figure."""
    trials = [record for record in records if record["kind"] == "trial"]
    record = (trials or records)[0]
    classes = [str(name) for name in record["classes"]]
    name = record["name"].partition(":")[0]
    title = f"Classes of {name} on the test split"
    hidden = len(classes) - LISTED_CLASSES
    listed = f", the {LISTED_CLASSES} of {len(classes):,} with the lowest F1" if hidden > 0 else ""
    yield f"<h3>{html_text(title + listed)}</h3>"
    yield scrollable(title, class_table(record).html())
    if len(classes) <= DRAWN_CLASSES:
        from celltune.search.report.confusion_figure import confusion_heatmap

        seeds = len(record["seeds"])
        summed = f" The counts are sums over {seeds} seeds." if seeds > 1 else ""
        caption = (
            f"Confusion matrix of {name} on the test split; colors are shares of the true class."
            f"{summed}"
        )
        figure = confusion_heatmap(np.array(record["test_confusion"]), classes)
        width = 0 if len(classes) <= 4 else 200 + 36 * len(classes)
        yield FigureBlock(figure, f"Confusion matrix of {name}", caption, min_width=width)


def _matrices(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the confusion matrices of all models as tables, collapsed."""
    if len(records[0]["classes"]) > DRAWN_CLASSES:
        yield paragraphs(
            f"Confusion matrices of more than {DRAWN_CLASSES} classes are not shown; celltune "
            "evaluate writes them with --format json."
        )
        return
    tables = (
        _confusion(record, split)
        for record in records
        for split in ("train", "test")
        if record[f"{split}_confusion"]
    )
    yield collapsed("Confusion matrices of all models as tables", "".join(tables))


def _results_table(records: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = [_result_cells(record) for record in records]
    columns = [Column(title, right=title not in _TEXT_COLUMNS) for title in rows[0]]
    return TextTable(columns, [list(row.values()) for row in rows])


def _result_cells(record: Mapping[str, Any]) -> dict[str, str]:
    accuracy, loss = record["test_accuracy"], record["test_loss"]
    epoch_seconds, document = record["seconds_per_epoch"], record["milliseconds_per_review"]
    return {
        "model": record["name"],
        "accuracy": percent_spread(accuracy["mean"], accuracy["std"]),
        "95 % interval": percent_range(accuracy["low"], accuracy["high"]),
        "trained on": record["on"],
        "seeds": str(len(record["seeds"]) or ""),
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
