"""Experiments where they are kept: on the disk, or in an object store.

See `search.local_folder` and `search.remote_folder` for what lies there.

The storage is the first of: what the caller names, $CELLTUNE_STORAGE, ~/celltune_results; a path or
a URI.
"""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError, LedgerError
from celltune.search.ledger.events import Event
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.storage.object_path import ObjectPath, is_uri

CONFIG = "experiment.yaml"
STOP = "stop"


StorageRoot = Path | ObjectPath
"""A storage: what holds experiments."""


def storage_root(storage: Path | str | None = None) -> StorageRoot:
    """Give the storage, a folder's absolute path or a URI; it need not exist.

    Raises:
        ExperimentError: it is a URI that can't be used.
    """
    chosen = storage or os.environ.get("CELLTUNE_STORAGE") or "~/celltune_results"
    if isinstance(chosen, str) and is_uri(chosen):
        return ObjectPath.parse(chosen)
    return Path(chosen).expanduser().absolute()


class ExperimentFolder(ABC):
    """One experiment, wherever it is kept."""

    @property
    @abstractmethod
    def root(self) -> StorageRoot:
        """The storage that it is in."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The experiment's name."""

    @property
    @abstractmethod
    def scratch(self) -> Path:
        """Where Ray Tune may write what nobody needs; always on this machine's disk."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the name is taken."""

    @abstractmethod
    def complete(self) -> bool:
        """Whether an experiment is there, with its config and its ledger."""

    @abstractmethod
    def config(self) -> SearchConfig:
        """Read the config it was launched with."""

    @abstractmethod
    def events(self) -> list[Event]:
        """Read its ledger; safe while a search writes.

        Raises:
            LedgerError: it can't be read, or is damaged.
        """

    @abstractmethod
    def open_ledger(self) -> Ledger:
        """Open its ledger for writing; only while `locked`."""

    @abstractmethod
    def checkpoints(self, number: int) -> Checkpoints:
        """Where a trial's checkpoints are."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Be the only driver of this experiment. A lock that a dead process left is free.

        Raises:
            ExperimentError: another process drives it.
        """

    @abstractmethod
    def is_locked(self) -> bool:
        """Whether a driver runs this experiment now."""

    @abstractmethod
    def create(self, config: SearchConfig, *events: Event) -> None:
        """Write it as a new experiment, whole or not at all (see `create`)."""

    @property
    @abstractmethod
    def stop_mark(self) -> Path | ObjectPath:
        """What is there while someone asks the driver to stop."""

    def request_stop(self) -> None:
        """Ask the driver of this experiment to stop.

        Raises:
            ExperimentError: the request can't be left.
        """
        try:
            self.stop_mark.write_bytes(b"")
        except OSError as error:
            raise ExperimentError(
                f"The experiment {self.where} can't be written: {error.strerror}. Stop the search "
                "with Ctrl-C where it runs."
            ) from error

    def stop_requested(self) -> bool:
        """Whether someone asked the driver to stop; a storage that is away says no."""
        try:
            return self.stop_mark.is_file()
        except OSError:
            return False

    def clear_stop(self) -> None:
        """Forget that someone asked."""
        with suppress(OSError):
            self.stop_mark.unlink()

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return str(self.root / self.name)

    def state(self) -> ExperimentState:
        """Read its state off the ledger; safe while a search writes.

        Raises:
            LedgerError: the ledger can't be read, or is damaged.
        """
        return state_of(self.where, self.events())

    def arguments(self) -> str:
        """What to type after a command to name this experiment."""
        if self.root == storage_root():
            return self.name
        return f"{self.name} --storage {shlex.quote(str(self.root))}"

    def refused(self, owner: str) -> ExperimentError:
        """The error for a second driver."""
        return ExperimentError(
            f"The experiment '{self.name}' is being run by another process ({owner}). "
            f"Watch it with: celltune status {self.arguments()}"
        )

    def taken(self) -> ExperimentError:
        """The error for a name that is in use."""
        return ExperimentError(
            f"An experiment '{self.name}' exists already in {self.root}. To go on with it: "
            f"celltune resume {self.arguments()}. To start another one, choose another --name."
        )


def state_of(where: object, events: list[Event]) -> ExperimentState:
    """Fold a ledger's events; an order that can't be is told as damage of the ledger `where`."""
    state = ExperimentState()
    for index, event in enumerate(events):
        try:
            state.apply(event)
        except ValueError as error:
            raise LedgerError(
                f"The ledger of {where} contradicts itself in line {index + 1}: {error}. Nothing "
                "was changed. Put it back from a copy."
            ) from error
    return state


def create(folder: ExperimentFolder, config: SearchConfig, *events: Event) -> None:
    """Write a new experiment; whoever looks sees it whole or not at all.

    Raises:
        ExperimentError: the name is taken, or the storage can't be written.
    """
    folder.create(config, *events)


def unreadable(storage: StorageRoot, error: OSError) -> ExperimentError:
    """The error for a storage that can't be read."""
    return ExperimentError(f"The storage {storage} can't be read: {error.strerror}.")
