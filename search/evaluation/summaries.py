"""What evaluations came to: from a ledger's state to plain records and words.

Pure: knows neither Ray nor torch. What measures and writes is `search.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.search.errors import ExperimentError
from celltune.search.evaluation.metrics import Measure, accuracy, f1, interval, unpack
from celltune.search.ledger.events import BaselineReported, EvaluationFailed, EvaluationReported
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import Metric
from celltune.search.wording import describe_params, percent_text, points_text

_BOUNDED: Mapping[str, Measure] = {"test_accuracy": accuracy, "test_f1": f1}
_SPREAD = ("test_loss", "train_accuracy", "train_f1", "train_loss")
_MEAN = ("seconds_per_epoch", "seconds", "milliseconds_per_review", "parameters")

Measures = Sequence[EvaluationReported] | Sequence[BaselineReported]


def leaders(state: ExperimentState, metric: Metric, top: int) -> list[TrialRecord]:
    """The best trials that ended, completed or stopped early, with an epoch.

    Args:
        state: of the experiment.
        metric: what ranks.
        top: how many at most.

    Raises:
        ExperimentError: there is none.
    """
    ended = [trial for trial in state.ranked(metric) if trial.status in ("completed", "pruned")]
    if not ended:
        failed = state.count("failed")
        raise ExperimentError(
            f"There is nothing to evaluate: none of the {len(state.trials)} trials has finished "
            f"({failed} failed). Let the search go on with celltune resume, or look at "
            "celltune status."
        )
    return ended[:top]


def summaries(state: ExperimentState, metric: Metric) -> list[dict[str, Any]]:
    """What was measured on the test split, one record for each trial or baseline and `on`.

    A record holds: `kind` (trial or baseline), `trial` (its number, or None), `name`, `params`,
    `on` (train or train+valid), `seeds`, `failed_seeds`, `epochs` (of the weights, one a seed),
    `reviews` (of the test split), `classes`; `test_accuracy` and `test_f1` as
    {mean, std, low, high}, where low and high are the ends of a 95 % bootstrap interval over
    reviews and seeds; `test_loss`, `train_accuracy`, `train_f1` and `train_loss` as {mean, std},
    None where the model gives no probabilities; the means `seconds_per_epoch` (None for a
    baseline), `seconds` (of training), `milliseconds_per_review` (to classify) and `parameters`;
    `train_confusion` and `test_confusion`, rows the truth, counts of all seeds together. std is
    that of a sample (None of one seed).

    Args:
        state: of the experiment.
        metric: what the search was decided by.

    Returns:
        Trials as validation ranked them, so that none leads because the test split flatters it;
        then baselines by test accuracy, the best first. F1 is that of class 1, or the mean over
        more than two classes.
    """
    measured = _measured(state, metric)
    found = [_trial_record(state, number, on, events) for (number, on), events in measured]
    linear = [_baseline_record(event) for event in _latest_baselines(state)]
    return [*found, *sorted(linear, key=_order)]


def verdict(state: ExperimentState, metric: Metric) -> str:
    """Say in words whether the leader is worth it beside the best baseline.

    The leader is validation's, among the trials that were measured; the baseline is the one that is
    best on the test split, the harder to beat. Judged by the interval of the difference, on the
    same reviews; empty where one of the two is missing, or where they learned from different parts.

    Args:
        state: of the experiment.
        metric: what the search was decided by.
    """
    compared = _compared(state, metric)
    if compared is None:
        return ""
    (number, events), linear = compared
    found = np.stack([unpack(event.test_outcomes) for event in events])
    against = unpack(linear.test_outcomes)
    low, high = interval(found, len(linear.classes), accuracy, against=against)
    mine = float(np.mean([event.metrics["test_accuracy"] for event in events]))
    theirs = linear.metrics["test_accuracy"]
    seconds = float(np.mean([event.metrics["seconds"] for event in events]))
    facts = (
        f"trial {number} is right on {percent_text(mine)} of the test reviews, {linear.name} on "
        f"{percent_text(theirs)} (difference {points_text(mine - theirs)}, 95 % interval "
        f"{points_text(low)} to {points_text(high)}; trained in {seconds:,.0f} s and "
        f"{linear.metrics['seconds']:,.0f} s)."
    )
    if low > 0:
        return f"The recurrent model is the better one: {facts}"
    if high < 0:
        return f"A recurrent model isn't worth it here: {facts}"
    return f"The recurrent model isn't clearly better than counting words: {facts}"


def _measured(
    state: ExperimentState, metric: Metric
) -> list[tuple[tuple[int, str], list[EvaluationReported]]]:
    """What was measured of each trial and `on`, as validation ranked the trials."""
    groups: dict[tuple[int, str], list[EvaluationReported]] = {}
    for event in state.evaluations:
        if isinstance(event, EvaluationReported):
            groups.setdefault((event.number, event.on), []).append(event)
    places = {trial.number: place for place, trial in enumerate(state.ranked(metric))}
    return sorted(groups.items(), key=lambda group: (places[group[0][0]], group[0][1]))


def _latest_baselines(state: ExperimentState) -> list[BaselineReported]:
    return list({(event.name, event.on): event for event in state.baselines}.values())


def _compared(
    state: ExperimentState, metric: Metric
) -> tuple[tuple[int, list[EvaluationReported]], BaselineReported] | None:
    for (number, on), events in _measured(state, metric):
        alike = [linear for linear in _latest_baselines(state) if linear.on == on]
        if alike:
            return (number, events), max(alike, key=lambda one: one.metrics["test_accuracy"])
    return None


def _trial_record(
    state: ExperimentState, number: int, on: str, events: list[EvaluationReported]
) -> dict[str, Any]:
    seeds = [event.seed for event in events]
    failed = {
        event.seed
        for event in state.evaluations
        if isinstance(event, EvaluationFailed) and (event.number, event.on) == (number, on)
    }
    params = state.trials[number].params
    return {
        "kind": "trial",
        "trial": number,
        "name": f"trial {number}: {describe_params(params)}",
        "params": dict(params),
        "on": on,
        "seeds": seeds,
        "failed_seeds": sorted(failed - set(seeds)),
        "epochs": [event.epoch for event in events],
        **_shared(events),
    }


def _baseline_record(event: BaselineReported) -> dict[str, Any]:
    return {
        "kind": "baseline",
        "trial": None,
        "name": event.name,
        "params": {},
        "on": event.on,
        "seeds": [],
        "failed_seeds": [],
        "epochs": [],
        **_shared([event]),
    }


def _shared(events: Measures) -> dict[str, Any]:
    classes = events[0].classes
    found = np.stack([unpack(event.test_outcomes) for event in events])
    record: dict[str, Any] = {"reviews": found.shape[1], "classes": list(classes)}
    for name, measure in _BOUNDED.items():
        low, high = interval(found, len(classes), measure)
        record[name] = {**(_spread(events, name) or {}), "low": low, "high": high}
    record.update({name: _spread(events, name) for name in _SPREAD})
    record.update({name: _over_seeds(np.mean, events, name) for name in _MEAN})
    for name in ("train_confusion", "test_confusion"):
        record[name] = np.sum([getattr(event, name) for event in events], axis=0).tolist()
    return record


def _spread(events: Measures, name: str) -> dict[str, float | None] | None:
    mean = _over_seeds(np.mean, events, name)
    if mean is None:
        return None
    alone = len(events) == 1
    return {"mean": mean, "std": None if alone else _over_seeds(_sample_std, events, name)}


def _sample_std(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1))


def _over_seeds(
    summed_up: Callable[[NDArray[np.float64]], Any], events: Measures, name: str
) -> float | None:
    values = [event.metrics[name] for event in events if name in event.metrics]
    return float(summed_up(np.array(values))) if values else None


def _order(record: Mapping[str, Any]) -> tuple[float, str, str]:
    return (-record["test_accuracy"]["mean"], record["on"], record["name"])
