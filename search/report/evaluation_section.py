"""The report's section about the test split."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.markup import Section, paragraphs, scrollable
from celltune.search.results.formats import readable_table
from celltune.search.types import Metric

_NO_SEEDS = "One seed each: how far a trial moves with its seed was not measured."


def on_the_test_split(state: ExperimentState, metric: Metric) -> str:
    """Say in a sentence what validation's best evaluated trial is worth, or that none was."""
    trials = [one for one in summaries(state, metric) if one["kind"] == "trial"]
    if not trials:
        return _NO_SEEDS
    one, accuracy = trials[0], trials[0]["test_accuracy"]
    seeds = len(one["seeds"])
    return (
        f"On the test split, trained anew with {seeds} {'seed' if seeds == 1 else 'seeds'}, trial "
        f"{one['trial']} is right on {100 * accuracy['mean']:.2f} % of {one['reviews']:,} reviews "
        f"(95 % interval {100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f} %)."
    )


def test_split(state: ExperimentState, metric: Metric) -> Section | None:
    """Say what was measured on the test split, with confusion matrices; None before that."""
    found = summaries(state, metric)
    if not found:
        return None
    times = "once" if state.test_reads == 1 else f"{state.test_reads} times"
    parts = [
        paragraphs(
            verdict(state, metric),
            "Each trial was trained anew with every seed; the interval is a 95 % bootstrap over "
            f"reviews and seeds. The test split was read {times} in this experiment's life.",
        ),
        scrollable("Measured on the test split", readable_table(*_test_rows(found)).html()),
    ]
    parts += [
        _confusion(f"{one['name']} ({one['on']}), {part}", one, part)
        for one in found
        for part in ("train", "test")
        if one[f"{part}_confusion"]
    ]
    return "On the test split", "".join(parts)


def _test_rows(found: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    rows = []
    for one in found:
        accuracy, f1, loss = one["test_accuracy"], one["test_f1"], one["test_loss"]
        spread = "" if accuracy["std"] is None else f" ± {100 * accuracy['std']:.2f}"
        rows.append(
            {
                "model": one["name"],
                "learned from": one["on"],
                "seeds": len(one["seeds"]),
                "accuracy": f"{100 * accuracy['mean']:.2f}{spread} %",
                "95 % interval": f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f} %",
                "F1": f"{f1['mean']:.4f}",
                "cross-entropy": None if loss is None else f"{loss['mean']:.4f}",
                "parameters": int(one["parameters"]),
                "s an epoch": one["seconds_per_epoch"],
                "ms a review": one["milliseconds_per_review"],
            }
        )
    return rows, list(rows[0])


def _confusion(title: str, one: Mapping[str, Any], part: str) -> str:
    """A confusion matrix: counts of all seeds together, and the share of each row."""
    classes, counts = one["classes"], one[f"{part}_confusion"]
    rows = []
    for name, row in zip(classes, counts, strict=True):
        told = {
            other: f"{count:,} ({100 * count / max(1, sum(row)):.1f} %)"
            for other, count in zip(classes, row, strict=True)
        }
        rows.append({"truth": name, **told})
    table = readable_table(rows, ["truth", *classes]).html()
    return (
        f"<details><summary>Confusion matrix: {html.escape(title)}</summary>"
        f"{scrollable(html.escape(title, quote=True), table)}</details>"
    )
