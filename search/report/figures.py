"""The figures of the report, as plotly figures; Optuna computes the importances."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from celltune.printable import printable
from celltune.search.baselines.comparison import best_linear_model, compared_metric
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Dimension
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.objective import objective_metric, sign
from celltune.search.tuning.base import make_rule
from celltune.search.tuning.first_trials import is_withheld
from celltune.search.tuning.study_mirror import distribution
from celltune.search.types import Metric, ParameterValue
from celltune.search.wording import describe_params, distinguishing_params, metric_text

MIN_TRIALS = 4
"""Trials with a finished epoch below which figures show only noise."""

MIN_RANKED = 10
"""Comparable trials below which importances are not computed."""

_STYLES = {
    "completed": ("#2f81d6", "solid"),
    "pruned": ("#c98200", "dot"),
    "failed": ("#d04a4a", "dash"),
    "unfinished": ("#8a8a8a", "dashdot"),
}
"""Color and line style by status."""


def learning_curves(
    config: SearchConfig, state: ExperimentState, metric: Metric | None = None
) -> go.Figure:
    """Return a metric of every trial over its epochs, the rungs, and what a trial has to beat.

    Args:
        config: with the budget in force.
        state: has a trial with an epoch.
        metric: None for that of the config. Linear models and the majority class have a line in the
            figure of the metric by which they are compared (see `compared_metric`).
    """
    metric = metric or config.metric
    figure = go.Figure()
    for status, (color, dash) in _STYLES.items():
        trials = [trial for trial in state.trials if trial.status == status and trial.epochs]
        if trials:
            figure.add_scatter(
                **_curve_points(config, trials, metric),
                mode="lines+markers",
                marker={"size": 4},
                line={"color": color, "dash": dash, "width": 1},
                opacity=0.75,
                name=f"{status} ({len(trials)})",
            )
    best = state.ranked(config.metric)[0]
    figure.add_scatter(
        **_curve_points(config, [best], metric),
        mode="lines+markers",
        line={"color": "#1a9850", "width": 4},
        name=f"best (trial {best.number})",
    )
    for epoch in rungs(config):
        figure.add_vline(x=epoch, line={"dash": "dash", "width": 1, "color": "#888"})
        figure.add_annotation(
            x=epoch, y=1, yref="paper", yanchor="bottom", text="rung", showarrow=False
        )
    for name, value, color in _references(state, metric):
        last = max(trial.epochs_done for trial in state.trials)
        figure.add_scatter(
            x=[1, max(2, last)],
            y=[value, value],
            mode="lines",
            line={"color": color, "dash": "dot", "width": 2},
            name=f"{name} ({metric_text(metric, value)})",
            hoverinfo="name",
        )
    figure.update_xaxes(title="epoch", dtick=max(1, config.budget.max_epochs // 12))
    figure.update_yaxes(title=metric, tickformat=_tick_format(metric))
    return figure


def _references(state: ExperimentState, metric: Metric) -> Iterator[tuple[str, float, str]]:
    """Yield name, value and color of what the trials are compared with by a metric."""
    if compared_metric(state, metric) != metric:
        return
    linear = best_linear_model(state, metric)
    if linear is not None and linear.metric == metric:
        yield linear.title, linear.value, "#7a4fbf"
    majority = state.created.majority_score(metric) if state.created else None
    if majority is not None:
        yield "majority class", majority, "#8a8a8a"


def _curve_points(
    config: SearchConfig, trials: Sequence[TrialRecord], metric: Metric
) -> dict[str, Any]:
    """Return the points of several curves for one plotly trace; None separates the curves."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for index, trial in enumerate(trials):
        if index:
            x.append(None)
            y.append(None)
            texts.append("")
        x += [epoch.epoch for epoch in trial.epochs]
        y += [epoch.metrics.get(metric) for epoch in trial.epochs]
        texts += _hover_texts(config, trial, metric)
    return {"x": x, "y": y, "hovertext": texts, "hoverinfo": "text"}


