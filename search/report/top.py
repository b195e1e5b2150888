"""The top of the report: the most important numbers, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from celltune.search.baselines.comparison import best_linear_model, compared_metric
from celltune.search.escaping import html_text
from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger.state import ExperimentState
from celltune.search.metrics import wilson
from celltune.search.report.evaluation_section import evaluation_sentence
from celltune.search.report.markup import collapsed, paragraphs
from celltune.search.results.ranking import (
    Row,
    context_sentences,
    losses_sentence,
    passed_over_sentence,
    ranking_of,
)
from celltune.search.storage.snapshot import Snapshot
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import Metric
from celltune.search.wording import (
    counted,
    describe_params,
    distinguishing_params,
    metric_text,
    percent_range,
    percent_text,
)


class Tile(NamedTuple):
    """A number at the top of the page."""

    label: str
    value: str
    note: str = ""


def top(snapshot: Snapshot) -> str:
    """Return the numbers and sentences at the top of the page, as HTML.

    The test accuracy comes first: it is the only one that is not biased by the search.
    """
    return _tiles_html(tiles(snapshot)) + _sentences(snapshot)


def tiles(snapshot: Snapshot) -> list[Tile]:
    """Return the numbers at the top of the page."""
    state, metric = snapshot.state, snapshot.config.metric
    tested = _tested(summaries(state, metric))
    shown = [*tested] if tested else _not_tested(snapshot)
    shown += _validated(snapshot)
    if not any(tile.label == "best baseline" for tile in tested):
        shown += _linear(state, metric)
    by = compared_metric(state, metric)
    majority = state.created.majority_score(by) if state.created else None
    if majority is not None:
        shown.append(Tile("majority class", metric_text(by, majority), f"by {_metric_name(by)}"))
    return [*shown, _trials(snapshot)]


def _tested(records: Sequence[Mapping[str, Any]]) -> list[Tile]:
    """Return the test accuracy of the best trial, and the best one of the baselines."""
    trials = [record for record in records if record["kind"] == "trial"]
    if not trials:
        return []
    best, accuracy = trials[0], trials[0]["test_accuracy"]
    interval = percent_range(accuracy["low"], accuracy["high"], 1)
    shown = [
        Tile(
            "test accuracy",
            percent_text(accuracy["mean"]),
            f"trial {best['trial']}, 95 % interval {interval}",
        )
    ]
    baselines = [record for record in records if record["kind"] == "baseline"]
    if baselines:
        linear = max(baselines, key=lambda record: record["test_accuracy"]["mean"])
        value = percent_text(linear["test_accuracy"]["mean"])
        shown.append(Tile("best baseline", value, f"{linear['name']}, test accuracy"))
    return shown


def _not_tested(snapshot: Snapshot) -> list[Tile]:
    if not snapshot.state.ranked(snapshot.config.metric):
        return []
    return [Tile("test accuracy", "-", f"not measured: celltune evaluate {snapshot.name}")]


def _validated(snapshot: Snapshot) -> Iterator[Tile]:
    """Yield the best trial's value of the metric, and its accuracy."""
    state, metric = snapshot.state, snapshot.config.metric
    best = next(iter(state.ranked(metric)), None)
    epoch = best.best(metric) if best else None
    if best is None or epoch is None:
        return
    for name in dict.fromkeys(("valid_accuracy", metric)):
        if name in epoch.metrics:
            value = metric_text(name, epoch.metrics[name])
            yield Tile(_metric_name(name), value, f"best trial ({best.number})")


def _linear(state: ExperimentState, metric: Metric) -> Iterator[Tile]:
    linear = best_linear_model(state, metric)
    if linear is not None:
        value = metric_text(linear.metric, linear.value)
        yield Tile("best linear model", value, f"{linear.name}, {_metric_name(linear.metric)}")


def _trials(snapshot: Snapshot) -> Tile:
    state = snapshot.state
    counts = {
        "completed": state.count("completed"),
        "pruned": state.count("pruned"),
        "failed": state.count("failed"),
        "running" if snapshot.running else "unfinished": state.count("unfinished"),
    }
    planned = planned_trials(snapshot.config, state)
    note = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number)
    return Tile("trials", f"{len(state.trials):,} of {planned:,}", note)


