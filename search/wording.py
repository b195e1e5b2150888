"""Parameters and metrics in words, for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from celltune.search.types import Metric, ParameterValue

_SHORT = {"learning_rate": "lr"}


def describe_params(params: Mapping[str, ParameterValue]) -> str:
    """Sum up a trial's parameters in a few words: `gru 32x2 bidirectional, dropout 0.1`."""
    rest = dict(params)
    size = f"{rest.pop('cell', '')} {rest.pop('hidden_size', '')}".strip()
    layers = rest.pop("num_layers", None)
    words = [
        f"{size}x{layers}" if layers is not None else size,
        "bidirectional" if rest.pop("bidirectional", False) else "",
    ]
    # What is looked for first comes first: a narrow terminal cuts the end.
    first = {name: rest.pop(name) for name in _SHORT if name in rest}
    named = {**{_SHORT[name]: value for name, value in first.items()}, **rest}
    others = (f"{name} {_short(value)}" for name, value in named.items())
    return ", ".join([" ".join(word for word in words if word), *others])


NAMING = ("cell", "hidden_size", "num_layers", "bidirectional")
"""Hyperparameters that say which model it is."""


def distinguishing_params(
    params: Mapping[str, ParameterValue], searched: Collection[str]
) -> dict[str, ParameterValue]:
    """Give the parameters worth a place: what names the model, and what was searched."""
    return {name: value for name, value in params.items() if name in NAMING or name in searched}


def _short(value: ParameterValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def metric_text(metric: Metric, value: float | None) -> str:
    """Write a value of a metric for people."""
    if value is None:
        return "-"
    return percent_text(value) if metric == "valid_accuracy" else f"{value:.4f}"


def percent_text(value: float) -> str:
    """Write a share for people, in percent."""
    return f"{100 * value:.2f} %"


def approximate_duration(seconds: float) -> str:
    """Write a duration for people: `45 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
