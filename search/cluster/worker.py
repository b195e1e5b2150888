"""Worker process that trains trials."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray import tune

from celltune.data_prep.cache import ray_store
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataLostError
from celltune.errors import InputError
from celltune.models.errors import TrialError
from celltune.search.cluster.memory_limit import is_out_of_memory, limit_memory
from celltune.search.cluster.messages import (
    TrialReport,
    WorkerFailure,
    WorkerReport,
    WorkerTask,
)
from celltune.search.errors import StorageError
from celltune.search.ledger.causes import Cause
from celltune.search.tuning.pack import Pack
from celltune.search.tuning.trial import TrialTask, run_trial
from celltune.search.tuning.trial_group import SeparateTrials, TrialGroup
from celltune.search.types import EpochReport

_log = logging.getLogger(__name__)
_LOST_CONTEXT = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "misaligned address",
    "device-side assert triggered",
    "hardware stack error",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "unspecified launch failure",
)
"""Texts of CUDA errors after which every CUDA call of the process fails (CUDA Runtime API, "Data
types used by CUDA Runtime", `cudaError_t`)."""
_BATCHING_SECONDS = 0.005
"""Epochs that finish within this time are sent in one report."""


def train_separately(task: WorkerTask) -> TrialGroup:
    """Return a group that trains each trial on its own, on published data."""
    return SeparateTrials(partial(run_trial, data=_prepared_process(task)))


def train_packed(task: WorkerTask) -> TrialGroup:
    """Return a group that trains its trials as one batched model, on published data."""
    return Pack(_prepared_process(task), device=task.trials[0].device)


def _prepared_process(task: WorkerTask) -> PreparedData:
    """Apply the limits of a task to this process, free cached GPU memory, and open its data."""
    import torch

    torch.set_num_threads(task.threads)
    # PyTorch keeps the memory of ended trials, which other workers on the GPU cannot use.
    torch.cuda.empty_cache()
    if task.memory_gb is not None:
        limit_memory(task.memory_gb)
    return ray_store.open_handle(task.data)


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Ray Tune trainable that trains one group of trials after another in the same process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start with the trials of `config["task"]`, a `WorkerTask`."""
        self._start(config["task"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start with other trials in this process."""
        self._start(new_config["task"])
        return True

    def _start(self, task: WorkerTask) -> None:
        # Everything that can fail is done in `step`, where errors are reported: an exception here
        # would kill the worker.
        self._task = task
        self._group: TrialGroup | None = None
        self._trials: dict[int, TrialTask] = {}
        self._removed: list[int] = []
        self._added = list(task.trials)

    def replace_trials(self, removed: Sequence[int], added: Sequence[TrialTask]) -> None:
        """Replace trials of the group before the next step.

        Args:
            removed: numbers of the trials that have ended.
            added: the trials that take their places.
        """
        self._removed += removed
        self._added += added

    def step(self) -> dict[str, Any]:
        """Train at least one epoch and return `{"reports": [WorkerReport]}`.

        Very short epochs share a report, so that the driver's event loop and its disk keep up. Real
        epochs do not: writing a checkpoint alone takes longer. An exception becomes part of the
        report, so that the worker survives it.

        Raises:
            RuntimeError: this process can no longer use its GPU. Ray replaces the worker.
        """
        # A list, because the driver has to take the report out of it (see `SchedulerAdapter`).
        try:
            return {"reports": [self._next_report()]}
        except RuntimeError as error:
            # Ray does not pass the reason on to the driver.
            _log.error("A worker ends, because its process can no longer use the GPU: %s", error)
            raise

    def _next_report(self) -> WorkerReport:
        report = _ReportBuilder()
        started = time.monotonic()
        try:
            group = self._updated_group(report)
            while not report.any_ended and (
                report.is_empty or time.monotonic() - started < _BATCHING_SECONDS
            ):
                for number, outcome in group.run_epoch().items():
                    report.add(self._trials[number], outcome)
        except Exception as error:  # noqa: BLE001 (any error ends the trials, not the worker)
            for trial in (*self._trials.values(), *self._added):
                report.add(trial, error)
        return report.build()

    def _updated_group(self, report: _ReportBuilder) -> TrialGroup:
        """Remove the trials that have ended and add new ones; report those that cannot be added."""
        if self._group is None:
            self._group = self._task.work(self._task)
        while self._removed:
            number = self._removed.pop()
            if self._trials.pop(number, None) is not None:
                self._group.remove(number)
        while self._added:
            trial = self._added[0]
            try:
                self._group.add(trial)
            except Exception as error:  # noqa: BLE001 (the other trials go on)
                report.add(trial, error)
            else:
                self._trials[trial.number] = trial
            del self._added[0]
        return self._group


class _ReportBuilder:
    """Collects the outcomes of a step."""

    def __init__(self) -> None:
        self._epochs: dict[int, list[EpochReport]] = {}
        self._failures: dict[int, WorkerFailure] = {}
        self.any_ended = False
        """True if a trial has failed or used all of its epochs, so that the driver has to know."""

    @property
    def is_empty(self) -> bool:
        return not self._epochs

    def add(self, trial: TrialTask, outcome: EpochReport | Exception) -> None:
        """Add an epoch of a trial, or its first error."""
        epochs = self._epochs.setdefault(trial.number, [])
        if isinstance(outcome, EpochReport):
            epochs.append(outcome)
            self.any_ended |= trial.max_epochs is not None and outcome.epoch >= trial.max_epochs
        else:
            self._failures.setdefault(trial.number, _failure(outcome))
            self.any_ended = True

    def build(self) -> WorkerReport:
        return WorkerReport(
            tuple(
                TrialReport(number, tuple(epochs), self._failures.get(number))
                for number, epochs in self._epochs.items()
            )
        )


def _failure(error: Exception) -> WorkerFailure:
    """Describe an exception for a worker report, or raise it if the worker must not survive it."""
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _LOST_CONTEXT):
        raise error
    if isinstance(error, DataLostError):
        return WorkerFailure(str(error), cause="lost", data_lost=True)
    if isinstance(error, (StorageError, InputError)):
        return WorkerFailure(str(error), ends_run=type(error))
    message = str(error) or type(error).__name__
    details = "".join(traceback.format_exception(error))
    return WorkerFailure(message, cause=_retry_cause(error), details=details)


def _retry_cause(error: Exception) -> Cause | None:
    """Return why a trial is retried after `error`, or `None` if the error would occur again."""
    if isinstance(error, TrialError):
        return None
    return "memory" if is_out_of_memory(error) else "raised"
