"""Experiments on the disk.

::

    <storage>/<name>/
        experiment.yaml     the resolved config, every default spelled out
        ledger.jsonl        what happened (see `search.ledger`)
        lock                held by the driver that runs the experiment
        scratch/            Ray Tune's own files, while a search runs; nothing ever reads them
        trials/<number>/    checkpoints

The storage is the first of: what the caller names, $CELLTUNE_STORAGE, ~/celltune_results.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from search import ledger
from search.config import NAME, SearchConfig, dump_config, load_config
from search.errors import ExperimentError, LedgerError
from search.events import Event
from search.spelling import nearest
from search.state import ExperimentState

CONFIG = "experiment.yaml"
LEDGER = "ledger.jsonl"
STOP = "stop"


def storage_root(storage: Path | str | None = None) -> Path:
    """Give the folder that holds experiments, as an absolute path; it need not exist."""
    chosen = storage or os.environ.get("CELLTUNE_STORAGE") or "~/celltune_results"
    return Path(chosen).expanduser().absolute()


@dataclass(frozen=True)
class Folder:
    """One experiment's folder."""

    path: Path

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
        """Where Ray Tune may write what nobody needs."""
        return self.path / "scratch"

    def trial(self, number: int) -> Path:
        """Where a trial's checkpoints are."""
        return self.path / "trials" / str(number)

    def config(self) -> SearchConfig:
        """Read the config it was launched with."""
        return load_config(self.path / CONFIG)

    def state(self) -> ExperimentState:
        """Read its state off the ledger; safe while a search writes.

        Raises:
            LedgerError: the ledger is damaged.
        """
        return state_of(self.ledger, ledger.read(self.ledger))

    def request_stop(self) -> None:
        """Ask the driver of this experiment to stop.

        Raises:
            ExperimentError: the folder can't be written.
        """
        try:
            (self.path / STOP).touch()
        except OSError as error:
            raise ExperimentError(
                f"The experiment folder {self.path} can't be written: {error.strerror}. Stop the "
                "search with Ctrl-C where it runs."
            ) from error

    def stop_requested(self) -> bool:
        """Whether someone asked the driver to stop."""
        return (self.path / STOP).exists()

    def clear_stop(self) -> None:
        """Forget that someone asked."""
        with suppress(OSError):
            (self.path / STOP).unlink()

    def arguments(self) -> str:
        """What to type after a command to name this experiment."""
        if self.path.parent == storage_root():
            return self.name
        return f"{self.name} --storage {shlex.quote(str(self.path.parent))}"

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
            raise ExperimentError(
                f"The experiment '{self.name}' is being run by another process ({owner}). "
                f"Watch it with: celltune status {self.arguments()}"
            ) from error
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


def _flock_patiently(handle: int) -> None:
    # `is_locked` holds the lock for an instant when it looks; that mustn't refuse a driver.
    for _ in range(4):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def state_of(path: Path, events: list[Event]) -> ExperimentState:
    """Fold a ledger's events; an order that can't be is told as damage of the ledger."""
    state = ExperimentState()
    for index, event in enumerate(events):
        try:
            state.apply(event)
        except ValueError as error:
            raise LedgerError(
                f"The ledger {path} contradicts itself in line {index + 1}: {error}. Nothing was "
                "changed. Put the file back from a copy."
            ) from error
    return state


def reserve_name(name: str, storage: Path) -> Folder:
    """Check that an experiment of this name can be created; nothing is written.

    Raises:
        ExperimentError: the name is no name, or is taken.
    """
    if not NAME.fullmatch(name):
        raise ExperimentError(
            f"'{name}' can't name an experiment: use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit."
        )
    folder = Folder(storage / name)
    try:
        if storage.exists() and not storage.is_dir():
            raise ExperimentError(f"The storage {storage} is a file; name a folder with --storage.")
        if folder.path.exists():
            raise _taken(folder)
    except OSError as error:
        raise ExperimentError(f"The storage {storage} can't be read: {error.strerror}.") from error
    return folder


def _taken(folder: Folder) -> ExperimentError:
    return ExperimentError(
        f"An experiment '{folder.name}' exists already in {folder.path.parent}. To go on with it: "
        f"celltune resume {folder.arguments()}. To start another one, choose another --name."
    )


def create(folder: Folder, config: SearchConfig, *events: Event) -> None:
    """Write a new experiment aside and put it in place whole.

    Raises:
        ExperimentError: the name is taken, or the storage can't be written.
    """
    root = folder.path.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=root))
    except OSError as error:
        raise ExperimentError(
            f"The storage {root} can't be written: {error.strerror}. Choose another with "
            "--storage or $CELLTUNE_STORAGE."
        ) from error
    try:
        aside.chmod(0o755)
        _write_durably(aside / CONFIG, dump_config(config))
        with ledger.Ledger(aside / LEDGER) as new:
            new.append(*events)
        _sync_folder(aside)
        aside.rename(folder.path)
        _sync_folder(root)
    except OSError as error:
        if folder.path.exists():
            raise _taken(folder) from error
        raise ExperimentError(
            f"The experiment '{folder.name}' can't be written in {root}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_durably(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def names(storage: Path) -> list[str]:
    """Give the names of the experiments in a storage, in order."""
    try:
        if not storage.is_dir():
            return []
    except OSError as error:
        raise ExperimentError(f"The storage {storage} can't be read: {error.strerror}.") from error
    found = (path.parent.name for path in storage.glob(f"*/{CONFIG}"))
    return sorted(name for name in found if re.fullmatch(NAME, name))


def find(name: str, storage: Path) -> Folder:
    """Find an experiment by name.

    Raises:
        ExperimentError: there is none.
    """
    folder = Folder(storage / name)
    if NAME.fullmatch(name) and (folder.path / CONFIG).is_file() and folder.ledger.is_file():
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
