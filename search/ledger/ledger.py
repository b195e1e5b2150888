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

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from celltune.data_prep.io.regular import open_regular
from celltune.search.errors import LedgerError
from celltune.search.ledger.codec import UNBOUND, binding_of, decode_lines, encode_lines
from celltune.search.ledger.events import Event


def read(path: Path) -> list[Event]:
    """Return all events of a ledger file. A torn last line is ignored.

    Raises:
        LedgerError: the file cannot be read, or a line is damaged.
    """
    try:
        return _decode(path)[0]
    except LedgerError:
        # A torn line that its next writer replaces while it is read looks like damage, once.
        return _decode(path)[0]


def _decode(path: Path) -> tuple[list[Event], int]:
    try:
        with open_regular(path, follow=False) as file:
            return decode_lines(file, path)
    except OSError as error:
        raise LedgerError(f"The ledger {path} cannot be read: {error.strerror}.") from error


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
        """

    def close(self) -> None:
        """Release all resources."""


class LedgerFile:
    """The lines of a ledger in a file, `ledger.jsonl`."""

    def __init__(self, path: Path) -> None:
        """Refer to the file at `path`, which `open` creates if it is missing."""
        self._path = path
        self._handle = -1

    @property
    def location(self) -> str:
        """The file's path, for messages."""
        return str(self._path)

    def open(self) -> list[Event]:
        """Open or create the file, and remove a torn last line."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._handle = os.open(self._path, flags, 0o644)
        try:
            events, complete_bytes = _decode(self._path)
        except LedgerError:
            self.close()
            raise
        if complete_bytes < os.fstat(self._handle).st_size:
            os.ftruncate(self._handle, complete_bytes)
            os.fsync(self._handle)
        return events

    def write(self, first: int, count: int, data: bytes) -> None:  # noqa: ARG002 (O_APPEND)
        """Append the lines with a single fsync."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class Ledger:
    """A ledger that is open for writing. At most one may be open (see `Experiment.locked`).

    Invariants: when `append` returns, its events are durable. After an error in `append`, the
    ledger rejects all further events, because it is unknown how its last line ends.
    """

    def __init__(self, lines: Path | LedgerLines) -> None:
        """Open a ledger.

        Args:
            lines: the stored lines, or the path of a ledger file.

        Raises:
            LedgerError: the ledger cannot be written, or is damaged.
        """
        self._lines = LedgerFile(lines) if isinstance(lines, Path) else lines
        self._failure: LedgerError | None = None
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
        """
        if self._failure is not None:
            raise self._failure
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
        except LedgerError as error:
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
