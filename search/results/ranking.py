"""The rows of a leaderboard: plain values, one row for each trial of one or more searches.

The terminal, the exported files and the report all use these rows. Pure: no files, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celltune.printable import printable
from celltune.search.baselines.comparison import verdict_sentence
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import OptionError
from celltune.search.ledger.causes import WORKER_CAUSES
from celltune.search.ledger.events import EpochReported
from celltune.search.ledger.order import SortKey, Standing, sort_keys
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.objective import sign
from celltune.search.results.filters import parse_filter
from celltune.search.types import Metric
from celltune.search.wording import (
    NOT_ABOVE_WIDE,
    counted,
    describe_majority,
    metric_text,
    trial_label,
)
from celltune.spelling import closest_match

Row = Mapping[str, Any]

_EARLY_STOPPING = "early stopping"


@dataclass(frozen=True)
class RankedSearch:
    """A search that takes part in a ranking."""

    name: str
    state: ExperimentState
    running: bool = False
    """True while a driver works on it: its unfinished trials are running."""
    pruned_by: str = _EARLY_STOPPING
    """The title of its early-stopping rule."""


def ranking(searches: Sequence[RankedSearch], metric: Metric) -> list[dict[str, Any]]:
    """Return the trials of all searches, ranked by their best epoch, the best first.

    Trials with a wide part that do not improve on it by more than noise come after the wide part
    alone (see `ledger.order`). Equal values are ordered by the validation loss. Trials whose losses
    are equal too share a rank and keep the order in which they were proposed; the next rank counts
    all of them (1, 1, 3). Trials without a finished epoch come last and have no rank.
    `valid_accuracy`, `valid_loss` and `train_accuracy` are those of the best epoch, `last_...`
    those of the last epoch. `note` says that a trial is no better than the majority class or than
    the wide part alone, and is None otherwise. `seconds` is the time for training and validation
    over all epochs.

    Args:
        searches: the searches to rank together. With more than one, the column `experiment` names
            the search of each row. If their data differ, the column `data` contains the first
            characters of the fingerprint.
        metric: the metric that ranks.
    """
    entries = [(search, trial) for search in searches for trial in search.state.trials]
    keys = sort_keys([(search.state.created, trial) for search, trial in entries], metric)
    ranks, unranked = _ranks(keys)
    origins = _origin_columns(searches)
    names = list(dict.fromkeys(name for _, trial in entries for name in trial.params))
    return [
        {
            **origins[entries[index][0].name],
            **_row(ranks.get(index), keys[index], *entries[index], metric, names),
        }
        for index in [*ranks, *unranked]
    ]


def _ranks(keys: Sequence[SortKey | None]) -> tuple[dict[int, int], list[int]]:
    """Return the ranks of trials by their index, the best first, and the indices without a key."""
    keyed = sorted((key, index) for index, key in enumerate(keys) if key is not None)
    ranks: dict[int, int] = {}
    for place, (key, index) in enumerate(keyed, 1):
        previous_key, previous_index = keyed[max(0, place - 2)]
        is_tie = place > 1 and previous_key == key
        ranks[index] = ranks[previous_index] if is_tie else place
    return ranks, [index for index, key in enumerate(keys) if key is None]


def ranking_of(
    config: SearchConfig, state: ExperimentState, *, running: bool = False
) -> list[dict[str, Any]]:
    """Return the trials of one search, ranked by the metric that it optimizes (see `ranking`)."""
    search = RankedSearch(config.name, state, running, pruned_by(config))
    return ranking([search], config.metric)


def pruned_by(config: SearchConfig) -> str:
    """Return the title of the early-stopping rule of a search."""
    return config.early_stopping.title if config.early_stopping else _EARLY_STOPPING


def _origin_columns(searches: Sequence[RankedSearch]) -> dict[str, dict[str, str]]:
    """Return the columns that say which search a row belongs to, by the search's name."""
    if len(searches) == 1:
        return {searches[0].name: {}}
    fingerprints = {search.name: fingerprint(search.state) for search in searches}
    same_data = len(set(fingerprints.values())) == 1
    return {
        name: {"experiment": name} if same_data else {"experiment": name, "data": value[:12]}
        for name, value in fingerprints.items()
    }


