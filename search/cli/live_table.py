"""The drawing of a running search: a headline, what it has to beat, and a table of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from rich.console import ConsoleDimensions, Group
from rich.table import Table
from rich.text import Text

from celltune.printable import printable
from celltune.search.baselines.comparison import standing
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.results.ranking import passed_over_sentence
from celltune.search.runs.status import seconds_left
from celltune.search.storage.base import Experiment
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import Metric, is_wide_only
from celltune.search.wording import (
    approximate_duration,
    clock_duration,
    counted,
    describe_params,
    metric_text,
)

HINT = "Ctrl-C stops cleanly; all progress shown here is saved"
"""The last line of the drawing of a search on a terminal."""
_SIZE = ConsoleDimensions(width=100, height=24)
"""Size of a terminal that has no size."""
_OTHER_LINES = 4
"""Lines of the drawing without the rows of its table and the remarks below the headline."""
_LEAST_ROWS = 6
"""Trials that are shown even if the terminal is too low: as many running as ended ones."""
_CURVE_WIDTH = 8
_NARROW = 70
"""Columns of a terminal below which the curves are left out."""
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def drawing(
    folder: Experiment,
    config: SearchConfig,
    state: ExperimentState,
    seconds: float,
    *,
    size: ConsoleDimensions = _SIZE,
    hint: str = HINT,
    ascii_only: bool = False,
) -> Group:
    """Draw a running search: a headline, what it has to beat, its running and its best trials.

    Args:
        folder: the experiment.
        config: with the budget in force.
        state: of the experiment.
        seconds: since the run started.
        size: of the terminal, which limits how many trials and accuracies are shown.
        hint: how to stop, as the last line.
        ascii_only: whether the terminal shows no other characters.
    """
    ended = len(state.trials) - state.count("unfinished")
    ranked = state.ranked(config.metric)
    best = metric_text(config.metric, ranked[0].best_value(config.metric) if ranked else None)
    counts = "".join(
        f", {count} {status}" for status in ("pruned", "failed") if (count := state.count(status))
    )
    headline = Text.assemble(
        (folder.name, "bold"),
        f"  {ended} of {counted(planned_trials(config, state), 'trial')} done{counts}  ",
        (f"best {best}", "bold green"),
        f"  {_time(config, state, seconds)}",
    )
    remarks = [
        standing(state, config.metric, size.width),
        passed_over_sentence(state, config.metric),
    ]
    below = [
        Text(printable(remark), style="dim", no_wrap=True, overflow="ellipsis")
        for remark in remarks
        if remark
    ]
    wrapped = headline.cell_len // size.width
    rows = max(2 * _LEAST_ROWS, size.height - _OTHER_LINES - wrapped - len(below))
    bars = _ASCII_BARS if ascii_only else _BARS
    table = _table(config, _shown_trials(state, ranked, rows), ranked[:1], size.width, bars)
    return Group(headline, *below, table, Text(hint, style="dim"))


def _time(config: SearchConfig, state: ExperimentState, seconds: float) -> str:
    left = seconds_left(config, state)
    if config.budget.time is not None:
        limit = max(0.0, config.budget.time - seconds)
        left = limit if left is None else min(left, limit)
    spent = clock_duration(seconds)
    return (
        spent if left is None or left < 1 else f"{spent}, about {approximate_duration(left)} left"
    )


def _shown_trials(
    state: ExperimentState, ranked: Sequence[TrialRecord], rows: int
) -> list[TrialRecord]:
    """Return the running trials, then the best ended ones, as many as there are rows.

    If there are too many running ones, the latest are shown, and the best `_LEAST_ROWS` ended ones.
    """
    unfinished = [trial for trial in state.trials if trial.status == "unfinished"]
    ended = [trial for trial in ranked if trial.status != "unfinished"]
    running = unfinished[-max(_LEAST_ROWS, rows - min(_LEAST_ROWS, len(ended))) :]
    return [*running, *ended[: rows - len(running)]]


class _Column(NamedTuple):
    name: str
    justify: Literal["left", "right"]
    width: int


_COLUMNS = (
    _Column("trial", "right", 5),
    _Column("status", "left", 9),
    _Column("epochs", "right", 6),
    _Column("best", "right", 8),
)


def _table(
    config: SearchConfig,
    trials: Sequence[TrialRecord],
    best: Sequence[TrialRecord],
    width: int,
    bars: str,
) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name, justify, cells in _COLUMNS:
        table.add_column(name, justify=justify, width=cells, no_wrap=True)
    has_curves = width >= _NARROW
    if has_curves:
        table.add_column("curve", width=_CURVE_WIDTH, no_wrap=True)
    # The cells do not wrap, but the column may: rich shrinks only columns that may wrap.
    table.add_column("parameters")
    curves = [_curve(trial, config.metric) for trial in trials] if has_curves else []
    values = [value for curve in curves for value in curve]
    lowest, highest = min(values, default=0.0), max(values, default=0.0)
    for index, trial in enumerate(trials):
        cells_of_trial: list[Any] = _cells(config, trial)
        if has_curves:
            cells_of_trial.insert(-1, sparkline(curves[index], lowest, highest, bars))
        table.add_row(*cells_of_trial, style=_style(trial, best))
    return table


def _curve(trial: TrialRecord, metric: Metric) -> list[float]:
    """Return the values of a trial after each epoch, or every nth one if there are too many."""
    values = [epoch.metrics[metric] for epoch in trial.epochs]
    step = -(-len(values) // _CURVE_WIDTH) or 1
    return values[::-1][::step][::-1]


def sparkline(values: Sequence[float], lowest: float, highest: float, bars: str = _BARS) -> str:
    """Return a curve as one character per value.

    Args:
        values: between `lowest` and `highest`.
        lowest: value of the lowest bar.
        highest: value of the highest bar.
        bars: the characters, from the lowest to the highest.
    """
    span = (highest - lowest) or 1.0
    top = len(bars) - 1
    return "".join(bars[round((value - lowest) / span * top)] for value in values)


def _cells(config: SearchConfig, trial: TrialRecord) -> list[Any]:
    status = "running" if trial.status == "unfinished" else trial.status
    return [
        str(trial.number),
        status,
        f"{trial.epochs_done}/{trial.max_epochs}",
        metric_text(config.metric, trial.best_value(config.metric)),
        Text(_params(config, trial), no_wrap=True, overflow="ellipsis"),
    ]


def _params(config: SearchConfig, trial: TrialRecord) -> str:
    """Return the cell and what distinguishes the trial from the others; lines are short."""
    if is_wide_only(trial.params):
        return describe_params(trial.params)
    shown = {"cell", *config.varied}
    return describe_params({k: value for k, value in trial.params.items() if k in shown})


def _style(trial: TrialRecord, best: Sequence[TrialRecord]) -> str:
    if best and trial is best[0]:
        return "bold green"
    return "" if trial.status == "unfinished" else "dim"
