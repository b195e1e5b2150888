"""Summaries of the evaluations in a ledger. Pure functions without Ray and torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.search.ensembles.wording import ensemble_title
from celltune.search.errors import ExperimentError
from celltune.search.evaluation.costs import without_unknown_costs
from celltune.search.ledger.evaluations import (
    BaselineReported,
    EnsembleReported,
    Evaluated,
    EvaluationFailed,
    EvaluationReported,
)
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.metrics import (
    Z95,
    ConfusionMetric,
    accuracy,
    balanced_accuracy,
    bootstrap_interval,
    f1,
    macro_f1,
    unpack_outcomes,
)
from celltune.search.objective import BY_ACCURACY, objective_metric
from celltune.search.types import Metric, TrainingSplits
from celltune.search.wording import (
    approximate_duration,
    describe_params,
    distinguishing_params,
    percent_text,
    points_range,
    points_text,
    varying_params,
)

_WITH_INTERVAL: Mapping[str, ConfusionMetric] = {
    "test_accuracy": accuracy,
    "test_f1": f1,
    "test_macro_f1": macro_f1,
    "test_balanced_accuracy": balanced_accuracy,
}
_OF_CONFUSION: Mapping[str, ConfusionMetric] = {
    "f1": f1,
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
}
"""Scores that are computed from the confusion matrices."""
_WITH_STD = (
    "test_ece",
    "test_uncalibrated_ece",
    "test_uncalibrated_loss",
    "test_loss",
    "train_accuracy",
    "train_f1",
    "train_loss",
)
_MEAN_ONLY = (
    "threshold",
    "temperature",
    "seconds_per_epoch",
    "seconds",
    "milliseconds_per_review",
    "parameters",
)

Results = Sequence[EvaluationReported | BaselineReported | EnsembleReported]
"""Results of one model; of a trial, one for each seed."""


def best_ended_trials(state: ExperimentState, metric: Metric, top: int) -> list[TrialRecord]:
    """Return the best trials that were completed or pruned, the best one first.

    Args:
        state: state of the experiment.
        metric: metric that ranks the trials.
        top: maximum number of trials.

    Raises:
        ExperimentError: no trial has ended.
    """
    ended = [trial for trial in state.ranked(metric) if trial.status in ("completed", "pruned")]
    if not ended:
        raise ExperimentError(
            "There is nothing to evaluate: no trial has finished "
            f"({len(state.trials)} started, {state.count('failed')} failed). Resume the "
            "search first."
        )
    return ended[:top]


def summaries(state: ExperimentState, metric: Metric) -> list[dict[str, Any]]:
    """Summarize the results on the test split: one record per model and training data.

    Trials are in the order of their validation metric, so that the order is not biased by the test
    split. The ensemble follows, and baselines in the order of their test accuracy.

    Args:
        state: state of the experiment.
        metric: metric that ranks the trials.

    Returns:
        Records, ready for JSON, with these keys:

        - `kind`: trial, ensemble or baseline; `name`; `params`.
        - `trial`: number of the trial, or None.
        - `on`: splits that the model was trained on, train or train+valid.
        - `seeds`, `failed_seeds`, and `epochs` of the weights (one per seed).
        - `reviews`: number of documents in the test split; `classes`: their names.
        - `test_accuracy`, `test_f1`: {mean, std, low, high}; low and high are the bounds of a 95 %
          bootstrap interval over documents and seeds. F1 is defined by `metrics.f1`.
        - `test_macro_f1`, `test_balanced_accuracy`: the same.
        - `test_auroc`: the same, with two classes; its interval is that of a normal distribution
          with the variance of DeLong et al. (1988), plus that of the mean over seeds. None with
          more classes, and for results of older releases.
        - `test_ece`: {mean, std} of the expected calibration error (`metrics.calibration_error`);
          `test_uncalibrated_ece` and `test_uncalibrated_loss` are those before the division by the
          `temperature`. `threshold` and `temperature` are means. None if there are none.
        - `test_loss`, `train_accuracy`, `train_f1`, `train_loss`: {mean, std}; a loss is None if
          the model gives no probabilities. Those on training documents are cross-fitted for the
          wide part alone: of models that were fitted without the document.
        - `seconds_per_epoch` (of a network of a trial), `seconds` (training),
          `milliseconds_per_review` (classification), `parameters`: means over seeds. Costs contain
          those of the wide part (see `costs`); None if they are unknown.
        - `train_confusion`, `test_confusion`: counts over all seeds, one row per true class.

        std is the sample standard deviation over seeds; None for a single seed.
    """
    trials = [
        _trial_record(state, number, on, events)
        for (number, on), events in _results_by_rank(state, metric)
    ]
    ensembles: list[dict[str, Any]] = []
    if state.ensemble is not None and state.ensemble_scores is not None:
        title = ensemble_title(state.ensemble)
        ensembles.append(_record("ensemble", title, _ensemble_result(state.ensemble_scores)))
    baselines = [_record("baseline", event.name, event) for event in _latest_baselines(state)]
    return [*trials, *ensembles, *sorted(baselines, key=_baseline_order)]


def verdict(state: ExperimentState, metric: Metric) -> str:
    """Return whether the best trial outperforms the best baseline, and whether the ensemble does.

    The best trial is chosen by validation, the best baseline by the test split; this favours the
    baseline. Both have to be trained on the same splits. The conclusion depends on the interval of
    the difference on the same documents, by the metric of the search if it depends on the predicted
    classes only, otherwise by accuracy.

    Args:
        state: state of the experiment.
        metric: metric that ranks the trials.

    Returns:
        The sentences; empty if there is no such pair of models.
    """
    sentences: list[str] = []
    if (pair := _best_trial_and_baseline(state, metric)) is not None:
        number, events, baseline = pair
        sentences.append(_compared("best trial", f"trial {number}", events, baseline, metric))
    ensemble, best = state.ensemble_scores, _best_baseline(state, "train", metric)
    if ensemble is not None and best is not None:
        results = [_ensemble_result(ensemble)]
        sentences.append(_compared("ensemble", "the ensemble", results, best, metric))
    return " ".join(sentences)


def _measure(metric: Metric) -> tuple[str, ConfusionMetric]:
    """Return the name of a score on the test split, and its function, for a metric of a search."""
    load = objective_metric(metric).of_confusion
    if metric in BY_ACCURACY or load is None:
        return "accuracy", accuracy
    return metric.removeprefix("valid_"), load()


def _measured(metric: Metric, event: Evaluated) -> float:
    return float(_measure(metric)[1](np.array(event.test_confusion)))


def _compared(
    kind: str, name: str, events: Results, baseline: BaselineReported, metric: Metric
) -> str:
    """Return a sentence on whether a model outperforms a baseline.

    Args:
        kind: what the model is.
        name: which one it is.
        events: its results.
        baseline: the baseline.
        metric: the metric of the search.
    """
    score, function = _measure(metric)
    outcomes = np.stack([unpack_outcomes(event.test_outcomes) for event in events])
    low, high = bootstrap_interval(
        outcomes,
        len(baseline.classes),
        function,
        baseline=unpack_outcomes(baseline.test_outcomes),
    )
    own = float(np.mean([_measured(metric, event) for event in events]))
    others = _measured(metric, baseline)
    seconds = _over_seeds(np.mean, events, "seconds")
    times = (
        f"; training took {approximate_duration(seconds)} and "
        f"{approximate_duration(baseline.metrics['seconds'])}"
        if seconds is not None
        else ""
    )
    difference = points_text(own - others)
    details = (
        f"{name} has a test {score} of {percent_text(own)}, {baseline.name} "
        f"one of {percent_text(others)} (difference {difference}, 95 % interval "
        f"{points_range(low, high)}{times})."
    )
    if low > 0:
        return f"The {kind} is better than the baselines: {details}"
    if high < 0:
        return f"A baseline was better than the {kind}: {details}"
    if own < others:
        return f"A baseline was better than the {kind}, but not clearly: {details}"
    return f"The {kind} is not clearly better than the baselines: {details}"


def _results_by_rank(
    state: ExperimentState, metric: Metric
) -> list[tuple[tuple[int, TrainingSplits], list[EvaluationReported]]]:
    """Return the results of each (trial, training data), ordered by the trials' rank."""
    groups: dict[tuple[int, TrainingSplits], list[EvaluationReported]] = {}
    for event in state.evaluations:
        if isinstance(event, EvaluationReported):
            known = without_unknown_costs(event, [state.trials[event.number].params])
            groups.setdefault((event.number, event.on), []).append(known)
    ranks = {trial.number: rank for rank, trial in enumerate(state.ranked(metric))}
    return sorted(groups.items(), key=lambda group: (ranks[group[0][0]], group[0][1]))


