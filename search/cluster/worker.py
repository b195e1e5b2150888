"""The worker process of a trial."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from ray import tune

from celltune.data_prep.cache import ray_store as store
from celltune.data_prep.errors import DataLostError
from celltune.errors import InputError
from celltune.models.errors import TrialError
from celltune.search.cluster.memory_limit import is_out_of_memory, limit_memory
from celltune.search.errors import StorageError
from celltune.search.ledger.events import Cause
from celltune.search.tuning.trial import TrialTask, run_trial
from celltune.search.types import EpochReport

Work = Callable[[TrialTask, store.DataHandle], Iterator[EpochReport]]
"""What a worker does for a trial: an item an epoch, until it isn't asked any more."""

_NEXT_TO_NO_TIME = 0.005
"""Seconds."""


def train(task: TrialTask, data: store.DataHandle) -> Iterator[EpochReport]:
    """Train a trial's model on published data (see `search.trial.run_trial`)."""
    import torch

    torch.set_num_threads(task.threads)
    if task.memory_gb is not None:
        limit_memory(task.memory_gb)
    yield from run_trial(task, store.open_handle(data))


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """A worker process: runs one trial after another, an epoch a step."""

    _epochs: Iterator[EpochReport]
    _last: int

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the trial that `config` describes."""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        # A generator begins with the first step: an error there is told, one here kills the worker.
        self._epochs = config["work"](config["task"], config["data"])
        self._last = config["max_epochs"]

    def step(self) -> dict[str, Any]:
        """Train an epoch; a trial's error is a result, so that the worker lives on.

        Epochs that take next to no time come several in a report, so that the driver's loop and
        its disk keep pace. Real ones never do: writing a checkpoint alone takes longer.
        """
        epochs: list[EpochReport] = []
        begun = time.monotonic()
        while not epochs or (
            time.monotonic() - begun < _NEXT_TO_NO_TIME and epochs[-1].epoch < self._last
        ):
            try:
                epochs.append(next(self._epochs))
            except Exception as error:  # noqa: BLE001 (whatever a trial raises ends that trial only)
                return {"epochs": epochs, **_told(error)}
        return {"epochs": epochs}


def _told(error: Exception) -> dict[str, Any]:
    """What a report says of an error, from within its except clause."""
    if isinstance(error, DataLostError):
        return {"failure": str(error), "cause": "lost", "details": "", "data_lost": True}
    if isinstance(error, (StorageError, InputError)):
        return {"fatal": str(error)}
    sentence = str(error) or type(error).__name__
    return {"failure": sentence, "cause": _cause_of(error), "details": traceback.format_exc()}


def _cause_of(error: Exception) -> Cause | None:
    """Why a trial is set back; None for an error that would come again."""
    if isinstance(error, TrialError):
        return None
    return "memory" if is_out_of_memory(error) else "raised"