def _hover_texts(config: SearchConfig, trial: TrialRecord, metric: Metric) -> list[str]:
    """Return the text that is shown for each epoch of a trial."""
    params = describe_params(distinguishing_params(trial.params, config.varied))
    return [
        f"trial {trial.number}, epoch {epoch.epoch}: "
        f"{metric_text(metric, epoch.metrics.get(metric))}\n{params}"
        for epoch in trial.epochs
    ]


def rungs(config: SearchConfig) -> tuple[int, ...]:
    """Return the epochs after which trials are compared; empty without rungs."""
    rule = make_rule(config)
    return (rule.rungs or ()) if rule is not None else ()


def _tick_format(metric: Metric) -> str | None:
    return ".0%" if objective_metric(metric).style == "percent" else None


# ---------------------------------------------------------------------------------------------
# Effect of the hyperparameters


def importances(config: SearchConfig, state: ExperimentState) -> dict[str, dict[str, float]]:
    """Return the PED-ANOVA importance of each hyperparameter, by group of trials.

    Early stopping gives trials different budgets. Values are therefore compared only after equal
    training: those of all trials after the first rung, and the best ones of completed trials.
    Groups with too few trials are omitted.
    """
    study_by_group: dict[str, optuna.Study] = {}
    first = next(iter(rungs(config)), None)
    if first is not None:
        study_by_group[f"all trials after epoch {first}"] = _study_of_values(
            config, state, lambda trial: _value_after(trial, first, config)
        )
    study_by_group["completed trials"] = _study_of_values(
        config,
        state,
        lambda trial: trial.best_value(config.metric) if trial.status == "completed" else None,
    )
    shares = {}
    for name, study in study_by_group.items():
        # The best 10 %, but at least 5 trials: Optuna's advice for a stable estimate.
        quantile = min(0.5, max(0.1, 5 / max(1, len(study.trials))))
        if len(study.trials) >= MIN_RANKED and _has_distinct_top(study, quantile):
            shares[f"{name} ({len(study.trials)})"] = _ped_anova(study, quantile)
    return shares


def _value_after(trial: TrialRecord, epoch: int, config: SearchConfig) -> float | None:
    if trial.epochs_done < epoch:
        return None
    return trial.epochs[epoch - 1].metrics[config.metric]


def _study_of_values(
    config: SearchConfig,
    state: ExperimentState,
    value_of: Callable[[TrialRecord], float | None],
) -> optuna.Study:
    """Return a study of the trials that have a value and are within the space.

    It contains the searched hyperparameters of which these trials have more than one value: packed
    trials share many.
    """
    study = optuna.create_study(direction="maximize" if sign(config.metric) > 0 else "minimize")
    values = {trial.number: value_of(trial) for trial in state.trials}
    trials = [
        trial
        for trial in state.trials
        if values[trial.number] is not None and not is_withheld(config, trial)
    ]
    varied = [
        name
        for name in config.space.searched
        if len({repr(trial.params[name]) for trial in trials if name in trial.params}) > 1
    ]
    for trial in trials:
        params = {name: trial.params[name] for name in varied if name in trial.params}
        kinds = {name: distribution(config.space.searched[name]) for name in params}
        study.add_trial(
            create_trial(value=values[trial.number], params=params, distributions=kinds)
        )
    return study


def _has_distinct_top(study: optuna.Study, quantile: float) -> bool:
    """Return whether the best trials differ from the rest: ties fill at most half of the trials."""
    maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
    values = sorted((trial.values[0] for trial in study.trials), reverse=maximize)
    threshold = values[math.ceil(quantile * len(values)) - 1]
    top = values.index(threshold) + values.count(threshold)
    return top <= math.ceil(len(values) / 2)


def _ped_anova(study: optuna.Study, quantile: float) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile)
        )


def importance_bars(importance_by_group: dict[str, dict[str, float]]) -> go.Figure:
    """Return importances as bars, the largest on top."""
    figure = go.Figure()
    order = list(reversed(next(iter(importance_by_group.values()))))
    colors = ("#2f81d6", "#c98200")
    for (name, shares), color in zip(importance_by_group.items(), colors, strict=False):
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


