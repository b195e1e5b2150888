"""Experiments in a local or shared folder.

::

    <storage>/<name>/
        experiment.yaml     the resolved config, with all defaults
        ledger.jsonl        the events (see `celltune.search.ledger`)
        lock                locked with `flock` by the driver
        stop                exists while a stop is requested
        trials/<number>/    checkpoints
        tensorboard/        a copy of the metrics, if requested

A path below `<storage>` contains no symbolic links (see `EnclosedPath`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.files import make_folder_durably, sync_folder, write_durably
from celltune.printable import printable, quoted
from celltune.search.config.loading import dump_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger import ledger
from celltune.search.ledger.events import Event
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage import contents
from celltune.search.storage.base import (
    CONFIG,
    STOP,
    TENSORBOARD,
    Experiment,
    Storage,
    read_errors,
)
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.storage.contents import NewFile, StoredFile

LEDGER = "ledger.jsonl"
"""File name of the ledger."""
LOCK = "lock"
"""File name of the lock."""
TRIALS = "trials"
"""Folder of the checkpoints."""
_LOCK_BYTES = 200
# Anything else in its place is never overwritten.
_LOCK_CONTENT = re.compile(rb"(pid \d+ on .*)?", re.DOTALL)


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder of experiments. In a cluster, all nodes must see it under the same path."""

    folder: Path

    @classmethod
    def open(cls, address: str) -> LocalStorage:
        """Return the storage at a path or a `file://` URI; `~` and relative paths are resolved.

        Raises:
            ExperimentError: the URI names another machine, or the path cannot exist.
        """
        path = address
        if address.lower().startswith("file://"):
            host, slash, below = address[len("file://") :].partition("/")
            if host not in ("", "localhost") or not slash:
                raise ExperimentError(
                    f"The storage {quoted(address)} is not the URI of a folder on this machine. "
                    "Use file:///path, or the path alone."
                )
            path = f"/{unquote(below)}"
        if "\0" in path:
            raise ExperimentError(f"The storage {quoted(address)} is not a path. Use a folder.")
        try:
            return cls(Path(path).expanduser().absolute())
        except RuntimeError as error:
            raise ExperimentError(
                f"The storage {quoted(address)} starts with '~', but this user's home folder is "
                "unknown. Use the complete path, or ./~ for a folder of that name."
            ) from error

    def __str__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str) -> LocalStorage:
        return LocalStorage(self.folder / name)

    @property
    def local_folder(self) -> Path:
        """The folder that contains the experiments."""
        return self.folder

    def experiment(self, name: str) -> LocalExperiment:
        """Return the experiment of this name."""
        return LocalExperiment(self.folder / name)

    def candidates(self) -> list[str]:
        """Return the names of the subfolders with a config or a ledger."""
        self.check_usable()
        if not self.folder.exists():
            return []
        # Also a broken link counts: its experiment is shown as damaged.
        return [path.name for path in self.folder.iterdir() if _has_part(path)]

    def check_usable(self) -> None:
        """Check that the path can be that of a folder of experiments.

        Raises:
            ExperimentError: it is a file, below a file, or in the folder of an experiment.
            OSError: the path cannot be read.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ExperimentError(f"The storage {self.folder} is a file. Use a folder or a URI.")
        for folder in (self.folder, *self.folder.parents):
            if (folder / LEDGER).is_file() and (folder / CONFIG).is_file():
                where = "is" if folder == self.folder else "is in"
                raise ExperimentError(
                    f"The storage {self.folder} {where} the folder of the experiment "
                    f"'{folder.name}'. Use {folder.parent}, which contains the experiment, or "
                    "another folder."
                )
            if not folder.is_dir() and folder.exists():
                raise ExperimentError(
                    f"The storage {self.folder} is below {folder}, which is a file. Use a folder "
                    "or a URI."
                )

    def file(self, name: str) -> Path:
        """Return a file directly in the folder."""
        return self.folder / name

    def finish_deletions(self) -> int:
        """Remove the renamed folders of deletions that were interrupted."""
        with read_errors(self):
            return contents.finish_deletions(self.folder)

    @contextmanager
    def temporarily_created(self) -> Iterator[None]:
        """Create the folder and its missing parents; on exit, remove those that are empty."""
        missing = [path for path in (self.folder, *self.folder.parents) if not path.is_dir()]
        if missing:
            make_folder_durably(self.folder)
        try:
            yield
        finally:
            for path in missing:
                if any(path.iterdir()):
                    break
                path.rmdir()


class LocalExperiment(Experiment):
    """An experiment in a folder."""

    def __init__(self, path: Path) -> None:
        """Refer to the experiment in the folder `path`; it may not exist yet."""
        super().__init__(LocalStorage(path.parent), path.name)
        self.path = path
        self._folder = EnclosedPath.of(path)

    @property
    def ledger(self) -> Path:
        """The path of the ledger."""
        return self.path / LEDGER

    def exists(self) -> bool:
        """Return whether a folder, or anything else, has the name."""
        with read_errors(self.storage):
            LocalStorage(self.path.parent).check_usable()
            return os.path.lexists(self.path)

    def is_complete(self) -> bool:
        """Return whether the experiment has a config or a ledger, damaged or not."""
        return _has_part(self.path)

    @property
    def config_file(self) -> EnclosedPath:
        """The file with the config."""
        return self._folder / CONFIG

    def events(self) -> list[Event]:
        """Return all events of the ledger."""
        return ledger.read(self._folder / LEDGER)

    def ledger_lines(self) -> EnclosedPath:
        """Return the path of the ledger."""
        return self._folder / LEDGER

    def checkpoints(self, number: int) -> LocalCheckpoints:
        """Return the checkpoints of trial `number`."""
        return LocalCheckpoints(self._folder / TRIALS / str(number))

    def files(self) -> Iterator[StoredFile]:
        """Yield the regular files in the folder."""
        with read_errors(self.storage), suppress(FileNotFoundError):
            for path, size in self._folder.files():
                yield StoredFile(path.parts[1:], size, path)

    def delete(self) -> None:
        """Give the folder a name that is not that of an experiment, and then remove it."""
        with self._locked():
            deleted = contents.set_aside(self._folder)
        contents.remove(deleted, self.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold an exclusive `flock` while the context is open; it ends with the process.

        Raises:
            ExperimentError: another process holds the lock; the folder cannot be written, or it
                contains a symbolic link or a special file.
        """
        with self._write_errors_of_lock():
            self._check_entries()
        with self._locked():
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._write_errors_of_lock():
            handle = (self._folder / LOCK).open_for_writing()
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _write_errors_of_lock(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            fix = " Check the permissions of the folder." if refused else ""
            raise ExperimentError(
                f"The experiment {self.path} cannot be written: {error.strerror}.{fix}"
            ) from error

    def _check_entries(self) -> None:
        for name in (CONFIG, LEDGER, LOCK, STOP, TRIALS, TENSORBOARD):
            # trials/<number>/<checkpoint>, and tensorboard/<trial>/<file>.
            found = (self._folder / name).special_entry(depth=1)
            if found is not None:
                raise ExperimentError(
                    f"The experiment contains {printable(found)}, which is a symbolic link or a "
                    "special file. A search writes nothing outside of its experiment's folder. "
                    "Replace it by a file or folder, or remove it."
                )

    def _lock(self, handle: int) -> None:
        content = os.pread(handle, _LOCK_BYTES + 1, 0)
        if not _LOCK_CONTENT.fullmatch(content):
            raise ExperimentError(
                f"{self.path / LOCK} is not the lock of an experiment: it contains something else. "
                "Remove it, if no search is running."
            )
        try:
            _flock(handle)
        except BlockingIOError as error:
            owner = printable(content.decode(errors="replace").strip())
            raise self.locked_error(owner) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {os.uname().nodename}".encode(), 0)

    def is_locked(self) -> bool:
        """Return whether a driver holds the lock.

        Raises:
            ExperimentError: the lock is not a file.
        """
        try:
            with (self._folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ELOOP):
                raise ExperimentError(
                    f"The lock {self.path / LOCK} cannot be read: {error.strerror}. Remove it, if "
                    "no search is running."
                ) from error
        return False

    @property
    def stop_marker(self) -> EnclosedPath:
        """A file next to the config."""
        return self._folder / STOP

    def check_can_be_created(self) -> None:
        """Create and remove a temporary folder in the storage."""
        with self._write_errors(), self.storage.temporarily_created():
            Path(self._temporary_folder()).rmdir()

    def create(self, config: SearchConfig, *events: Event, files: Iterable[NewFile] = ()) -> None:
        """Write a temporary folder and rename it, which is atomic."""
        root = self.path.parent
        with self._write_errors():
            make_folder_durably(root)
            temporary = Path(self._temporary_folder())
        try:
            temporary.chmod(0o755)
            write_durably(temporary / CONFIG, dump_config(config).encode())
            with Ledger(temporary / LEDGER) as new_ledger:
                new_ledger.append(*events)
            for parts, content in files:
                contents.write_new(EnclosedPath.of(temporary), parts, content)
            sync_folder(temporary)
            self._rename_durably(temporary)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise self.exists_error() from error
            raise ExperimentError(
                f"The experiment '{self.name}' cannot be written to {root}: {error.strerror}. "
                "Free disk space or fix the permissions, then launch it again."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _temporary_folder(self) -> str:
        return tempfile.mkdtemp(prefix=f".{self.name}.", dir=self.path.parent)

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ExperimentError(
                f"The storage {self.path.parent} cannot be written: {error.strerror}. Check its "
                "permissions, or set `storage` to another folder or URI."
            ) from error

    def _rename_durably(self, temporary: Path) -> None:
        temporary.rename(self.path)
        try:
            sync_folder(self.path.parent)
        except OSError:
            self.path.rename(temporary)
            raise


def _flock(handle: int) -> None:
    # `is_locked` holds a shared lock for an instant. A retry keeps that from rejecting a driver.
    for _ in range(4):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _has_part(path: Path) -> bool:
    """Return whether a folder has a part of an experiment that is never missing in an intact one.

    The config of an experiment can be restored from its ledger.
    """
    return any(os.path.lexists(path / name) for name in (CONFIG, LEDGER))
