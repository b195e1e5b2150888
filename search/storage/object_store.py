"""Experiments in an object store.

::

    <storage>/<name>/
        experiment.yaml     the resolved config
        ledger/             the events (see `ledger_segments`); its first object is written last,
                            and with it the experiment exists
        lock/               the driver's lease (see `lease`)
        stop                exists while a stop is requested
        trials/<number>/    checkpoints (see `checkpoints`)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celltune.search.config.loading import dump_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import Event
from celltune.search.storage import ledger_segments
from celltune.search.storage.base import CONFIG, STOP, Experiment, Storage, read_errors
from celltune.search.storage.checkpoints import ObjectStoreCheckpoints
from celltune.search.storage.lease import HeldError, Lease, is_leased
from celltune.search.storage.ledger_segments import SegmentedLedger
from celltune.search.storage.object_path import ObjectPath


@dataclass(frozen=True)
class ObjectStorage(Storage):
    """A storage in an object store.

    A backend derives from this class and implements `open`, with an `ObjectPath` of its own.
    """

    root: ObjectPath
    """The prefix that contains the experiments."""

    def __str__(self) -> str:
        return str(self.root)

    def __truediv__(self, name: str) -> ObjectStorage:
        return type(self)(self.root / name)

    def experiment(self, name: str) -> ObjectStoreExperiment:
        """Return the experiment of this name."""
        return ObjectStoreExperiment(self, name)

    def candidates(self) -> list[str]:
        """Return the names of all complete experiments."""
        return [name for name in self.root.names() if self.experiment(name).is_complete()]

    def file(self, name: str) -> ObjectPath:
        """Return an object directly under the root."""
        return self.root / name


class ObjectStoreExperiment(Experiment):
    """An experiment in an object store."""

    storage: ObjectStorage

    def __init__(self, storage: ObjectStorage, name: str) -> None:
        """Refer to the experiment `name`; it may not exist yet."""
        super().__init__(storage, name)
        self._prefix = storage.root / name
        self._lease: Lease | None = None

    def exists(self) -> bool:
        """Return whether the ledger has an object."""
        with read_errors(self.storage):
            return bool((self._prefix / "ledger").names())

    def is_complete(self) -> bool:
        """Return whether the experiment has a ledger."""
        return self.exists()

    @property
    def config_file(self) -> ObjectPath:
        """The object with the config."""
        return self._prefix / CONFIG

    def events(self) -> list[Event]:
        """Return all events of the ledger."""
        return ledger_segments.read(self._prefix / "ledger")

    def ledger_lines(self) -> SegmentedLedger:
        """Return the ledger; only within `locked`.

        Raises:
            ExperimentError: this instance does not hold the lock.
        """
        if self._lease is None:
            raise ExperimentError(
                f"The ledger of '{self.name}' cannot be opened for writing without its lock."
            )
        return SegmentedLedger(self._prefix / "ledger", self._lease)

    def checkpoints(self, number: int) -> ObjectStoreCheckpoints:
        """Return the checkpoints of trial `number`."""
        return ObjectStoreCheckpoints(self._prefix / "trials" / str(number))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the experiment's lease while the context is open."""
        try:
            self._lease = Lease(self._prefix / "lock", self.name)
        except HeldError as error:
            raise self.locked_error(str(error)) from error
        except OSError as error:
            raise ExperimentError(
                f"The experiment {self.location} cannot be written: {error.strerror}. Check the "
                "permissions of the storage."
            ) from error
        try:
            yield
        finally:
            self._lease.release()
            self._lease = None

    def is_locked(self) -> bool:
        """Return whether a live driver holds the lease."""
        with read_errors(self.storage):
            return is_leased(self._prefix / "lock")

    @property
    def stop_marker(self) -> ObjectPath:
        """An object next to the config."""
        return self._prefix / STOP

    def create(self, config: SearchConfig, *events: Event) -> None:
        """Write the config and then the first object of the ledger, while holding the lease."""
        with self.locked():
            if self.exists():
                raise self.exists_error()
            try:
                (self._prefix / CONFIG).write_bytes(dump_config(config).encode())
            except OSError as error:
                raise ExperimentError(
                    f"The experiment '{self.name}' cannot be written to {self.storage}: "
                    f"{error.strerror}. Check the permissions of the storage, then launch it again."
                ) from error
            with self.open_ledger() as ledger:
                ledger.append(*events)
