"""Experiments in an object store.

::

    <storage>/<name>/
        experiment.yaml     the resolved config
        ledger/             what happened (see `search.segments`); begun last, and with that an
                            experiment is there
        lock/               the driver's lease (see `search.lease`)
        trials/<number>/    checkpoints (see `search.checkpoints`)
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from celltune.search.config.loading import dump_config, load_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import Event
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage import lease
from celltune.search.storage import ledger_segments as segments
from celltune.search.storage.base import CONFIG, STOP, ExperimentFolder
from celltune.search.storage.checkpoints import ObjectStoreCheckpoints
from celltune.search.storage.lease import HeldError, Lease
from celltune.search.storage.ledger_segments import SegmentedLedger
from celltune.search.storage.object_path import ObjectPath


@dataclass
class ObjectStoreExperiment(ExperimentFolder):
    """An experiment in an object store."""

    storage: ObjectPath
    title: str
    _lease: Lease | None = field(default=None, compare=False, repr=False)

    @property
    def root(self) -> ObjectPath:
        """The prefix of experiments."""
        return self.storage

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.title

    @property
    def scratch(self) -> Path:
        """A folder of this machine, always the same one for the same experiment and person."""
        digest = hashlib.sha256(f"{os.getuid()} {self.where}".encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"celltune-{digest}"

    @property
    def _place(self) -> ObjectPath:
        return self.storage / self.title

    def exists(self) -> bool:
        """Whether its ledger was begun."""
        with self._reading():
            return bool((self._place / "ledger").names())

    def complete(self) -> bool:
        """Whether its config is there, and its ledger was begun."""
        with self._reading():
            return (self._place / CONFIG).is_file() and self.exists()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ExperimentError(
                f"The storage {self.storage} can't be read: {error.strerror}."
            ) from error

    def config(self) -> SearchConfig:
        """Read the config it was launched with."""
        return load_config(self._place / CONFIG)

    def events(self) -> list[Event]:
        """Read its ledger."""
        return segments.read(self._place / "ledger")

    def open_ledger(self) -> Ledger:
        """Open its ledger for writing, as the holder of the lock.

        Raises:
            ExperimentError: this object doesn't hold the lock.
        """
        if self._lease is None:
            raise ExperimentError(
                f"The ledger of '{self.name}' can be written only by who holds its lock."
            )
        return Ledger(SegmentedLedger(self._place / "ledger", self._lease))

    def checkpoints(self, number: int) -> ObjectStoreCheckpoints:
        """Where a trial's checkpoints are."""
        return ObjectStoreCheckpoints(self._place / "trials" / str(number))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lease."""
        try:
            self._lease = Lease(self._place / "lock")
        except HeldError as error:
            raise self.refused(str(error)) from error
        except OSError as error:
            raise ExperimentError(
                f"The experiment {self.where} can't be written: {error.strerror}. "
                "Give yourself the right to write there, then try again."
            ) from error
        try:
            yield
        finally:
            self._lease.release()
            self._lease = None

    def is_locked(self) -> bool:
        """Whether a live driver has the lease."""
        with self._reading():
            return lease.hold_lease(self._place / "lock")

    @property
    def stop_mark(self) -> ObjectPath:
        """An object beside the config."""
        return self._place / STOP

    def create(self, config: SearchConfig, *events: Event) -> None:
        """Write the config, then begin the ledger, all while holding the lease."""
        with self.locked():
            if self.exists():
                raise self.taken()
            try:
                (self._place / CONFIG).write_bytes(dump_config(config).encode())
            except OSError as error:
                raise ExperimentError(
                    f"The experiment '{self.name}' can't be written in {self.storage}: "
                    f"{error.strerror}."
                ) from error
            with self.open_ledger() as new:
                new.append(*events)
