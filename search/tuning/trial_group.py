"""Trials that one worker trains at the same time, epoch by epoch. Uses neither Ray nor Optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from celltune.search.tuning.trial import TrialTask
from celltune.search.types import EpochReport


class TrialGroup(Protocol):
    """Trials in training. An error of one of them does not affect the others."""

    def add(self, task: TrialTask) -> None:
        """Add a trial, which continues from its newest usable checkpoint.

        Raises:
            TrialError: the trial cannot be trained.
            StorageError: a checkpoint cannot be read.
        """

    def remove(self, number: int) -> None:
        """Remove the trial with this number."""

    def run_epoch(self) -> Mapping[int, EpochReport | Exception]:
        """Train each trial for an epoch.

        Returns:
            By the trial's number: the report of the epoch, whose checkpoint is complete, or the
            error because of which the trial has to be removed.

        Raises:
            Exception: an error of all trials, such as exhausted memory.
        """


class SeparateTrials:
    """Trials that are trained independently of each other, one after the other."""

    def __init__(self, train: Callable[[TrialTask], Iterator[EpochReport]]) -> None:
        """Create an empty group.

        Args:
            train: trains a trial and yields each epoch's report until the caller stops iterating,
                as `run_trial` does.
        """
        self._train = train
        self._epochs: dict[int, Iterator[EpochReport]] = {}

    def add(self, task: TrialTask) -> None:
        """Add a trial; it is created at its first epoch."""
        self._epochs[task.number] = self._train(task)

    def remove(self, number: int) -> None:
        """Remove a trial."""
        del self._epochs[number]

    def run_epoch(self) -> dict[int, EpochReport | Exception]:
        """Train each trial for an epoch."""
        return {number: _next(epochs) for number, epochs in self._epochs.items()}


def _next(epochs: Iterator[EpochReport]) -> EpochReport | Exception:
    try:
        return next(epochs)
    except Exception as error:  # noqa: BLE001 (any error ends the trial, not the worker)
        return error
