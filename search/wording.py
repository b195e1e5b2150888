"""Text for parameters, metrics, percentages, durations and counts: one formatter for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from celltune.printable import printable, quoted
from celltune.search.objective import objective_metric
from celltune.search.types import Metric, ParameterValue, is_wide_only

if TYPE_CHECKING:
    from celltune.models.config import ModelConfig

NAMING = ("cell", "hidden_size", "num_layers", "bidirectional")
"""Hyperparameters that identify the architecture."""

WIDE_ONLY = "the wide part alone"
"""Description of a model that consists of the wide part."""

CROSS_FITTED = "Accuracy on training documents, each by a model that was fitted without it"
"""Description of the training accuracy of the wide part alone."""

_ABBREVIATIONS = {"learning_rate": "lr"}


def describe_params(params: Mapping[str, ParameterValue]) -> str:
    """Summarize hyperparameters in one line: `gru 32x2 bidirectional, dropout 0.1`."""
    if is_wide_only(params):
        return WIDE_ONLY
    remaining = dict(params)
    size = f"{_short(remaining.pop('cell', ''))} {_short(remaining.pop('hidden_size', ''))}".strip()
    layers = remaining.pop("num_layers", None)
    architecture = [
        f"{size}x{layers}" if layers is not None else size,
        "bidirectional" if remaining.pop("bidirectional", False) else "",
    ]
    # The learning rate comes first because a narrow terminal cuts the end of the line.
    first = {name: remaining.pop(name) for name in _ABBREVIATIONS if name in remaining}
    named = {**{_ABBREVIATIONS[name]: value for name, value in first.items()}, **remaining}
    others = (f"{printable(name)} {_short(value)}" for name, value in named.items())
    return ", ".join(filter(None, [" ".join(filter(None, architecture)), *others]))


def describe_architecture(model: ModelConfig) -> str:
    """Describe the architecture of a model: `gru 32x2 bidirectional`."""
    if model.wide == "only":
        return WIDE_ONLY
    return describe_params({name: getattr(model, name) for name in NAMING})


def distinguishing_params(
    params: Mapping[str, ParameterValue], searched: Collection[str]
) -> dict[str, ParameterValue]:
    """Return the hyperparameters that identify the architecture or were searched."""
    if is_wide_only(params):
        return dict(params)
    return {name: value for name, value in params.items() if name in NAMING or name in searched}


def varying_params(trials: Sequence[Mapping[str, ParameterValue]]) -> list[str]:
    """Return the hyperparameters in which trials with a network differ; all of a single trial.

    Args:
        trials: hyperparameters of trials. The wide part alone has no others, so it does not count.
    """
    networks = [params for params in trials if not is_wide_only(params)]
    names = dict.fromkeys(name for params in networks for name in params)
    if len(networks) == 1:
        return list(names)
    return [name for name in names if len({params.get(name) for params in networks}) > 1]


def common_params(trials: Sequence[Mapping[str, ParameterValue]]) -> dict[str, ParameterValue]:
    """Return the hyperparameters that several trials with a network have in common.

    Those that identify the architecture are omitted: they are part of every description.
    """
    networks = [params for params in trials if not is_wide_only(params)]
    if not networks:
        return {}
    omitted = {*NAMING, *varying_params(trials)}
    return {name: value for name, value in networks[0].items() if name not in omitted}


def _short(value: ParameterValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else printable(value)


def metric_text(metric: Metric, value: float | None) -> str:
    """Format the value of a metric: `87.50 %` for an accuracy, `0.3142` for a loss."""
    if value is None:
        return "-"
    is_percent = objective_metric(metric).style == "percent"
    return percent_text(value) if is_percent else loss_text(value)


def metric_range(metric: Metric, low: float, high: float) -> str:
    """Format two values of a metric as a range: `86.10 to 88.90 %`, or `0.3142 to 0.3300`."""
    if objective_metric(metric).style == "percent":
        return percent_range(low, high)
    return f"{loss_text(low)} to {loss_text(high)}"


def loss_text(value: float) -> str:
    """Format a value without a unit: `0.3142`; from a million on `9.156e+29`, to stay narrow."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.3e}"


