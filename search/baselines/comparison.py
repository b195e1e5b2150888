"""Compares the best trial of a search with its linear models on the validation split.

The linear models of a search are its baselines and, if its data has one, the wide part alone. The
comparison is by the metric of the search or, if that is the loss or is not known of the linear
models, by accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.metrics import difference_error
from celltune.search.objective import BY_ACCURACY, sign
from celltune.search.types import Metric, is_wide_only
from celltune.search.wording import (
    WIDE_ONLY,
    counted,
    difference_text,
    metric_text,
    points_text,
)

_ACCURACY = "valid_accuracy"


@dataclass(frozen=True)
class LinearScore:
    """A linear model of a search, and its score on the validation split."""

    name: str
    """Name of a baseline, or `WIDE_ONLY`."""
    value: float
    metric: Metric = _ACCURACY
    """The metric that `value` is of."""

    @property
    def title(self) -> str:
        """The name as a part of a list."""
        return self.name if self.name == WIDE_ONLY else f"baseline {self.name}"


@dataclass(frozen=True)
class Comparison:
    """A model and the best linear model on the same validation documents."""

    value: float
    """Score of the model by the metric of `linear`."""
    linear: LinearScore
    """The best linear model; the best baseline if the model is itself the wide part alone."""
    documents: int | None
    """Number of documents in the validation split; None if it was not recorded."""
    is_wide_only: bool = False
    """Whether the model is the wide part alone."""

    @property
    def difference(self) -> float:
        """How much better the model is than the linear model."""
        return sign(self.linear.metric) * (self.value - self.linear.value)

    @property
    def standard_error(self) -> float | None:
        """Binomial standard error of the difference of two accuracies.

        None for other metrics, and if the documents were not counted.
        """
        if not self.documents or self.linear.metric != _ACCURACY:
            return None
        return difference_error(self.value, self.linear.value, self.documents)

    @property
    def linear_wins(self) -> bool:
        """Whether the linear model is better, by however little."""
        return self.difference < 0

    def sentence(self, subject: str) -> str:
        """Return the result as a sentence.

        Args:
            subject: the model, such as "The best trial".
        """
        if self.is_wide_only:
            return f"{_wide_only_clause(subject)}; {self.clause('it')}."
        return f"{self.clause(subject)}."

    def clause(self, subject: str) -> str:
        """Return the result as a clause, which does not say what the model is."""
        kind = "baseline" if self.is_wide_only else "linear model"
        metric, score = self.linear.metric, metric_text(self.linear.metric, self.linear.value)
        named = score if metric == _ACCURACY else f"{metric} {score}"
        against = f"the best {kind} ({self.linear.name}, {named})"
        where = f" on {counted(self.documents, 'validation document')}" if self.documents else ""
        if self.difference == 0:
            return f"{subject} is as good as {against}{where}"
        word = "worse" if self.linear_wins else "better"
        points = difference_text(metric, abs(self.difference)).removeprefix("+")
        result = f"{subject} is {points} {word} than {against}{where}"
        error = self.standard_error
        return result if error is None else f"{result}; {noise_text(self.difference, error)}"


def _wide_only_clause(subject: str) -> str:
    return f"{subject} is {WIDE_ONLY}, a linear model"


def noise_text(difference: float, error: float) -> str:
    """Return how a difference of accuracies compares with its standard error, as a clause.

    Args:
        difference: of two accuracies on the same documents.
        error: its standard error as if they were independent, which is rather too large.
    """
    larger = "larger" if abs(difference) > error else "not larger"
    points = points_text(error).removeprefix("+")
    return f"the difference is {larger} than its standard error (about {points})"


def best_linear_model(
    state: ExperimentState, metric: Metric, *, baselines_only: bool = False
) -> LinearScore | None:
    """Return the best linear model by `compared_metric`; None if none was measured.

    Args:
        state: state of the experiment.
        metric: the metric of the search.
        baselines_only: whether to leave out the wide part alone.
    """
    by = compared_metric(state, metric)
    known = {event.name: event.score(by) for event in state.validated.values()}
    scores = [LinearScore(name, value, by) for name, value in known.items() if value is not None]
    wide = None if baselines_only else wide_score(state, by)
    if wide is not None:
        scores.insert(0, LinearScore(WIDE_ONLY, wide, by))
    return max(scores, key=lambda score: sign(by) * score.value, default=None)


def compared_metric(state: ExperimentState, metric: Metric) -> Metric:
    """Return the metric by which the trials of a search are compared with simpler models.

    Args:
        state: state of the experiment.
        metric: the metric of the search.
    """
    if metric in BY_ACCURACY:
        return _ACCURACY
    unknown = any(event.score(metric) is None for event in state.validated.values())
    return _ACCURACY if unknown else metric


def wide_score(state: ExperimentState, metric: Metric) -> float | None:
    """Return the validation score of the wide part alone; None if there is none or unknown."""
    measured = (
        epoch.metrics.get(metric)
        for trial in state.trials
        if is_wide_only(trial.params)
        for epoch in trial.epochs
    )
    recorded = state.created.wide_accuracy if state.created and metric == _ACCURACY else None
    return next(measured, recorded)


def compare_trial(
    state: ExperimentState, trial: TrialRecord | None, metric: Metric
) -> Comparison | None:
    """Compare the best epoch of a trial with the best linear model.

    Args:
        state: state of the experiment.
        trial: the trial, if there is one.
        metric: metric that chooses the epoch.

    Returns:
        None if there is no epoch, its score is unknown, or no other linear model was measured.
    """
    epoch = trial.best(metric) if trial else None
    value = epoch.metrics.get(compared_metric(state, metric)) if epoch else None
    if trial is None or value is None:
        return None
    return compare_score(state, value, metric, is_wide=is_wide_only(trial.params))


def compare_score(
    state: ExperimentState, value: float, metric: Metric, *, is_wide: bool
) -> Comparison | None:
    """Compare a model with the best linear model other than itself; None if there is none.

    Args:
        state: state of the experiment.
        value: score of the model by `compared_metric`.
        metric: the metric of the search.
        is_wide: whether the model is the wide part alone.
    """
    linear = best_linear_model(state, metric, baselines_only=is_wide)
    documents = state.created.valid_reviews if state.created else None
    return Comparison(value, linear, documents, is_wide) if linear else None


def verdict_sentence(state: ExperimentState, metric: Metric) -> str:
    """Return whether the best trial is better than the linear models; empty if it is unknown."""
    best = _best_trial(state, metric)
    is_wide = best is not None and is_wide_only(best.params)
    comparison = compare_trial(state, best, metric)
    if comparison is None:
        return f"{_wide_only_clause('The best model')}." if is_wide else ""
    return comparison.sentence("The best model" if is_wide else "The best trial")


def _best_trial(state: ExperimentState, metric: Metric) -> TrialRecord | None:
    return next(iter(state.ranked(metric)), None)


@dataclass(frozen=True)
class Advice:
    """What to do if a linear model is better than the best trial."""

    text: str
    """In sentences."""
    can_export: bool
    """Whether the wide part alone is better than the best trial, and can be exported instead."""


def next_step(config: SearchConfig, state: ExperimentState) -> Advice | None:
    """Return what to do if a linear model is better than the best trial; None if none is."""
    best = _best_trial(state, config.metric)
    comparison = compare_trial(state, best, config.metric)
    if best is None or comparison is None or not comparison.linear_wins:
        return None
    by = comparison.linear.metric
    wide = wide_score(state, by)
    can_export = (
        wide is not None
        and not comparison.is_wide_only
        and sign(by) * wide > sign(by) * comparison.value
    )
    return Advice(" ".join(_advice(config, state, best, comparison, can_export)), can_export)


def _advice(
    config: SearchConfig,
    state: ExperimentState,
    best: TrialRecord,
    comparison: Comparison,
    can_export: bool,
) -> Iterator[str]:
    if comparison.linear.name != WIDE_ONLY:
        yield f"The baseline {comparison.linear.name} cannot be exported."
    if can_export and state.beats_wide(best, config.metric):
        yield (
            f"By {config.metric}, which ranks the trials, the best trial is better than "
            f"{WIDE_ONLY}; by accuracy, {WIDE_ONLY} is better, and can be exported."
        )
    elif can_export:
        yield (
            f"Of the models that can be exported, {WIDE_ONLY} is the better choice, unless a "
            "search with more trials beats it."
        )
    elif config.data.wide is None:
        yield (
            "To start from a linear model, set data.wide to true and space.wide to add in a new "
            "search."
        )
    else:
        yield "More trials or more training documents may give a better model."


def standing(state: ExperimentState, metric: Metric, width: int = 200) -> str:
    """Return the scores of the best trial and of what it has to beat, in one line.

    Args:
        state: state of the experiment.
        metric: metric that chooses the best trial.
        width: available characters; the kind of linear model is left out if there are too few.

    Returns:
        For example `accuracy: best trial 87.50 %, baseline nb_svm 86.40 %, majority 50.10 %`; what
        is unknown is left out. Empty if only the best trial is known. By another metric than
        accuracy, the line begins with its name.
    """
    by = compared_metric(state, metric)
    title = "accuracy" if by == _ACCURACY else by
    trial = _best_trial(state, metric)
    best = trial.best(metric) if trial else None
    is_wide = trial is not None and is_wide_only(trial.params)
    linear = best_linear_model(state, metric, baselines_only=is_wide)
    values = (
        best.metrics.get(by) if best else None,
        linear.value if linear else None,
        state.created.majority_score(by) if state.created else None,
    )
    if values[1:] == (None, None):
        return ""
    best_name = WIDE_ONLY.removeprefix("the ") if is_wide else "best trial"
    kind = linear.title if linear else ""
    for names in ((best_name, kind), (best_name, "baseline"), ("best", "linear")):
        parts = (
            f"{name} {metric_text(by, value)}"
            for name, value in zip((*names, "majority"), values, strict=True)
            if value is not None
        )
        sentence = f"{title}: {', '.join(parts)}"
        if len(sentence) <= width:
            break
    return sentence