def _ensemble_result(event: EnsembleReported) -> EnsembleReported:
    return without_unknown_costs(event, [member.params for member in event.members])


def _latest_baselines(state: ExperimentState) -> list[BaselineReported]:
    return list({(event.name, event.on): event for event in state.baselines}.values())


def _best_trial_and_baseline(
    state: ExperimentState, metric: Metric
) -> tuple[int, list[EvaluationReported], BaselineReported] | None:
    for (number, on), events in _results_by_rank(state, metric):
        if (best := _best_baseline(state, on, metric)) is not None:
            return number, events, best
    return None


def _best_baseline(
    state: ExperimentState, on: TrainingSplits, metric: Metric
) -> BaselineReported | None:
    baselines = (event for event in _latest_baselines(state) if event.on == on)
    return max(baselines, key=partial(_measured, metric), default=None)


def _trial_record(
    state: ExperimentState, number: int, on: TrainingSplits, events: list[EvaluationReported]
) -> dict[str, Any]:
    seeds = [event.seed for event in events]
    failed = {
        event.seed
        for event in state.evaluations
        if isinstance(event, EvaluationFailed) and (event.number, event.on) == (number, on)
    }
    params = state.trials[number].params
    varying = varying_params([trial.params for trial in state.trials])
    return {
        "kind": "trial",
        "trial": number,
        "name": f"trial {number}: {describe_params(distinguishing_params(params, varying))}",
        "params": dict(params),
        "on": on,
        "seeds": seeds,
        "failed_seeds": sorted(failed - set(seeds)),
        "epochs": [event.epoch for event in events],
        **_score_fields(events),
    }