def fingerprint(state: ExperimentState) -> str:
    """Return the fingerprint of the prepared data of an experiment."""
    return state.created.fingerprint if state.created else ""


def label_of(state: ExperimentState, trial: TrialRecord, metric: Metric) -> str:
    """Return why a trial of a search should not be used, in a few words; empty for others."""
    return trial_label(state.beats_majority(trial, metric), state.beats_wide(trial, metric))


def majority_sentence(state: ExperimentState) -> str:
    """Return the scores of always predicting one class, as a sentence; empty if it is unknown."""
    created = state.created
    if created is None:
        return ""
    label, accuracy = created.majority_class, created.majority_accuracy
    return describe_majority(label, accuracy, created.majority_scores)


def context_sentences(state: ExperimentState, metric: Metric) -> list[str]:
    """Return what the best trial has to be compared with: the majority class and a baseline."""
    return [text for text in (majority_sentence(state), verdict_sentence(state, metric)) if text]


def passed_over_sentence(state: ExperimentState, metric: Metric) -> str:
    """Return why trials with a better value than the best trial are not the best; empty if none is.

    Only trials that do not improve on the wide part alone by more than noise are passed over.
    """
    ranked = state.ranked(metric)
    best = ranked[0].best_value(metric) if ranked else None
    if best is None:
        return ""
    values = ((trial, trial.best_value(metric)) for trial in ranked)
    better = [
        f"trial {trial.number} ({metric_text(metric, value)})"
        for trial, value in values
        if value is not None and sign(metric) * (value - best) > 0
    ]
    if not better:
        return ""
    if len(better) > 1:
        return f"{len(better)} trials have better values, but are {NOT_ABOVE_WIDE}."
    return f"{better[0].capitalize()} has a better value, but is {NOT_ABOVE_WIDE}."


def losses_sentence(state: ExperimentState) -> str:
    """Return how many workers were lost and why the last one was; empty if none was."""
    last = state.last_loss
    if last is None:
        return ""
    count = counted(state.workers_lost, "worker")
    lost = f"{count} {'was' if state.workers_lost == 1 else 'were'} lost"
    reason = f"The last one {WORKER_CAUSES[last.cause]}: {printable(last.error)}"
    return f"{lost}; the trials continue from their checkpoints. {reason}"


def _row(
    rank: int | None,
    key: SortKey | None,
    search: RankedSearch,
    trial: TrialRecord,
    metric: Metric,
    names: Sequence[str],
) -> dict[str, Any]:
    best = trial.best(metric)
    beats_wide = None if key is None else key[0] != Standing.NO_BETTER
    best_metrics = best.metrics if best else {}
    last_metrics: Mapping[str, Any] = trial.epochs[-1].metrics if trial.epochs else {}
    parameters = best_metrics.get("parameters")
    is_running = trial.status == "unfinished" and search.running
    return {
        "rank": rank,
        "trial": trial.number,
        "status": "running" if is_running else trial.status,
        "epochs": trial.epochs_done,
        "max_epochs": trial.max_epochs,
        "stopped": why_stopped(trial, search.running, search.pruned_by),
        "best_epoch": best.epoch if best else None,
        "valid_accuracy": best_metrics.get("valid_accuracy"),
        "valid_loss": best_metrics.get("valid_loss"),
        "last_valid_accuracy": last_metrics.get("valid_accuracy"),
        "last_valid_loss": last_metrics.get("valid_loss"),
        **_metric_columns(metric, best_metrics, last_metrics),
        "train_accuracy": best_metrics.get("train_accuracy"),
        "note": trial_label(search.state.beats_majority(trial, metric), beats_wide) or None,
        "parameters": None if parameters is None else int(parameters),
        "seconds": round(training_seconds(trial.epochs), 3),
        **{name: trial.params.get(name) for name in names},
        "error": trial.error or None,
    }


