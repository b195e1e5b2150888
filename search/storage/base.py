"""The interface of a storage and of the experiments in it.

A storage backend consists of a `Storage`, its `Experiment`s and their `Checkpoints`. Every backend
guarantees the same (`celltune.testing.storage` contains the tests for it):

- **Creation is atomic**: a reader sees a new experiment completely or not at all, and of two
  processes that create the same name, one fails.
- **One driver at a time**: `Experiment.locked` admits one process. The lock of a dead process
  becomes free without a manual step.
- **Appends are durable**: events are on permanent storage when `Ledger.append` returns. After a
  crash, the ledger contains a prefix of what was appended, at least all acknowledged events.
- **Reads work during a search**: names, configs, events and checkpoints can be read without the
  lock; a reader sees an old or a new checkpoint, never a mixture.
- **Errors**: `ExperimentError` or `LedgerError` for what a user can fix. `Checkpoints` raise
  `OSError` if the storage fails and `CheckpointError` if a checkpoint is missing or damaged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import Event
from celltune.search.ledger.fields import NAME
from celltune.search.ledger.ledger import Ledger, LedgerLines
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.storage.consistency import check_state
from celltune.search.storage.contents import NewFile, StoredFile
from celltune.search.storage.launched import ConfigFile, launched_config
from celltune.search.storage.snapshot import Snapshot, first_event, replay, with_budget

CONFIG = "experiment.yaml"
"""File name of an experiment's config."""
STOP = "stop"
"""File name of the marker that requests a stop."""
TENSORBOARD = "tensorboard"
"""Folder of the copy for TensorBoard."""


class StorageFile(Protocol):
    """A small file of a storage. `pathlib.Path` has these methods."""

    def read_bytes(self) -> bytes:
        """Return the content.

        Raises:
            FileNotFoundError: the file is missing.
            OSError: the storage cannot be read.
        """

    def write_bytes(self, content: bytes, /) -> object:
        """Replace the content.

        Raises:
            OSError: the storage cannot be written.
        """

    def is_file(self) -> bool:
        """Return whether the file exists."""

    def unlink(self) -> None:
        """Remove the file.

        Raises:
            FileNotFoundError: the file is missing.
            OSError: the storage cannot be written.
        """


class Storage(ABC):
    """A place that contains experiments by name.

    Instances are small and picklable, because every node checks its access to the storage.
    `str(storage)` is an address that opens the same storage again.
    """

    @classmethod
    @abstractmethod
    def open(cls, address: str) -> Storage:
        """Return the storage at a path or URI. It may not exist yet; nothing is written.

        Raises:
            ExperimentError: the address is invalid.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Return the address."""

    @abstractmethod
    def __truediv__(self, name: str) -> Storage:
        """Return the storage in the subfolder `name`."""

    @abstractmethod
    def experiment(self, name: str) -> Experiment:
        """Return the experiment of this name; it may not exist yet."""

    @abstractmethod
    def candidates(self) -> list[str]:
        """Return the names of all complete experiments; other names may be among them.

        Raises:
            ExperimentError: the storage cannot be read.
            OSError: the same.
        """

    @abstractmethod
    def file(self, name: str) -> StorageFile:
        """Return a file at the top of the storage, for the check that all nodes see it."""

    @property
    def local_folder(self) -> Path | None:
        """The folder that contains the experiments; None if they are not in a file system.

        On the driver's own node, access to a folder needs no check.
        """
        return None

    def finish_deletions(self) -> int:
        """Remove what interrupted deletions left behind, and return of how many experiments.

        Raises:
            ExperimentError: the storage cannot be read.
        """
        return 0

    def temporarily_created(self) -> AbstractContextManager[None]:
        """Create the storage if it is missing; on exit, remove it if it is new and empty.

        Raises:
            OSError: the storage cannot be created.
        """
        return nullcontext()

    def names(self) -> list[str]:
        """Return the names of the experiments, sorted.

        Raises:
            ExperimentError: the storage cannot be read.
        """
        with read_errors(self):
            return sorted(name for name in self.candidates() if NAME.fullmatch(name))


