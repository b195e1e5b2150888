"""Worker process that trains trials."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from typing import Any

from ray import tune

from celltune.data_prep.cache import ray_store
from celltune.data_prep.errors import DataLostError
from celltune.errors import InputError
from celltune.models.errors import TrialError
from celltune.search.cluster.memory_limit import is_out_of_memory, limit_memory
from celltune.search.cluster.messages import WorkerFailure, WorkerReport, WorkerTask
from celltune.search.errors import StorageError
from celltune.search.ledger.events import Cause
from celltune.search.tuning.trial import TrialTask, run_trial
from celltune.search.types import EpochReport

_BATCHING_SECONDS = 0.005
"""Epochs that finish within this time are sent in one report."""


def train(task: TrialTask, data: ray_store.DataHandle) -> Iterator[EpochReport]:
    """Train a trial on published data (see `celltune.search.tuning.trial.run_trial`)."""
    import torch

    torch.set_num_threads(task.threads)
    if task.memory_gb is not None:
        limit_memory(task.memory_gb)
    yield from run_trial(task, ray_store.open_handle(data))


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Ray Tune trainable that trains one trial after another in the same process."""

    _epochs: Iterator[EpochReport]
    _max_epochs: int

    def setup(self, config: dict[str, Any]) -> None:
        """Start the trial of `config["task"]`, a `WorkerTask`."""
        self._start(config["task"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in this process."""
        self._start(new_config["task"])
        return True

    def _start(self, task: WorkerTask) -> None:
        # `work` returns a generator: its first statement runs in `step`, where errors are reported.
        # An exception here would kill the worker.
        self._epochs = task.work(task.trial, task.data)
        self._max_epochs = task.max_epochs

    def step(self) -> dict[str, Any]:
        """Train at least one epoch and return `{"reports": [WorkerReport]}`.

        Very short epochs share a report, so that the driver's event loop and its disk keep up. Real
        epochs do not: writing a checkpoint alone takes longer. An exception becomes part of the
        report, so that the worker survives it.
        """
        # A list, because the driver has to take the report out of it (see `SchedulerAdapter`).
        return {"reports": [self._next_report()]}

    def _next_report(self) -> WorkerReport:
        epochs: list[EpochReport] = []
        started = time.monotonic()
        while not epochs or (
            time.monotonic() - started < _BATCHING_SECONDS and epochs[-1].epoch < self._max_epochs
        ):
            try:
                epochs.append(next(self._epochs))
            except Exception as error:  # noqa: BLE001 (any error ends the trial, not the worker)
                return WorkerReport(tuple(epochs), _failure(error))
        return WorkerReport(tuple(epochs))


def _failure(error: Exception) -> WorkerFailure:
    """Describe an exception for a worker report; call it inside `except`."""
    if isinstance(error, DataLostError):
        return WorkerFailure(str(error), cause="lost", data_lost=True)
    if isinstance(error, (StorageError, InputError)):
        return WorkerFailure(str(error), ends_run=type(error))
    message = str(error) or type(error).__name__
    return WorkerFailure(message, cause=_retry_cause(error), details=traceback.format_exc())


def _retry_cause(error: Exception) -> Cause | None:
    """Return why a trial is retried after `error`, or `None` if the error would occur again."""
    if isinstance(error, TrialError):
        return None
    return "memory" if is_out_of_memory(error) else "raised"
