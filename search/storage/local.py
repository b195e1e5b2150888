"""Experiments on the disk.

::

    <storage>/<name>/
        experiment.yaml     the resolved config, every default spelled out
        ledger.jsonl        what happened (see `search.ledger`)
        lock                held by the driver that runs the experiment
        stop                there while someone asks the driver to stop
        scratch/            Ray Tune's own files, while a search runs; nothing ever reads them
        trials/<number>/    checkpoints
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.io.files import make_folder_durably, sync_folder, write_durably
from celltune.search.config.loading import dump_config, load_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger import ledger
from celltune.search.ledger.events import Event
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.base import CONFIG, STOP, ExperimentFolder, unreadable
from celltune.search.storage.checkpoints import LocalCheckpoints

LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class LocalExperiment(ExperimentFolder):
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
            raise unreadable(self.root, error) from error

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
