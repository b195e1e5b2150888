r"""The ledger: an experiment's append-only record of events.

One event per line::

    {"n": 3, "crc": "8f0c2e11", "data": {"event": "epoch_reported", ...}}\n

`n` counts lines from 0. `crc` is the CRC-32 of the experiment's id, `n` and the JSON text of
`data`, so that a line that was truncated, altered, lost, duplicated or copied from another
experiment is detected. The first line contains the id, so its own checksum is without it. Ledgers
of older releases have no id and stay as they are. A line is durable once `fsync`, or the upload of
its object, has returned.

The checksums find accidents, not forgeries: whoever writes a line can compute its checksum.
Therefore every event is validated when it is read (`fields`, `scores`), and again with the events
before it (`state`).

A process that dies while writing leaves at most one torn line, which is the last one and has no
`\n`. Readers ignore it and the next writer removes it. Damage in a line that ends with `\n` is
always an error, because the line may have been acknowledged.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.files import write_all
from celltune.search.errors import LedgerError, StorageError
from celltune.search.ledger.codec import UNBOUND, binding_of, decode_lines, encode_lines
from celltune.search.ledger.events import Event
from celltune.search.wording import counted


def read(path: Path | EnclosedPath) -> list[Event]:
    """Return all events of a ledger file. A torn last line is ignored.

    Raises:
        LedgerError: the file cannot be read, or a line is damaged.
    """
    enclosed = _enclosed(path)
    try:
        return _decode(enclosed)
    except LedgerError:
        # A torn line that its next writer replaces while it is read looks like damage, once.
        return _decode(enclosed)


def _decode(path: EnclosedPath) -> list[Event]:
    try:
        with path.open() as file:
            return decode_lines(file, path)[0]
    except FileNotFoundError as error:
        raise LedgerError(
            f"The ledger {path} is missing. Restore the file from a copy, or remove the experiment."
        ) from error
    except OSError as error:
        raise LedgerError(f"The ledger {path} cannot be read: {error.strerror}.") from error


def _enclosed(path: Path | EnclosedPath) -> EnclosedPath:
    return EnclosedPath.of(path) if isinstance(path, Path) else path


class LedgerLines(Protocol):
    """The stored lines of a ledger, in a file or an object store.

    Contract: `Ledger` writes from one thread, and only one `Ledger` is open for writing. When
    `write` returns, its lines are durable. `Ledger` does not write again after an error.
    """

    @property
    def location(self) -> str:
        """The address, for messages."""

    def open(self) -> list[Event]:
        """Prepare for writing and return all events.

        Raises:
            OSError: the lines cannot be written.
            LedgerError: the lines cannot be read, or are damaged.
        """

    def write(self, first: int, count: int, data: bytes) -> None:
        """Append lines.

        Args:
            first: the number of the first line.
            count: the number of lines.
            data: the encoded lines.

        Raises:
            OSError: the lines may be written partially, or not at all.
            LedgerError: the lines do not count, because another driver took over.
            StorageError: the ledger was removed, moved or changed by another program.
        """

    def check_in_place(self) -> None:
        """Check that the ledger is still where it was opened.

        Raises:
            StorageError: it was removed, moved or changed by another program.
            OSError: the storage cannot be reached.
        """

    def close(self) -> None:
        """Release all resources."""


class LedgerFile:
    """The lines of a ledger in a file, `ledger.jsonl`.

    The file is locked while it is open, in addition to the lock of the experiment: somebody could
    remove that one. After each append, `write` checks that the path is still that of the open file,
    and that nobody else changed its size. Otherwise a search would go on writing into a file that
    was removed, whose events would be lost when the driver ends.
    """

    def __init__(self, path: Path | EnclosedPath) -> None:
        """Refer to the file at `path`, which `open` creates if it is missing."""
        self._path = _enclosed(path)
        self._location = str(self._path)
        self._handle = -1
        self._size = self._count = 0

    @property
    def location(self) -> str:
        """The file's path, for messages."""
        return self._location

    def open(self) -> list[Event]:
        """Open or create the file, lock it, and remove a torn last line.

        Raises:
            OSError: the file cannot be written.
            LedgerError: it is damaged, or another process writes to it.
        """
        self._handle = self._path.open_for_writing(os.O_APPEND)
        try:
            self._lock()
            with os.fdopen(os.dup(self._handle), "rb") as file:
                events, self._size = decode_lines(file, self._path)
            self._count = len(events)
            self._remove_torn_line()
        except BaseException:
            self.close()
            raise
        return events

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LedgerError(
                f"The ledger {self._path} is being written by another process. Wait until it ends, "
                "or stop it first."
            ) from error

    def _remove_torn_line(self) -> None:
        size = os.fstat(self._handle).st_size
        if self._size == size:
            return
        if not self._count:
            raise LedgerError(
                f"The ledger {self._path} has no complete line. Nothing was changed. Restore the "
                "file from a copy, or remove the experiment."
            )
        os.ftruncate(self._handle, self._size)
        os.fsync(self._handle)

    def write(self, first: int, count: int, data: bytes) -> None:
        """Append the lines with a single fsync."""
        write_all(self._handle, data)
        os.fsync(self._handle)
        self._size += len(data)
        self.check_in_place()
        self._count = first + count

    def check_in_place(self) -> None:
        """Check that the path is still that of the open file, as this process wrote it.

        Raises:
            StorageError: the file or its folder was removed, moved, replaced or changed.
            OSError: the storage cannot be reached.
        """
        if self._handle < 0:
            return
        opened = os.fstat(self._handle)
        try:
            there = os.lstat(self._location)
        except FileNotFoundError:
            there = None
        if there is not None and (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino):
            if opened.st_size == self._size:
                return
            raise StorageError(
                f"The ledger {self._path} was changed by another program while the search was "
                f"running: it has {opened.st_size:,} bytes instead of {self._size:,}. The search "
                "has ended, because no further event would be readable. Restore the ledger from a "
                "copy, then resume the experiment."
            )
        events = counted(self._count, "recorded event")
        if opened.st_nlink == 0:
            raise StorageError(
                f"The ledger {self._path} was removed while the search was running, so the search "
                f"has ended. Its {events} are lost, unless there is a copy of the experiment's "
                "folder. Restore the folder, or launch the search again."
            )
        raise StorageError(
            f"The ledger {self._path} was moved or replaced while the search was running, so the "
            f"search has ended. The moved file keeps all {events}; unfinished epochs are lost. "
            "Resume the experiment under the new name of its folder, or move the folder back first."
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)
        self._handle = -1


