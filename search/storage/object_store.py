"""Experiments in an object store.

::

    <storage>/<name>/
        experiment.yaml     the resolved config
        ledger/             the events (see `ledger_segments`); its first object is written last,
                            and with it the experiment exists
        lock/               the driver's lease (see `lease`)
        stop                exists while a stop is requested
        trials/<number>/    checkpoints (see `checkpoints`)

A deletion first adds `ledger/deleted`: with this one object, the experiment no longer exists.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from celltune.search.config.loading import dump_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import Event
from celltune.search.ledger.fields import NAME
from celltune.search.storage import ledger_segments
from celltune.search.storage.base import CONFIG, STOP, Experiment, Storage, read_errors
from celltune.search.storage.checkpoints import ObjectStoreCheckpoints
from celltune.search.storage.contents import NewFile, StoredFile
from celltune.search.storage.lease import HeldError, Lease, is_leased
from celltune.search.storage.ledger_segments import SegmentedLedger
from celltune.search.storage.object_path import ObjectPath

DELETED = "deleted"
"""Name of the object beside the ledger's that marks an experiment which is being deleted."""


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

    def finish_deletions(self) -> int:
        """Remove the objects of experiments that are marked as deleted."""
        with read_errors(self):
            names = [
                name
                for name in self.root.names()
                if NAME.fullmatch(name) and DELETED in (self.root / name / "ledger").names()
            ]
        for name in names:
            self.experiment(name).delete()
        return len(names)


def _below(prefix: ObjectPath, parts: Sequence[str]) -> ObjectPath:
    return functools.reduce(operator.truediv, parts, prefix)


class ObjectStoreExperiment(Experiment):
    """An experiment in an object store."""

    storage: ObjectStorage

    def __init__(self, storage: ObjectStorage, name: str) -> None:
        """Refer to the experiment `name`; it may not exist yet."""
        super().__init__(storage, name)
        self._prefix = storage.root / name
        self._lease: Lease | None = None

    def exists(self) -> bool:
        """Return whether the ledger has an object, and its deletion has not begun."""
        with read_errors(self.storage):
            names = (self._prefix / "ledger").names()
        return bool(names) and DELETED not in names

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

    def files(self) -> Iterator[StoredFile]:
        """Yield all objects of the experiment."""
        with read_errors(self.storage):
            for parts, size in self._prefix.files():
                yield StoredFile(parts, size, _below(self._prefix, parts))

    def delete(self) -> None:
        """Mark the ledger as deleted, which a single object does, and then remove all objects."""
        with self.locked():
            try:
                (self._prefix / "ledger" / DELETED).write_bytes(b"")
                self._remove_content()
                if self._lease is not None:
                    self._lease.abandon()
                # The lease, and what the store may keep in place of empty folders.
                with suppress(FileNotFoundError):
                    self._prefix.remove_all()
            except OSError as error:
                raise ExperimentError(
                    f"The experiment {self.location} cannot be removed completely: "
                    f"{error.strerror}. Check the permissions of the storage, and delete it again."
                ) from error

    def _remove_content(self) -> None:
        """Remove everything but the lease, and last what marks the experiment as deleted."""
        for name in self._prefix.names():
            if name not in ("ledger", "lock"):
                path = self._prefix / name
                with suppress(FileNotFoundError):
                    path.unlink() if path.is_file() else path.remove_all()
        ledger = self._prefix / "ledger"
        # The mark is removed last.
        for name in sorted(ledger.names(), key=lambda name: name == DELETED):
            (ledger / name).unlink()

    def create(self, config: SearchConfig, *events: Event, files: Iterable[NewFile] = ()) -> None:
        """Write the config and then the first object of the ledger, while holding the lease."""
        with self.locked():
            if self.exists():
                raise self.exists_error()
            try:
                if DELETED in (self._prefix / "ledger").names():
                    self._remove_content()  # The deletion was interrupted.
                (self._prefix / CONFIG).write_bytes(dump_config(config).encode())
                for parts, content in files:
                    _below(self._prefix, parts).write_bytes(content)
            except OSError as error:
                raise ExperimentError(
                    f"The experiment '{self.name}' cannot be written to {self.storage}: "
                    f"{error.strerror}. Check the permissions of the storage, then launch it again."
                ) from error
            with self.open_ledger() as ledger:
                ledger.append(*events)
