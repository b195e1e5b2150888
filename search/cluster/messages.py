"""Messages between the driver and its workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from celltune.data_prep.cache.ray_store import DataHandle
from celltune.errors import CelltuneError
from celltune.search.ledger.causes import Cause
from celltune.search.tuning.trial import TrialTask
from celltune.search.tuning.trial_group import TrialGroup
from celltune.search.types import EpochReport


@dataclass(frozen=True)
class WorkerTask:
    """The trials with which a worker starts, and how it trains them."""

    trials: tuple[TrialTask, ...]
    data: DataHandle
    work: Work
    """Importable in the worker."""
    threads: int = 1
    """Number of torch threads."""
    memory_gb: float | None = None
    """Memory limit of the worker in GB (1e9 bytes); see `Resources.memory_per_trial_gb`."""


Work = Callable[[WorkerTask], TrialGroup]
"""Prepares a worker and returns the empty group to which its trials are added."""


@dataclass(frozen=True)
class WorkerFailure:
    """An error that ended a trial, or the whole run."""

    message: str
    cause: Cause | None = None
    """Why the trial is retried; `None` if the same error would occur again."""
    details: str = ""
    """The traceback."""
    data_lost: bool = False
    """True if the prepared data has to be published again."""
    ends_run: type[CelltuneError] | None = None
    """The error that ends the run, because no trial can continue: for example a `StorageError` if
    the storage cannot be written. `None` if only this trial is affected."""


@dataclass(frozen=True)
class TrialReport:
    """What happened to one trial of a worker in a step."""

    number: int
    epochs: tuple[EpochReport, ...]
    """Epochs finished since the last report, in order."""
    failure: WorkerFailure | None = None
    """Error that occurred after these epochs."""


@dataclass(frozen=True)
class WorkerReport:
    """Report of a worker to the driver after one step."""

    trials: tuple[TrialReport, ...]
    """In the order in which the trials were added to the worker."""