def _metric_columns(
    metric: Metric, best_metrics: Mapping[str, Any], last_metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the columns of a metric that does not have columns in every ranking."""
    if metric in ("valid_accuracy", "valid_loss"):
        return {}
    return {metric: best_metrics.get(metric), f"last_{metric}": last_metrics.get(metric)}


def training_seconds(epochs: Sequence[EpochReported]) -> float:
    """Return the seconds that epochs took to train and validate, measured by the workers."""
    return sum(epoch.metrics.get("seconds", 0.0) for epoch in epochs)


def why_stopped(trial: TrialRecord, running: bool, pruned_by: str) -> str | None:
    """Return why a trial stopped, in a few words; None while it is running."""
    if trial.status == "completed" and trial.epochs_done < trial.max_epochs:
        return f"after epoch {trial.epochs_done}, without further improvement"
    if trial.status == "completed":
        epochs = trial.max_epochs
        return f"after all {epochs} epochs" if epochs > 1 else "after its only epoch"
    if trial.status == "pruned":
        return f"by {pruned_by} after epoch {trial.epochs_done}"
    if trial.status == "failed":
        return f"by an error after epoch {trial.epochs_done}"
    return None if running else "with its search; a resume continues it"


# ---------------------------------------------------------------------------------------------
# Selecting rows


@dataclass(frozen=True)
class SortOrder:
    """The column that orders a leaderboard, and the direction."""

    column: str = "rank"
    descending: bool = False

    @classmethod
    def parse(cls, text: str | None, *, reverse: bool = False) -> SortOrder:
        """Read a sort option.

        Args:
            text: a column, or "-column" for descending order; None: by rank.
            reverse: whether to reverse the order that `text` asks for.
        """
        column = text or cls.column
        return cls(column.removeprefix("-"), column.startswith("-") != reverse)

    def apply(self, table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows in order; rows without a value come last in both directions."""
        known = [row for row in table if row[self.column] is not None]
        unknown = [row for row in table if row[self.column] is None]
        known.sort(key=lambda row: _sort_key(row[self.column]), reverse=self.descending)
        return [*known, *unknown]


def _sort_key(value: Any) -> tuple[bool, Any]:
    # A column may contain numbers and text; numbers come first.
    return (isinstance(value, str), value)


@dataclass(frozen=True)
class Selection:
    """A choice of rows of a ranking, and their order."""

    where: str | None = None
    """A filter, such as `cell == 'gru'` (see `celltune.search.results.filters`)."""
    best_per: tuple[str, ...] = ()
    """Show only the best trial for each combination of values of these columns."""
    order: SortOrder = field(default_factory=SortOrder)
    top: int | None = None
    """The largest number of rows; None: all."""

    def apply(self, table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the selected rows. Ranks stay those among all trials.

        Raises:
            OptionError: the filter is invalid, or a column does not exist.
        """
        selected = list(table)
        columns = list(selected[0]) if selected else None
        if self.where is not None:
            matches = parse_filter(self.where, columns)
            selected = [row for row in selected if matches(row)]
        for name in self.best_per:
            _check_column("best_per", name, columns)
        _check_column("sort", self.order.column, columns)
        if self.best_per:
            best: dict[tuple[Any, ...], dict[str, Any]] = {}
            for row in selected:
                best.setdefault(tuple(row[name] for name in self.best_per), row)
            selected = list(best.values())
        return self.order.apply(selected)[: self.top]


def _check_column(argument: str, name: str, columns: Sequence[str] | None) -> None:
    if columns is not None and name not in columns:
        raise OptionError(
            f"`{argument}` names the column '{name}', which does not exist. "
            f"{closest_match(name, columns)}"
        )