def percent_text(fraction: float, digits: int | None = 2) -> str:
    """Format a fraction as a percentage: `87.50 %` for 0.875.

    Args:
        fraction: between 0 and 1.
        digits: decimals; None: as few as the value needs.
    """
    return f"{_percent(fraction, digits)} %"


def percent_range(low: float, high: float, digits: int | None = 2) -> str:
    """Format two fractions as a range of percentages: `86.10 to 88.90 %`."""
    return f"{_percent(low, digits)} to {_percent(high, digits)} %"


def percent_spread(mean: float, std: float | None) -> str:
    """Format a mean and its standard deviation as percentages: `87.50 ± 0.42 %`."""
    return percent_text(mean) if std is None else f"{_percent(mean, 2)} ± {_percent(std, 2)} %"


def points_text(difference: float) -> str:
    """Format a difference of two fractions in percentage points: `+1.25 points`."""
    return f"{100 * difference:+.2f} points"


def difference_text(metric: Metric, difference: float) -> str:
    """Format a difference of two values of a metric: `+1.25 points`, or `+0.0125` for a loss."""
    is_percent = objective_metric(metric).style == "percent"
    return points_text(difference) if is_percent else f"{difference:+.4f}"


def points_range(low: float, high: float) -> str:
    """Format a range of differences in percentage points: `-1.25 to +0.50 points`."""
    return f"{100 * low:+.2f} to {points_text(high)}"


def _percent(fraction: float, digits: int | None) -> str:
    return f"{100 * fraction:g}" if digits is None else f"{100 * fraction:.{digits}f}"


def approximate_duration(seconds: float) -> str:
    """Format a duration in rounded units: `0.3 s`, `45 s`, `12 min`, `3.4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


NOT_ABOVE_MAJORITY = "no better than the majority class"
"""Label of a trial that classifies no better than a model which always predicts one class."""

NOT_ABOVE_WIDE = "not better than the wide part beyond noise"
"""Label of a trial that does not improve on the wide part of its model by more than noise."""


def trial_label(beats_majority: bool | None, beats_wide: bool | None) -> str:
    """Return the label of a trial that no one should use; empty for others.

    Args:
        beats_majority: whether the trial is better than always predicting one class; None: unknown.
        beats_wide: whether it is better than the wide part alone; None: unknown.
    """
    labels = {NOT_ABOVE_MAJORITY: beats_majority, NOT_ABOVE_WIDE: beats_wide}
    return "; ".join(label for label, beats in labels.items() if beats is False)


def describe_majority(
    label: str | None, accuracy: float | None, scores: Mapping[Metric, float]
) -> str:
    """Describe the scores of always predicting one class, as a sentence; empty if unknown.

    Args:
        label: the class.
        accuracy: its share of the validation split.
        scores: other metrics by name.
    """
    if label is None or accuracy is None:
        return ""
    others = [f"a {printable(name)} of {metric_text(name, scores[name])}" for name in scores]
    known = listed([f"a validation accuracy of {percent_text(accuracy)}", *others])
    return f"Always predicting the majority class {quoted(label)} has {known}."


def clock_duration(seconds: float) -> str:
    """Format a duration in hours, minutes and seconds: `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """Format a count with its noun: `1 trial`, `2,000 trials`, `0.5 CPUs`.

    Args:
        number: the count.
        noun: the noun in the singular.
        plural: the noun in the plural; None: the singular with an s.
    """
    digits = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{digits} {noun if number == 1 else plural or noun + 's'}"


def listed(texts: Sequence[str], conjunction: str = "and") -> str:
    """Join texts to a list in a sentence: `a, b and c`."""
    *first, last = texts
    return f" {conjunction} ".join(filter(None, [", ".join(first), last]))