def parallel_coordinates(config: SearchConfig, state: ExperimentState) -> go.Figure:
    """Return every trial with an epoch as a line through its hyperparameters and best value.

    Trials outside of the space (see `first_trials` of the config) have no place on its axes.
    """
    inside = [t for t in state.ranked(config.metric) if not is_withheld(config, t)]
    trials = list(reversed(inside))  # the best trials are drawn on top
    values = [trial.best_value(config.metric) for trial in trials]
    axes = [
        _parallel_axis(name, dimension, [trial.params.get(name) for trial in trials])
        for name, dimension in config.space.searched.items()
    ]
    axes.append(
        {"label": config.metric, "values": values, "tickformat": _tick_format(config.metric)}
    )
    color = {"color": values, "colorscale": "Viridis", "reversescale": sign(config.metric) < 0}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=color))
    figure.update_traces(labelangle=-20, labelfont={"size": 13}, tickfont={"size": 12})
    figure.update_layout(height=480, margin={"l": 90, "r": 90, "t": 90, "b": 30})
    return figure


def _parallel_axis(name: str, dimension: Dimension, values: Sequence[Any]) -> dict[str, Any]:
    """Return an axis; trials without the hyperparameter are drawn below its range."""
    if isinstance(dimension, Choice):
        index_by_value = {value: float(index) for index, value in enumerate(dimension.values)}
        ticks = {index: printable(value) for value, index in index_by_value.items()}
        positions = [index_by_value.get(value) for value in values]
        lowest, span = 0.0, max(1.0, len(index_by_value) - 1.0)
    else:
        scale = math.log10 if dimension.log else float
        lowest, span = scale(dimension.low), scale(dimension.high) - scale(dimension.low)
        marks = [lowest + span * quarter / 4 for quarter in range(5)]
        ticks = {mark: f"{10**mark if dimension.log else mark:.3g}" for mark in marks}
        positions = [None if value is None else scale(value) for value in values]
    if None in positions:
        ticks[lowest - span / 8] = "not active"
    return {
        "label": name,
        # Without a range, the axis ends at the trials' values, and the ticks beyond it are drawn
        # over the labels.
        "range": [min(ticks), max(ticks)] if len(ticks) > 1 else None,
        "values": [lowest - span / 8 if place is None else place for place in positions],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


_PANELS_PER_ROW = 4


def slices(config: SearchConfig, state: ExperimentState) -> go.Figure:
    """Return the best value of every trial by hyperparameter, one panel each."""
    searched = list(config.space.searched.items())
    panel_rows = math.ceil(len(searched) / _PANELS_PER_ROW)
    figure = make_subplots(
        rows=panel_rows,
        cols=_PANELS_PER_ROW,
        shared_yaxes=True,
        vertical_spacing=min(0.25, 0.5 / panel_rows),
    )
    for index, (name, dimension) in enumerate(searched):
        panel = {"row": index // _PANELS_PER_ROW + 1, "col": index % _PANELS_PER_ROW + 1}
        for status, (color, _) in _STYLES.items():
            trials = [
                trial
                for trial in state.trials
                if trial.status == status and trial.epochs and name in trial.params
            ]
            figure.add_scatter(
                x=[_slice_position(dimension, trial.params[name]) for trial in trials],
                y=[trial.best_value(config.metric) for trial in trials],
                mode="markers",
                marker={"color": color, "size": 5, "opacity": 0.6},
                hovertext=[_hover_texts(config, trial, config.metric)[0] for trial in trials],
                hoverinfo="text",
                name=status,
                legendgroup=status,
                showlegend=index == 0 and bool(trials),
                **panel,
            )
        figure.update_xaxes(title=name, **_slice_axis(dimension), **panel)
    figure.update_yaxes(title=config.metric, tickformat=_tick_format(config.metric), col=1)
    figure.update_yaxes(tickformat=_tick_format(config.metric))
    figure.update_layout(height=60 + 260 * panel_rows)
    return figure


def _slice_axis(dimension: Dimension) -> dict[str, Any]:
    if isinstance(dimension, Choice):
        return {
            "type": "category",
            "categoryarray": [printable(value) for value in dimension.values],
        }
    return {"type": "log" if dimension.log else "linear", "nticks": 4}


def _slice_position(dimension: Dimension, value: ParameterValue) -> ParameterValue:
    return printable(value) if isinstance(dimension, Choice) else value
