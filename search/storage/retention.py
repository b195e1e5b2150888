"""Keeps the disk from filling: removes checkpoints that nothing can need any more.

Kept are a running trial's newest two (the second in case the first is damaged), and of every
trial the newest and the best by the experiment's metric. A checkpoint is looked at only after the
ledger acknowledged it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celltune.search.ledger.events import EpochReported, Event, TrialStopped
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.base import Experiment
from celltune.search.types import Metric

_log = logging.getLogger(__name__)


class CheckpointRetention:
    """An observer of the conductor's events."""

    def __init__(self, folder: Experiment, metric: Metric) -> None:
        """Keep the checkpoints of the experiment in `folder`."""
        self._folder = folder
        self._metric = metric
        self._there: dict[int, list[str]] = {}

    def __call__(self, event: Event, state: ExperimentState) -> None:
        """Remove what the event made dispensable."""
        if isinstance(event, EpochReported):
            # What an earlier driver left is known from the trial's first event in this run on.
            known = self._there.get(event.number)
            names = _names(state.trials[event.number].epochs) if known is None else known
            self._tidy(state.trials[event.number], [*names, *_names([event])])
        elif isinstance(event, TrialStopped):
            # Once for all: a trial that went back to an older checkpoint wrote some a second time.
            self._tidy(state.trials[event.number], _names(state.trials[event.number].epochs))

    def _tidy(self, trial: TrialRecord, names: Sequence[str]) -> None:
        wanted = self._wanted(trial)
        for name in dict.fromkeys(names):
            if name not in wanted:
                self._remove(trial.number, name)
        self._there[trial.number] = [name for name in dict.fromkeys(names) if name in wanted]

    def _wanted(self, trial: TrialRecord) -> set[str | None]:
        newest = 2 if trial.status == "unfinished" else 1
        best = trial.best(self._metric)
        wanted = {epoch.checkpoint for epoch in trial.epochs[-newest:]}
        return wanted | ({best.checkpoint} if best else set())

    def _remove(self, number: int, name: str) -> None:
        checkpoints = self._folder.checkpoints(number)
        try:
            checkpoints.remove(name)
        except OSError as error:
            where = checkpoints.location(name)
            _log.warning("The checkpoint %s can't be removed: %s", where, error.strerror)


def _names(epochs: Sequence[EpochReported]) -> list[str]:
    return [epoch.checkpoint for epoch in epochs if epoch.checkpoint is not None]
