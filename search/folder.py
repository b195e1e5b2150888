"""Experiments where they are kept: on the disk, or in an object store (see `search.remote_folder`).

::

    <storage>/<name>/
        experiment.yaml     the resolved config, every default spelled out
        ledger.jsonl        what happened (see `search.ledger`)
        lock                held by the driver that runs the experiment
        stop                there while someone asks the driver to stop
        scratch/            Ray Tune's own files, while a search runs; nothing ever reads them
        trials/<number>/    checkpoints

The storage is the first of: what the caller names, $CELLTUNE_STORAGE, ~/celltune_results; a path or
a URI.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from data_prep.files import make_folder_durably, sync_folder, write_durably
from search import ledger
from search.checkpoints import Checkpoints, LocalCheckpoints
from search.config import NAME, SearchConfig, dump_config, load_config
from search.errors import ExperimentError, LedgerError
from search.events import Event
from search.ledger import Ledger
from search.remote_path import RemotePath, is_uri
from search.spelling import nearest
from search.state import ExperimentState

CONFIG = "experiment.yaml"
LEDGER = "ledger.jsonl"
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


@dataclass(frozen=True)
class LocalFolder(Folder):
    """An experiment on the disk."""

    path: Path

    @property
    def root(self) -> Path:
        """The folder of experiments."""
        return self.path.parent

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.path.name

    @property
    def ledger(self) -> Path:
        """Where its ledger is."""
        return self.path / LEDGER

    @property
    def scratch(self) -> Path:
        """Within the folder, so that the next run finds what a killed one left."""
        return self.path / "scratch"

    def exists(self) -> bool:
        """Whether the folder is there."""
        try:
            if self.root.exists() and not self.root.is_dir():
                raise ExperimentError(
                    f"The storage {self.root} is a file; name a folder with --storage."
                )
            return self.path.exists()
        except OSError as error:
            raise _unreadable(self.root, error) from error

    def complete(self) -> bool:
        """Whether its two files are there."""
        return (self.path / CONFIG).is_file() and self.ledger.is_file()

    def config(self) -> SearchConfig:
        """Read the config it was launched with."""
        return load_config(self.path / CONFIG)

    def events(self) -> list[Event]:
        """Read its ledger."""
        return ledger.read(self.ledger)

    def open_ledger(self) -> Ledger:
        """Open its ledger for writing."""
        return Ledger(self.ledger)

    def checkpoints(self, number: int) -> LocalCheckpoints:
        """Where a trial's checkpoints are."""
        return LocalCheckpoints(self.path / "trials" / str(number))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only driver of this experiment. A lock that a dead process left is free.

        Raises:
            ExperimentError: another process drives it.
        """
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ExperimentError(
                f"The experiment folder {self.path} can't be written: {error.strerror}. "
                "Give yourself the right to write there, then try again."
            ) from error
        try:
            self._take(handle)
            yield
        finally:
            os.close(handle)

    def _take(self, handle: int) -> None:
        try:
            _flock_patiently(handle)
        except BlockingIOError as error:
            owner = os.pread(handle, 200, 0).decode(errors="replace").strip()
            raise self.refused(owner) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {os.uname().nodename}".encode(), 0)

    def is_locked(self) -> bool:
        """Whether a driver runs this experiment now."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    @property
    def stop_mark(self) -> Path:
        """A file in the folder."""
        return self.path / STOP

    def create(self, config: SearchConfig, *events: Event) -> None:
        """Write it aside and put it in place whole."""
        try:
            make_folder_durably(self.root)
            aside = Path(tempfile.mkdtemp(prefix=f".{self.name}.", dir=self.root))
        except OSError as error:
            raise ExperimentError(
                f"The storage {self.root} can't be written: {error.strerror}. Choose another with "
                "--storage or $CELLTUNE_STORAGE."
            ) from error
        try:
            aside.chmod(0o755)
            write_durably(aside / CONFIG, dump_config(config).encode())
            with Ledger(aside / LEDGER) as new:
                new.append(*events)
            sync_folder(aside)
            self._put_in_place(aside)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise self.taken() from error
            raise ExperimentError(
                f"The experiment '{self.name}' can't be written in {self.root}: {error.strerror}."
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _put_in_place(self, aside: Path) -> None:
        aside.rename(self.path)
        try:
            sync_folder(self.root)
        except OSError:
            self.path.rename(aside)
            raise


def _flock_patiently(handle: int) -> None:
    # `is_locked` holds the lock for an instant when it looks; that mustn't refuse a driver.
    for _ in range(4):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
        raise _unreadable(storage, error) from error
    return sorted(name for name in found if NAME.fullmatch(name))


def _local_names(storage: Path) -> list[str]:
    return [path.parent.name for path in storage.glob(f"*/{CONFIG}")] if storage.is_dir() else []


def _remote_names(storage: RemotePath) -> list[str]:
    return [name for name in storage.names() if at(name, storage).complete()]


def _unreadable(storage: Root, error: OSError) -> ExperimentError:
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