class Experiment(ABC):
    """A named search with its config, ledger and checkpoints, in a storage."""

    def __init__(self, storage: Storage, name: str) -> None:
        """Refer to the experiment `name`; it may not exist yet."""
        self.storage = storage
        self.name = name
        self._writer: Ledger | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    @property
    def location(self) -> str:
        """The experiment's address, for messages."""
        return str(self.storage / self.name)

    @abstractmethod
    def exists(self) -> bool:
        """Return whether the name is in use.

        Raises:
            ExperimentError: the storage cannot be read.
        """

    @abstractmethod
    def is_complete(self) -> bool:
        """Return whether there is an experiment, even if a part of it was lost."""

    def check_can_be_created(self) -> None:  # noqa: B027 (optional for a backend)
        """Check, before a run is prepared, that the storage can be written, if that is quick.

        Raises:
            ExperimentError: the storage cannot be written.
        """

    @abstractmethod
    def create(self, config: SearchConfig, *events: Event, files: Iterable[NewFile] = ()) -> None:
        """Create the experiment with its config and first events, atomically.

        Args:
            config: the config.
            events: the first events.
            files: further files that it contains from the beginning, such as checkpoints.

        Raises:
            ExperimentError: the name is in use, or the storage cannot be written.
        """

    def delete(self) -> None:
        """Remove the experiment with all that it contains; the caller does not hold its lock.

        After a crash at any moment the experiment is complete or no longer listed, and its name is
        free.

        Raises:
            ExperimentError: the experiment is running, or cannot be removed.
        """
        raise self._unsupported("removed")

    def files(self) -> Iterator[StoredFile]:
        """Yield all files of the experiment.

        Raises:
            ExperimentError: they cannot be listed.
        """
        raise self._unsupported("listed")

    @property
    @abstractmethod
    def config_file(self) -> ConfigFile:
        """The file with the config, `CONFIG`."""

    @abstractmethod
    def events(self) -> list[Event]:
        """Return all events of the ledger; also works while a search appends to it.

        Raises:
            LedgerError: the ledger cannot be read, or is damaged.
        """

    @abstractmethod
    def ledger_lines(self) -> Path | EnclosedPath | LedgerLines:
        """Return the stored lines of the ledger, or the path of its file, for `open_ledger`.

        Raises:
            ExperimentError: this instance does not hold the lock.
        """

    def open_ledger(self) -> Ledger:
        """Open the ledger for writing. The caller holds the lock (see `locked`).

        Raises:
            ExperimentError: this instance does not hold the lock.
            LedgerError: the ledger cannot be written, or is damaged.
        """
        self._writer = Ledger(self.ledger_lines())
        return self._writer

    def check_in_place(self) -> None:
        """Check that the ledger that `open_ledger` opened is still there.

        Raises:
            StorageError: the experiment was removed or moved.
            LedgerError: another driver took over.
        """
        if self._writer is not None:
            with suppress(OSError):  # An outage matters only for appends.
                self._writer.check_in_place()

    @abstractmethod
    def checkpoints(self, number: int) -> Checkpoints:
        """Return the checkpoints of trial `number`."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Lock the experiment for one driver while the context is open.

        Raises:
            ExperimentError: another process holds the lock, or the storage cannot be written.
        """

    @abstractmethod
    def is_locked(self) -> bool:
        """Return whether a driver is running the experiment."""

    @property
    @abstractmethod
    def stop_marker(self) -> StorageFile:
        """The file that exists while a stop is requested."""

    def request_stop(self) -> None:
        """Ask the driver of this experiment to stop.

        Raises:
            ExperimentError: the request cannot be written.
        """
        try:
            self.stop_marker.write_bytes(b"")
        except OSError as error:
            raise ExperimentError(
                f"The stop request cannot be written to {self.location}: {error.strerror}. Stop "
                "the search with Ctrl-C in its own terminal."
            ) from error

    def stop_requested(self) -> bool:
        """Return whether a stop is requested; False if the storage cannot be reached."""
        try:
            return self.stop_marker.is_file()
        except OSError:
            return False

    def clear_stop(self) -> None:
        """Withdraw a requested stop."""
        with suppress(OSError):
            self.stop_marker.unlink()

    def config(self, *, restore: bool = False) -> SearchConfig:
        """Return the config that the experiment was launched with.

        Its budget may no longer be in force; see `snapshot`.

        Args:
            restore: whether to write a missing or damaged config file again. The caller holds the
                lock.

        Raises:
            InputError: the ledger is damaged, or the config was edited after the launch.
        """
        created = first_event(self.events(), self.location)
        return launched_config(self.config_file, created, self.name, restore=restore)

    def state(self) -> ExperimentState:
        """Return the state at the end of the ledger; also works while a search appends to it.

        Raises:
            InputError: see `snapshot`.
        """
        return self.snapshot(check_running=False).state

    def snapshot(self, *, check_running: bool = True) -> Snapshot:
        """Read the experiment as it is now; also works while a search runs.

        Args:
            check_running: Check for a driver. In an object store this takes seconds if a driver on
                another machine was killed.

        Raises:
            LedgerError: the ledger cannot be read, is damaged, or contradicts its config.
            ExperimentError: the config was edited after the launch.
            ConfigError: the config is invalid, and the ledger has no copy.
        """
        # The check comes first. A search that ends in between is reported as running; in the
        # reverse order, a running one could be reported as killed.
        running = check_running and self.is_locked()
        events = self.events()
        state = replay(events, self.location)
        config = launched_config(self.config_file, first_event(events, self.location), self.name)
        check_state(config, state, self.location)
        return Snapshot(self.name, with_budget(config, state), events, state, running)

    def _unsupported(self, verb: str) -> ExperimentError:
        return ExperimentError(
            f"The files of {self.location} cannot be {verb}: the backend of this storage does not "
            "support it. Use the storage's own tools."
        )

    def locked_error(self, owner: str) -> ExperimentError:
        """Return the error for a second driver; `owner` describes the first."""
        return ExperimentError(
            f"The experiment '{self.name}' is being run by another process ({owner}). Wait until "
            "it ends, or stop it first."
        )

    def exists_error(self) -> ExperimentError:
        """Return the error for a name that is in use."""
        return ExperimentError(
            f"An experiment '{self.name}' already exists in {self.storage}. Resume it, or choose "
            "another `name`."
        )


@contextmanager
def read_errors(storage: Storage) -> Iterator[None]:
    """Raise an `OSError` of the body as the error for a storage that cannot be read."""
    try:
        yield
    except OSError as error:
        raise ExperimentError(f"The storage {storage} cannot be read: {error.strerror}.") from error
