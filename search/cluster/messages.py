"""Messages between the driver and its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from celltune.data_prep.cache.ray_store import DataHandle
from celltune.errors import CelltuneError
from celltune.search.ledger.events import Cause
from celltune.search.tuning.trial import TrialTask
from celltune.search.types import EpochReport

Work = Callable[[TrialTask, DataHandle], Iterator[EpochReport]]
"""Trains a trial and yields each epoch's result until the caller stops iterating."""


@dataclass(frozen=True)
class WorkerTask:
    """A trial that the driver assigns to a worker."""

    trial: TrialTask
    max_epochs: int
    data: DataHandle
    work: Work
    """Importable in the worker."""

    @property
    def number(self) -> int:
        """Number of the trial."""
        return self.trial.number


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
class WorkerReport:
    """Report of a worker to the driver after one step."""

    epochs: tuple[EpochReport, ...]
    """Epochs finished since the last report, in order."""
    failure: WorkerFailure | None = None
    """Error that occurred after these epochs."""
