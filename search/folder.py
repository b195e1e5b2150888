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

from search.checkpoints import Checkpoints
from search.config import NAME, SearchConfig
from search.errors import ExperimentError, LedgerError
from search.events import Event
from search.ledger import Ledger
from search.remote_path import RemotePath, is_uri
from search.spelling import nearest
from search.state import ExperimentState

CONFIG = "experiment.yaml"
STOP = "stop"


Root = Path | RemotePath
"""A storage: what holds experiments."""


def storage_root(storage: Path | str | None = None) -> Root:
    """Give the storage, a folder's absolute path or a URI; it need not exist.

    Raises:
        ExperimentError: it is a URI that can't be used.
    """
    chosen = storage or os.environ.get("CELLTUNE_STORAGE") or "~/celltune_results"
    if isinstance(chosen, str) and is_uri(chosen):
        return RemotePath.parse(chosen)
    return Path(chosen).expanduser().absolute()


class Folder(ABC):
    """One experiment, wherever it is kept."""

    @property
    @abstractmethod
    def root(self) -> Root:
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
    def stop_mark(self) -> Path | RemotePath:
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


def at(name: str, storage: Root) -> Folder:
    """Give the place of an experiment; it need not exist."""
    if isinstance(storage, Path):
        from search.local_folder import LocalFolder

        return LocalFolder(storage / name)
    from search.remote_folder import RemoteFolder

    return RemoteFolder(storage, name)


def reserve_name(name: str, storage: Root) -> Folder:
    """Check that an experiment of this name can be created; nothing is written.

    Raises:
        ExperimentError: the name is no name, or is taken, or the storage can't be read.
    """
    if not NAME.fullmatch(name):
        raise ExperimentError(
            f"'{name}' can't name an experiment: use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit."
        )
    folder = at(name, storage)
    if folder.exists():
        raise folder.taken()
    return folder


def create(folder: Folder, config: SearchConfig, *events: Event) -> None:
    """Write a new experiment; whoever looks sees it whole or not at all.

    Raises:
        ExperimentError: the name is taken, or the storage can't be written.
    """
    folder.create(config, *events)


def names(storage: Root) -> list[str]:
    """Give the names of the experiments in a storage, in order.

    Raises:
        ExperimentError: the storage can't be read.
    """
    try:
        found = _local_names(storage) if isinstance(storage, Path) else _remote_names(storage)
    except OSError as error:
        raise unreadable(storage, error) from error
    return sorted(name for name in found if NAME.fullmatch(name))


def _local_names(storage: Path) -> list[str]:
    if storage.exists() and not storage.is_dir():
        raise ExperimentError(f"The storage {storage} is a file; name a folder with --storage.")
    return [path.parent.name for path in storage.glob(f"*/{CONFIG}")]


def _remote_names(storage: RemotePath) -> list[str]:
    return [name for name in storage.names() if at(name, storage).complete()]


def unreadable(storage: Root, error: OSError) -> ExperimentError:
    """The error for a storage that can't be read."""
    return ExperimentError(f"The storage {storage} can't be read: {error.strerror}.")


def find(name: str, storage: Root) -> Folder:
    """Find an experiment by name.

    Raises:
        ExperimentError: there is none, or the storage can't be read.
    """
    folder = at(name, storage)
    if NAME.fullmatch(name) and folder.complete():
        return folder
    known = names(storage)
    hint = (
        nearest(name, known).replace("Allowed:", "There are:")
        if known
        else "There is no experiment yet."
    )
    raise ExperimentError(
        f"There is no experiment '{name}' in {storage}. {hint} "
        "Another storage is chosen with --storage or $CELLTUNE_STORAGE."
    )
