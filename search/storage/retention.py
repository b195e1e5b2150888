"""Removal of checkpoints that are no longer needed, so that a search does not fill the storage."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celltune.search.ledger.events import EpochReported, Event, TrialStopped
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.base import Experiment
from celltune.search.types import Metric

_log = logging.getLogger(__name__)


class CheckpointRetention:
    """An observer of a search that removes checkpoints after each epoch.

    It keeps the newest two checkpoints of a running trial (the second in case the first is damaged)
    and, of every trial, the newest, the best by the experiment's metric, and those of members of
    ensembles. It only considers checkpoints of epochs that are in the ledger.
    """

    def __init__(self, experiment: Experiment, metric: Metric) -> None:
        """Remove checkpoints of `experiment`, whose trials are compared by `metric`."""
        self._experiment = experiment
        self._metric = metric
        self._existing: dict[int, list[str]] = {}

    def __call__(self, event: Event, state: ExperimentState) -> None:
        """Remove the checkpoints that are no longer needed after an event."""
        if isinstance(event, EpochReported):
            trial = state.trials[event.number]
            # At the trial's first event in this run, an earlier driver may have left others.
            existing = self._existing.get(event.number, _checkpoints(trial.epochs))
            self._remove_unneeded(trial, state, [*existing, *_checkpoints([event])])
        elif isinstance(event, TrialStopped):
            # All of them again: a trial that went back to an older checkpoint wrote some twice.
            trial = state.trials[event.number]
            self._remove_unneeded(trial, state, _checkpoints(trial.epochs))

    def _remove_unneeded(
        self, trial: TrialRecord, state: ExperimentState, names: Sequence[str]
    ) -> None:
        needed = self._needed(trial) | state.members_of_ensembles(trial.number)
        for name in dict.fromkeys(names):
            if name not in needed:
                self._remove(trial.number, name)
        self._existing[trial.number] = [name for name in dict.fromkeys(names) if name in needed]

    def _needed(self, trial: TrialRecord) -> set[str | None]:
        newest = 2 if trial.status == "unfinished" else 1
        best = trial.best(self._metric)
        needed = {epoch.checkpoint for epoch in trial.epochs[-newest:]}
        return needed | ({best.checkpoint} if best else set())

    def _remove(self, number: int, name: str) -> None:
        checkpoints = self._experiment.checkpoints(number)
        try:
            checkpoints.remove(name)
        except OSError as error:
            location = checkpoints.location(name)
            _log.warning("The checkpoint %s cannot be removed: %s", location, error.strerror)


def _checkpoints(epochs: Sequence[EpochReported]) -> list[str]:
    return [epoch.checkpoint for epoch in epochs if epoch.checkpoint is not None]
