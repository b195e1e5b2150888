"""The rows of a ranking: plain values, one row a trial, from the states of one or more searches.

What is sorted, filtered and written in some format is always made here, so that a terminal, a
spreadsheet and a report can't disagree. Pure: no files, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from celltune.search.errors import OptionError
from celltune.search.ledger.events import EpochReported
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.results.filters import parse_filter
from celltune.search.storage.base import ExperimentFolder, StorageRoot
from celltune.search.storage.locate import find_experiment
from celltune.search.types import Metric, sign
from celltune.spelling import closest_match

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RankedSearch:
    """One search that is ranked."""

    name: str
    state: ExperimentState
    running: bool = False
    """Whether a driver works on it now: its unfinished trials run, else they were cut."""


def ranking(searches: Sequence[RankedSearch], metric: Metric) -> list[dict[str, Any]]:
    """Rank the trials of all searches by their best epoch, the best first.

    Equal values share a rank and stand in the order in which they were proposed; the rank after
    them counts them all. Trials without an epoch come last, without a rank. `valid_accuracy`,
    `valid_loss` and `train_accuracy` are those of the best epoch, `last_...` those of the last;
    `seconds` is the trial's training and validation time in all.

    Args:
        searches: what is ranked together; with more than one a column `experiment` names each
            row's, and a column `data` the fingerprint's start where their data differ.
        metric: what ranks.
    """
    entries = [(search, trial) for search in searches for trial in search.state.trials]
    direction = sign(metric)
    values = [trial.best_value(metric) for _, trial in entries]
    scores = [None if value is None else direction * value for value in values]
    # Python's sort is stable, also when reversed: equals stay in the order of the ledger.
    scored = [(score, index) for index, score in enumerate(scores) if score is not None]
    scored.sort(key=lambda pair: pair[0], reverse=True)
    unranked = [index for index, score in enumerate(scores) if score is None]
    ranks: dict[int, int] = {}
    for place, (score, index) in enumerate(scored, 1):
        above, other = scored[max(0, place - 2)]
        ranks[index] = ranks[other] if place > 1 and above == score else place
    origins = _origins(searches)
    names = list(dict.fromkeys(name for _, trial in entries for name in trial.params))
    return [
        {
            **origins[entries[index][0].name],
            **_row(ranks.get(index), *entries[index], metric, names),
        }
        for index in [*ranks, *unranked]
    ]


def _origins(searches: Sequence[RankedSearch]) -> dict[str, dict[str, str]]:
    """What says of a row where it comes from, by search."""
    if len(searches) == 1:
        return {searches[0].name: {}}
    prints = {search.name: fingerprint(search.state) for search in searches}
    alike = len(set(prints.values())) == 1
    return {
        name: {"experiment": name} if alike else {"experiment": name, "data": value[:12]}
        for name, value in prints.items()
    }


def fingerprint(state: ExperimentState) -> str:
    """Which prepared data an experiment stands on."""
    return state.created.fingerprint if state.created else ""


def _row(
    rank: int | None, search: RankedSearch, trial: TrialRecord, metric: Metric, names: Sequence[str]
) -> dict[str, Any]:
    best = trial.best(metric)
    at_best = best.metrics if best else {}
    at_last: Mapping[str, Any] = trial.epochs[-1].metrics if trial.epochs else {}
    parameters = at_best.get("parameters")
    runs = trial.status == "unfinished" and search.running
    return {
        "rank": rank,
        "trial": trial.number,
        "status": "running" if runs else trial.status,
        "epochs": trial.epochs_done,
        "max_epochs": trial.max_epochs,
        "stopped": why_stopped(trial, search.running),
        "best_epoch": best.epoch if best else None,
        "valid_accuracy": at_best.get("valid_accuracy"),
        "valid_loss": at_best.get("valid_loss"),
        "last_valid_accuracy": at_last.get("valid_accuracy"),
        "last_valid_loss": at_last.get("valid_loss"),
        "train_accuracy": at_best.get("train_accuracy"),
        "parameters": None if parameters is None else int(parameters),
        "seconds": round(training_seconds(trial.epochs), 3),
        **{name: trial.params.get(name) for name in names},
        "error": trial.error or None,
    }


def training_seconds(epochs: Sequence[EpochReported]) -> float:
    """Seconds that epochs took to train and validate, by the workers' clocks."""
    return sum(epoch.metrics.get("seconds", 0.0) for epoch in epochs)


