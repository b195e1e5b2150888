"""Parameters and metrics in words, for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from search.events import ParameterValue
from search.state import Metric

_SHORT = {"learning_rate": "lr"}


def describe(params: Mapping[str, ParameterValue]) -> str:
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


def telling(
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
    return share_text(value) if metric == "valid_accuracy" else f"{value:.4f}"


def share_text(value: float) -> str:
    """Write a share for people, in percent."""
    return f"{100 * value:.2f} %"
