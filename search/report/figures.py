"""The figures of a report, drawn by plotly; the importances are Optuna's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Dimension
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.tuning.asha import make_rungs
from celltune.search.tuning.tpe import distribution
from celltune.search.types import ParameterValue, sign
from celltune.search.wording import describe_params, distinguishing_params, metric_text

FEWEST = 4
"""Trials below which a figure would show nothing but chance."""

_FEWEST_RANKED = 10
"""The same for importances, which tell the best of them from the rest."""

_STYLES = {
    "completed": ("#2f81d6", "solid"),
    "pruned": ("#c98200", "dot"),
    "failed": ("#d04a4a", "dash"),
    "unfinished": ("#8a8a8a", "dashdot"),
}


def learning_curves(config: SearchConfig, state: ExperimentState) -> go.Figure:
    """Draw the metric of every trial over its epochs, and the rungs at which ASHA judges."""
    figure = go.Figure()
    for status, (color, dash) in _STYLES.items():
        trials = [trial for trial in state.trials if trial.status == status and trial.epochs]
        if trials:
            points = [point for trial in trials for point in _curve(config, trial)]
            figure.add_scatter(
                x=[point[0] for point in points],
                y=[point[1] for point in points],
                hovertext=[point[2] for point in points],
                hoverinfo="text",
                mode="lines+markers",
                marker={"size": 4},
                line={"color": color, "dash": dash, "width": 1},
                opacity=0.75,
                name=f"{status} ({len(trials)})",
            )
    best = state.ranked(config.metric)[0]
    points = list(_curve(config, best))[:-1]
    figure.add_scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        hovertext=[point[2] for point in points],
        hoverinfo="text",
        mode="lines+markers",
        line={"color": "#1a9850", "width": 4},
        name=f"the best, trial {best.number}",
    )
    for epoch in rungs(config):
        figure.add_vline(x=epoch, line={"dash": "dash", "width": 1, "color": "#888"})
        figure.add_annotation(
            x=epoch, y=1, yref="paper", yanchor="bottom", text="rung", showarrow=False
        )
    figure.update_xaxes(title="epoch", dtick=max(1, config.budget.max_epochs // 12))
    figure.update_yaxes(title=config.metric, tickformat=_tick_format(config))
    return figure


def _curve(config: SearchConfig, trial: TrialRecord) -> Iterator[tuple[int | None, Any, str]]:
    told = describe_params(distinguishing_params(trial.params, config.space.searched))
    for epoch in trial.epochs:
        value = epoch.metrics[config.metric]
        shown = metric_text(config.metric, value)
        yield epoch.epoch, value, f"trial {trial.number}, epoch {epoch.epoch}: {shown}<br>{told}"
    yield None, None, ""


def rungs(config: SearchConfig) -> list[int]:
    """Give the epochs after which ASHA judges; none without early stopping."""
    found = make_rungs(config)
    return [] if found is None else found.epochs


def _tick_format(config: SearchConfig) -> str | None:
    return ".0%" if config.metric == "valid_accuracy" else None


# ---------------------------------------------------------------------------------------------
# What each hyperparameter did


def importances(config: SearchConfig, state: ExperimentState) -> dict[str, dict[str, float]]:
    """Give each hyperparameter's importance after PED-ANOVA, by what was compared.

    Early stopping gives trials different budgets, so they are compared where all had the same:
    after the first rung, and, of those that were trained to the end, by their best value.
    """
    first = config.early_stopping.grace_period if config.early_stopping else None
    compared: dict[str, Callable[[TrialRecord], float | None]] = {}
    if first is not None and first < config.budget.max_epochs:
        compared[f"all trials after epoch {first}"] = lambda trial: (
            trial.epochs[first - 1].metrics[config.metric] if trial.epochs_done >= first else None
        )
    compared["trials trained to the end"] = lambda trial: (
        trial.best_value(config.metric) if trial.status == "completed" else None
    )
    found = {}
    for name, value in compared.items():
        study = _flat(config, state, value)
        # Among the best 10 %, but at least 5 trials: Optuna's advice for a stable estimate.
        quantile = min(0.5, max(0.1, 5 / max(1, len(study.trials))))
        if len(study.trials) >= _FEWEST_RANKED and _has_a_top(study, quantile):
            found[f"{name} ({len(study.trials)})"] = _ped_anova(study, quantile)
    return found


def _has_a_top(study: optuna.Study, quantile: float) -> bool:
    """Whether the best so many differ from the rest: where most are equal there is no best part."""
    maximized = study.direction == optuna.study.StudyDirection.MAXIMIZE
    values = sorted((trial.values[0] for trial in study.trials), reverse=maximized)
    last = values[math.ceil(quantile * len(values)) - 1]
    return values.index(last) + values.count(last) <= math.ceil(len(values) / 2)


def _ped_anova(study: optuna.Study, quantile: float) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile)
        )


def importance_bars(found: dict[str, dict[str, float]]) -> go.Figure:
    """Draw importances as bars, the largest on top."""
    figure = go.Figure()
    order = list(reversed(next(iter(found.values()))))
    for (name, shares), color in zip(found.items(), ("#2f81d6", "#c98200"), strict=False):
        figure.add_bar(
            y=order,
            x=[shares.get(key, 0.0) for key in order],
            orientation="h",
            name=name,
            marker={"color": color},
        )
    figure.update_layout(height=140 + 36 * len(order), showlegend=True)
    figure.update_xaxes(title="share of the importance", tickformat=".0%")
    return figure


def _flat(
    config: SearchConfig,
    state: ExperimentState,
    value: Callable[[TrialRecord], float | None],
) -> optuna.Study:
    study = optuna.create_study(direction="maximize" if sign(config.metric) > 0 else "minimize")
    for trial in state.trials:
        reached = value(trial)
        if reached is not None:
            params = {k: v for k, v in trial.params.items() if k in config.space.searched}
            kinds = {name: distribution(config.space.searched[name]) for name in params}
            study.add_trial(create_trial(value=reached, params=params, distributions=kinds))
    return study


def parallel_coordinates(config: SearchConfig, state: ExperimentState) -> go.Figure:
    """Draw every measured trial as a line through its hyperparameters to its best value."""
    trials = list(reversed(state.ranked(config.metric)))  # the best are drawn last, on top
    values = [trial.best_value(config.metric) for trial in trials]
    axes = [
        _axis(name, dimension, [trial.params.get(name) for trial in trials])
        for name, dimension in config.space.searched.items()
    ]
    axes.append({"label": config.metric, "values": values, "tickformat": _tick_format(config)})
    color = {"color": values, "colorscale": "Viridis", "reversescale": sign(config.metric) < 0}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=color))
    figure.update_layout(height=460, margin={"l": 120, "r": 90, "t": 60, "b": 30})
    return figure


def _axis(name: str, dimension: Dimension, given: list[Any]) -> dict[str, Any]:
    """An axis of the parallel coordinates; where a hyperparameter isn't active it is below all."""
    if isinstance(dimension, Choice):
        names = {value: float(place) for place, value in enumerate(dimension.values)}
        ticks = {place: str(value) for value, place in names.items()}
        places = [names.get(value) for value in given]
        lowest, span = 0.0, max(1.0, len(names) - 1.0)
    else:
        scale = math.log10 if dimension.log else float
        lowest, span = scale(dimension.low), scale(dimension.high) - scale(dimension.low)
        marks = [lowest + span * quarter / 4 for quarter in range(5)]
        ticks = {mark: f"{10**mark if dimension.log else mark:.3g}" for mark in marks}
        places = [None if value is None else scale(value) for value in given]
    if None in places:
        ticks[lowest - span / 8] = "not active"
    return {
        "label": name,
        "values": [lowest - span / 8 if place is None else place for place in places],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def slices(config: SearchConfig, state: ExperimentState) -> go.Figure:
    """Draw the best value of every measured trial over each hyperparameter by itself."""
    searched = list(config.space.searched.items())
    lines = math.ceil(len(searched) / _ABREAST)
    figure = make_subplots(
        rows=lines, cols=_ABREAST, shared_yaxes=True, vertical_spacing=min(0.25, 0.5 / lines)
    )
    for index, (name, dimension) in enumerate(searched):
        row, col = index // _ABREAST + 1, index % _ABREAST + 1
        for status, (color, _) in _STYLES.items():
            trials = [
                trial
                for trial in state.trials
                if trial.status == status and trial.epochs and name in trial.params
            ]
            figure.add_scatter(
                x=[_place(dimension, trial.params[name]) for trial in trials],
                y=[trial.best_value(config.metric) for trial in trials],
                mode="markers",
                marker={"color": color, "size": 5, "opacity": 0.6},
                hovertext=[next(_curve(config, trial))[2] for trial in trials],
                hoverinfo="text",
                name=status,
                legendgroup=status,
                showlegend=index == 0 and bool(trials),
                row=row,
                col=col,
            )
        figure.update_xaxes(title=name, **_scale(dimension), row=row, col=col)
    figure.update_yaxes(title=config.metric, tickformat=_tick_format(config), col=1)
    figure.update_yaxes(tickformat=_tick_format(config))
    figure.update_layout(height=60 + 260 * lines)
    return figure


_ABREAST = 4
"""Panels of the slices side by side."""


def _scale(dimension: Dimension) -> dict[str, Any]:
    if isinstance(dimension, Choice):
        return {"type": "category", "categoryarray": [str(value) for value in dimension.values]}
    return {"type": "log" if dimension.log else "linear", "nticks": 4}


def _place(dimension: Dimension, value: ParameterValue) -> ParameterValue:
    return str(value) if isinstance(dimension, Choice) else value