class Ledger:
    """A ledger that is open for writing. At most one may be open (see `Experiment.locked`).

    Invariants: when `append` returns, its events are durable. After an error in `append`, the
    ledger rejects all further events, because it is unknown how its last line ends.
    """

    def __init__(self, lines: Path | EnclosedPath | LedgerLines) -> None:
        """Open a ledger.

        Args:
            lines: the stored lines, or the path of a ledger file.

        Raises:
            LedgerError: the ledger cannot be written, or is damaged.
        """
        self._lines = LedgerFile(lines) if isinstance(lines, (Path, EnclosedPath)) else lines
        self._failure: LedgerError | StorageError | None = None
        try:
            self._events = self._lines.open()
        except OSError as error:
            raise self._error(error.strerror) from error
        self._binding = binding_of(self._events[0]) if self._events else UNBOUND

    @property
    def events(self) -> list[Event]:
        """A copy of all events so far, in order."""
        return list(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def append(self, *events: Event) -> None:
        """Append events durably, with a single fsync or upload.

        Raises:
            LedgerError: the events cannot be written. Readers see a prefix of them.
            StorageError: the ledger was removed, moved or changed; the events may be lost.
        """
        if self._failure is not None:
            raise self._failure
        if not events:
            return
        first = len(self._events)
        try:
            data = encode_lines(first, events, self._binding)
        except ValueError as error:
            raise self._error(error) from error
        try:
            self._lines.write(first, len(events), data)
        except OSError as error:
            self._failure = self._error(error.strerror)
            raise self._failure from error
        except (LedgerError, StorageError) as error:
            self._failure = error
            raise
        if first == 0:
            self._binding = binding_of(events[0])
        self._events.extend(events)

    def _error(self, reason: object) -> LedgerError:
        return LedgerError(
            f"The ledger {self._lines.location} cannot be written: {reason}. All events "
            "that were acknowledged before are safe. Free disk space or fix the permissions, then "
            "resume the experiment."
        )

    def check_in_place(self) -> None:
        """Check that the ledger is still where it was opened; see `LedgerLines`."""
        self._lines.check_in_place()

    def close(self) -> None:
        """Close the ledger, after which nothing can be appended."""
        self._lines.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
