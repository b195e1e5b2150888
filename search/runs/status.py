"""Status and summary of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import EpochReported
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.base import Experiment
from celltune.search.tuning.stopping import SearchEnd, end_reason
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import is_wide_only

Status = Literal["running", "finished", "stopped", "killed"]
"""`finished`: the search is over. `stopped`: the last run ended cleanly before that. `killed`: the
last run died."""


@dataclass(frozen=True)
class ExperimentSummary:
    """Status of an experiment with the state and config that it was read from."""

    config: SearchConfig
    """With the budget in force."""
    state: ExperimentState
    status: Status
    end_reason: SearchEnd | None
    """Why the search is over, or `None`."""

    @property
    def trials_ended(self) -> int:
        """Number of completed, pruned and failed trials."""
        return len(self.state.trials) - self.state.count("unfinished")

    @property
    def trials_planned(self) -> int:
        """Number of trials of the complete search; see `planned_trials`."""
        return planned_trials(self.config, self.state)

    @property
    def trials_remaining(self) -> int:
        """Number of trials that are not created yet."""
        return self.trials_planned - len(self.state.trials)

    @property
    def epochs(self) -> int:
        """Number of epochs trained so far by all trials."""
        return sum(trial.epochs_done for trial in self.state.trials)

    @property
    def max_epochs(self) -> int:
        """Number of epochs if no trial ended early."""
        started = sum(trial.max_epochs for trial in self.state.trials)
        return started + self.trials_remaining * self.config.budget.max_epochs

    @property
    def best_trial(self) -> TrialRecord | None:
        """Trial with the best value of the metric."""
        return next(iter(self.state.ranked(self.config.metric)), None)

    @property
    def best_value(self) -> float | None:
        """Best value of the metric."""
        trial = self.best_trial
        return None if trial is None else trial.best_value(self.config.metric)


def seconds_left(config: SearchConfig, state: ExperimentState) -> float | None:
    """Estimate how long a running search still takes, in seconds; None before the first epoch.

    A trial that has not ended is expected to take as long as those that ended did on average, or,
    if none has, all its epochs. Trials without a network, which take no time, are left out.
    """
    trained = [trial for trial in state.trials if not is_wide_only(trial.params)]
    running = [trial for trial in trained if trial.status == "unfinished"]
    ended = [trial for trial in trained if trial.status != "unfinished" and trial.epochs]
    epochs = [epoch for trial in trained for epoch in trial.epochs]
    if not epochs:
        return None
    per_epoch = sum(map(_seconds, epochs)) / len(epochs)
    if ended:
        expected = sum(_seconds(epoch) for trial in ended for epoch in trial.epochs) / len(ended)
    else:
        expected = per_epoch * config.budget.max_epochs
    started = sum(max(expected - per_epoch * trial.epochs_done, 0.0) for trial in running)
    missing = planned_trials(config, state) - len(state.trials)
    return (started + missing * expected) / max(1, len(running))


def _seconds(epoch: EpochReported) -> float:
    return epoch.metrics.get("seconds", 0.0)


def as_plain(name: str, summary: ExperimentSummary) -> dict[str, Any]:
    """Return a summary as an object of JSON (docs/results.md lists its fields).

    Args:
        name: the experiment's name.
        summary: its summary.
    """
    state, metric, best = summary.state, summary.config.metric, summary.best_trial
    counts = {
        "completed": state.count("completed"),
        "pruned": state.count("pruned"),
        "failed": state.count("failed"),
        "unfinished": state.count("unfinished"),
    }
    created = state.created
    return {
        "name": name,
        "status": summary.status,
        "end_reason": summary.end_reason,
        "metric": metric,
        "best_value": summary.best_value,
        "best_trial": None if best is None else best.number,
        "trials": {**counts, "not_started": summary.trials_remaining},
        "epochs": summary.epochs,
        "max_epochs": summary.max_epochs,
        "fingerprint": created.fingerprint if created else None,
        "updated_at": state.updated_at,
    }


def summarize(experiment: Experiment) -> ExperimentSummary:
    """Read the status of an experiment, whether or not it is running.

    Raises:
        InputError: the config or the ledger is damaged.
    """
    snapshot = experiment.snapshot()
    reason = end_reason(snapshot.config, snapshot.state)
    status: Status = "stopped" if snapshot.state.ended else "killed"
    if snapshot.running:
        status = "running"
    elif reason is not None:
        status = "finished"
    return ExperimentSummary(snapshot.config, snapshot.state, status, reason)