def _tiles_html(shown: Sequence[Tile]) -> str:
    items = "".join(
        f"<li><span>{html_text(tile.label)}</span><strong>{html_text(tile.value)}</strong>"
        f"<span>{html_text(tile.note)}</span></li>"
        for tile in shown
    )
    return f'<ul class="facts">{items}</ul>'


def _sentences(snapshot: Snapshot) -> str:
    """Return the best trial and the uncertainty of its result, as HTML."""
    state, metric = snapshot.state, snapshot.config.metric
    ranked = state.ranked(metric)
    lost = losses_sentence(state)
    if not ranked:
        failed = state.count("failed")
        note = f"{counted(failed, 'trial')} failed." if failed else ""
        text = f"No trial has finished an epoch yet, so there is no result. {note}"
        return paragraphs(text, *filter(None, [lost]))
    best = ranked[0]
    best_epoch = best.best(metric)
    params = describe_params(distinguishing_params(best.params, snapshot.config.varied))
    lead = (
        f"The best of {counted(len(state.trials), 'trial')} is trial {best.number}: "
        f"{_metric_name(metric)} {metric_text(metric, best.best_value(metric))} after epoch "
        f"{best_epoch.epoch if best_epoch else 0} ({params})."
    )
    rows = ranking_of(snapshot.config, state, running=snapshot.running)
    # Of an evaluated search, the comparison on the test split counts.
    tested = verdict(state, metric) if summaries(state, metric) else ""
    context = context_sentences(state, metric)
    first = [tested] if tested else context
    others = [*(context if tested else ()), *_uncertainty(snapshot, rows)]
    text = paragraphs(lead, *first, *filter(None, [lost]), lead=True)
    return text + collapsed("How certain is this result?", paragraphs(*others))


def _metric_name(metric: Metric) -> str:
    return metric.replace("valid_", "validation ", 1).replace("_", " ")


def _uncertainty(snapshot: Snapshot, rows: Sequence[Row]) -> list[str]:
    """Return sentences about the uncertainty of the best trial's result."""
    state, metric = snapshot.state, snapshot.config.metric
    ranked = len(state.ranked(metric))
    sentences = []
    tied = sum(row["rank"] == 1 for row in rows) - 1
    if tied:
        others = "Another trial" if tied == 1 else f"{tied} other trials"
        sentences.append(f"{others} reached the same value; the first of them is listed first.")
    if rows[0]["note"]:
        sentences.append(f"The trial is {rows[0]['note']}.")
    sentences.append(passed_over_sentence(state, metric))
    sentences.append(_confidence(snapshot.state, rows))
    if ranked > 1:
        sentences.append(
            f"The trial was selected as the best of {ranked:,} trials and of all their epochs on "
            "the same validation split, so this value is biased upwards. Expect a lower one on new "
            "documents. Only an evaluation on the test split gives an unbiased estimate."
        )
    sentences.append(evaluation_sentence(state, metric))
    return [sentence for sentence in sentences if sentence]


def _confidence(state: ExperimentState, rows: Sequence[Row]) -> str:
    """Return the confidence interval of the best trial's accuracy as a sentence."""
    accuracy = rows[0]["valid_accuracy"]
    documents = state.created.valid_reviews if state.created else None
    if accuracy is None:
        return ""
    if not documents:
        return (
            "The accuracy has no confidence interval, because the ledger of this experiment does "
            "not contain the size of the validation split."
        )
    low, high = wilson(accuracy, documents)
    others = [row["valid_accuracy"] for row in rows[1:] if row["rank"] is not None]
    inside = sum(low <= value <= high for value in others)
    return (
        f"The accuracy of {percent_text(accuracy)} was measured on {documents:,} validation "
        f"documents. Its 95 % confidence interval (Wilson) is {percent_range(low, high, 1)}. "
        f"{inside or 'No'} other {'trial lies' if inside <= 1 else 'trials lie'} in this interval."
    )
