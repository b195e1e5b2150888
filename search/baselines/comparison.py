"""Compares the best trial of a search with its baselines on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import BaselineValidated, EpochReported
from celltune.search.ledger.state import ExperimentState
from celltune.search.metrics import difference_error
from celltune.search.types import Metric
from celltune.search.wording import counted, percent_text, points_text


@dataclass(frozen=True)
class Comparison:
    """A model and the best baseline on the same validation documents."""

    accuracy: float
    """Validation accuracy of the model."""
    baseline: BaselineValidated
    documents: int | None
    """Number of documents in the validation split; None if it was not recorded."""

    @property
    def difference(self) -> float:
        """Accuracy of the model minus that of the baseline."""
        return self.accuracy - self.baseline.valid_accuracy

    @property
    def standard_error(self) -> float | None:
        """Binomial standard error of the difference; None if the documents were not counted."""
        if not self.documents:
            return None
        return difference_error(self.accuracy, self.baseline.valid_accuracy, self.documents)

    @property
    def baseline_wins(self) -> bool:
        """Whether the baseline has the higher accuracy, by however little."""
        return self.difference < 0

    def sentence(self, subject: str) -> str:
        """Return the result as a sentence.

        Args:
            subject: the model, such as "The best trial".
        """
        percent = percent_text(self.baseline.valid_accuracy)
        against = f"the best linear baseline ({self.baseline.name}, {percent})"
        where = f" on {counted(self.documents, 'validation document')}" if self.documents else ""
        if self.difference == 0:
            return f"{subject} is as good as {against}{where}."
        word = "worse" if self.baseline_wins else "better"
        points = points_text(abs(self.difference)).removeprefix("+")
        result = f"{subject} is {points} {word} than {against}{where}"
        error = self.standard_error
        return f"{result}." if error is None else f"{result}; {noise_text(self.difference, error)}."


def noise_text(difference: float, error: float) -> str:
    """Return how a difference of accuracies compares with its standard error, as a clause."""
    larger = "larger" if abs(difference) > error else "not larger"
    points = points_text(error).removeprefix("+")
    return f"the difference is {larger} than its standard error ({points})"


def best_baseline(state: ExperimentState) -> BaselineValidated | None:
    """Return the baseline with the highest validation accuracy; None if none was measured."""
    return max(state.validated.values(), key=lambda event: event.valid_accuracy, default=None)


def compare_epoch(state: ExperimentState, epoch: EpochReported | None) -> Comparison | None:
    """Compare an epoch of a trial with the best baseline.

    Returns:
        None if there is no epoch, its accuracy is unknown, or no baseline was measured.
    """
    baseline = best_baseline(state)
    accuracy = epoch.metrics.get("valid_accuracy") if epoch else None
    if baseline is None or accuracy is None:
        return None
    documents = state.created.valid_reviews if state.created else None
    return Comparison(accuracy, baseline, documents)


def compare_best_trial(state: ExperimentState, metric: Metric) -> Comparison | None:
    """Compare the best trial by a metric with the best baseline (see `compare_epoch`)."""
    ranked = state.ranked(metric)
    return compare_epoch(state, ranked[0].best(metric)) if ranked else None


def verdict_sentence(state: ExperimentState, metric: Metric) -> str:
    """Return whether the best trial is better than the best baseline; empty if it is unknown."""
    comparison = compare_best_trial(state, metric)
    return comparison.sentence("The best trial") if comparison else ""


def next_step(config: SearchConfig, state: ExperimentState) -> str:
    """Return what to try if the best baseline is better than the best trial; empty if it is not."""
    comparison = compare_best_trial(state, config.metric)
    if comparison is None or not comparison.baseline_wins:
        return ""
    if config.data.wide is None:
        return (
            "To start from a linear model, set data.wide to true and space.wide to add in a new "
            "search."
        )
    return "The linear model is the better choice, unless a search with more trials beats it."


def standing(state: ExperimentState, metric: Metric) -> str:
    """Return the accuracies of the best trial and of what it has to beat, in one line.

    Args:
        state: state of the experiment.
        metric: metric that chooses the best trial.

    Returns:
        For example `validation accuracy: best trial 87.50 %, baseline nb_svm 86.40 %, majority
        class 50.10 %`; what is unknown is left out. Empty if only the best trial is known.
    """
    ranked = state.ranked(metric)
    best = ranked[0].best(metric) if ranked else None
    baseline = best_baseline(state)
    known = {
        "best trial": best.metrics.get("valid_accuracy") if best else None,
        f"baseline {baseline.name}" if baseline else "": (
            baseline.valid_accuracy if baseline else None
        ),
        "majority class": state.created.majority_accuracy if state.created else None,
    }
    parts = [f"{name} {percent_text(value)}" for name, value in known.items() if value is not None]
    if not parts or list(known.values())[1:] == [None, None]:
        return ""
    return f"validation accuracy: {', '.join(parts)}"