def why_stopped(trial: TrialRecord, running: bool) -> str | None:
    """Say why a trial trains no more, in a few words; None while it runs."""
    if trial.status == "completed":
        return f"after all {trial.max_epochs} epochs"
    if trial.status == "pruned":
        return f"by ASHA after epoch {trial.epochs_done}"
    if trial.status == "failed":
        return f"by an error after epoch {trial.epochs_done}"
    return None if running else "with its search; a resume goes on"


# ---------------------------------------------------------------------------------------------
# What of a ranking is shown


@dataclass(frozen=True)
class Selection:
    """What of a ranking is shown, and in which order."""

    where: str | None = None
    """Only trials of which this holds, such as `cell == 'gru'` (see `search.where`)."""
    best_per: tuple[str, ...] = ()
    """Only the best trial for each value (or combination of values) of these columns."""
    sort: str | None = None
    """By this column instead of by rank, small first; `-column`: large first."""
    descending: bool = False
    """Turn the order round."""
    top: int | None = None
    """Only the first so many of what is left."""

    def apply(self, table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give the rows that are shown. Ranks stay those among all trials.

        Raises:
            OptionError: the filter doesn't parse, or a column that is named isn't there.
        """
        shown = list(table)
        columns = list(shown[0]) if shown else None
        if self.where is not None:
            holds = parse_filter(self.where, columns)
            shown = [row for row in shown if holds(row)]
        for name in self.best_per:
            _check_column("--best-per", name, columns)
        if self.best_per:
            first: dict[tuple[Any, ...], dict[str, Any]] = {}
            for row in shown:
                first.setdefault(tuple(row[name] for name in self.best_per), row)
            shown = list(first.values())
        return self._sorted(shown, columns)[: self.top]

    def _sorted(
        self, table: list[dict[str, Any]], columns: Sequence[str] | None
    ) -> list[dict[str, Any]]:
        column = (self.sort or "rank").removeprefix("-")
        _check_column("--sort", column, columns)
        descending = self.descending != (self.sort or "").startswith("-")
        known = [row for row in table if row[column] is not None]
        unknown = [row for row in table if row[column] is None]
        return [*sorted(known, key=lambda row: _order(row[column]), reverse=descending), *unknown]


def _order(value: Any) -> tuple[bool, Any]:
    # A choice may mix numbers and words; numbers come first.
    return (True, value) if isinstance(value, str) else (False, value)


def _check_column(option: str, name: str, columns: Sequence[str] | None) -> None:
    if columns is not None and name not in columns:
        raise OptionError(f"{option} names no column: '{name}'. {closest_match(name, columns)}")


def rows(
    state: ExperimentState, metric: Metric, top: int | None = None, *, running: bool = False
) -> list[dict[str, Any]]:
    """Rank the trials of one search, the best first (see `search.ranking.ranking`).

    Args:
        state: of the experiment.
        metric: what ranks.
        top: only this many; None: all.
        running: whether a driver works on it now.
    """
    return ranking([RankedSearch("", state, running)], metric)[:top]


def load(
    names: Sequence[str], root: StorageRoot, metric: str | None = None
) -> tuple[list[RankedSearch], Metric]:
    """Read searches that are ranked together.

    Args:
        names: of the experiments; one that is named twice is read once.
        root: the storage of the experiments.
        metric: what ranks; None: what the searches themselves were decided by.

    Returns:
        The searches, and what ranks.

    Raises:
        ExperimentError: there is no such experiment.
        LedgerError: a ledger is damaged.
        OptionError: the searches were decided by different metrics and none is given, or it is
            none.
    """
    found = [find_experiment(name, root) for name in dict.fromkeys(names)]
    decided = {folder.name: folder.config().metric for folder in found}
    return [_search(folder) for folder in found], _common(decided, metric)


def _search(folder: ExperimentFolder) -> RankedSearch:
    # Asked first: a search that ends in between is told as running, never one that runs as cut.
    running = folder.is_locked()
    return RankedSearch(folder.name, folder.state(), running)


def _common(decided: dict[str, Metric], metric: str | None) -> Metric:
    allowed: tuple[Metric, ...] = get_args(Metric)
    if metric is not None:
        for known in allowed:
            if known == metric:
                return known
        raise OptionError(f"'{metric}' is not a metric. {closest_match(metric, allowed)}")
    if len(set(decided.values())) > 1:
        told = ", ".join(f"{name} by {value}" for name, value in decided.items())
        raise OptionError(
            f"The searches were decided by different metrics ({told}), so they have no common "
            f"ranking by themselves. Choose one with --metric: {' or '.join(allowed)}."
        )
    return next(iter(decided.values()))