def _record(kind: str, name: str, event: BaselineReported | EnsembleReported) -> dict[str, Any]:
    return {
        "kind": kind,
        "trial": None,
        "name": name,
        "params": {},
        "on": event.on,
        "seeds": [],
        "failed_seeds": [],
        "epochs": [],
        **_score_fields([event]),
    }


def _score_fields(results: Results) -> dict[str, Any]:
    """Return the fields that the records of trials and of baselines have in common."""
    classes = results[0].classes
    outcomes = np.stack([unpack_outcomes(event.test_outcomes) for event in results])
    fields: dict[str, Any] = {"reviews": outcomes.shape[1], "classes": list(classes)}
    for name, metric in _WITH_INTERVAL.items():
        low, high = bootstrap_interval(outcomes, len(classes), metric)
        fields[name] = {**(_mean_and_std(results, name) or {}), "low": low, "high": high}
    fields["test_auroc"] = _auroc_with_interval(results)
    fields.update({name: _mean_and_std(results, name) for name in _WITH_STD})
    fields.update({name: _over_seeds(np.mean, results, name) for name in _MEAN_ONLY})
    for name in ("train_confusion", "test_confusion"):
        fields[name] = np.sum([getattr(event, name) for event in results], axis=0).tolist()
    return fields


def _auroc_with_interval(results: Results) -> dict[str, float | None] | None:
    summary = _mean_and_std(results, "test_auroc")
    if summary is None or summary["mean"] is None:
        return None
    # The documents are the same for all seeds, so a mean over seeds does not reduce their part.
    variance = _over_seeds(lambda errors: np.mean(errors**2), results, "test_auroc_error") or 0.0
    variance += (summary["std"] or 0.0) ** 2 / len(results)
    half = Z95 * math.sqrt(variance)
    mean = summary["mean"]
    return {**summary, "low": max(0.0, mean - half), "high": min(1.0, mean + half)}


def _mean_and_std(results: Results, name: str) -> dict[str, float | None] | None:
    mean = _over_seeds(np.mean, results, name)
    if mean is None:
        return None
    return {"mean": mean, "std": _over_seeds(_sample_std, results, name)}


def _sample_std(values: NDArray[np.float64]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _over_seeds(
    statistic: Callable[[NDArray[np.float64]], Any], results: Results, name: str
) -> float | None:
    values = _values(results, name)
    value = statistic(np.array(values)) if values else None
    return None if value is None else float(value)


def _values(results: Results, name: str) -> list[float]:
    split, _, kind = name.partition("_")
    if (metric := _OF_CONFUSION.get(kind)) is not None:
        # Older releases stored F1 by another definition, and did not store the others.
        return [float(metric(np.array(getattr(event, f"{split}_confusion")))) for event in results]
    return [event.metrics[name] for event in results if name in event.metrics]


def _baseline_order(record: Mapping[str, Any]) -> tuple[float, str, str]:
    return (-record["test_accuracy"]["mean"], record["on"], record["name"])
