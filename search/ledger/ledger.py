r"""The append-only record of an experiment: `ledger.jsonl`, or objects (see `search.segments`).

One line an event::

    {"n": 3, "crc": "8f0c2e11", "data": {"event": "epoch_reported", ...}}\n

`n` counts the lines from 0 and `crc` is the CRC-32 of `n` and the data's JSON text, so a line
that is cut, altered, lost or written twice can't pass for a whole one. A line counts once `fsync`
has returned, or the upload of its object. A process that dies while it writes leaves at most one
torn line at the end: readers drop it, and the next writer cuts it off. A torn line has no line end;
damage to a line that has one is an error that names the line, wherever it stands: it may have been
acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from celltune.search.errors import LedgerError
from celltune.search.ledger.codec import (
    decode_all,
    encode,
)
from celltune.search.ledger.events import Event


def read(path: Path) -> list[Event]:
    """Read the events of a ledger, in their order; a torn last line is dropped.

    Raises:
        LedgerError: the file can't be read, or a line is damaged.
    """
    return decode_all(_content(path), path)[0]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LedgerError(f"The ledger {path} cannot be read: {error.strerror}.") from error


class Record(Protocol):
    """Where the lines of a ledger are kept.

    Invariants: one at a time is written to, by one thread; what `write` returned from is durable;
    after an error in `write` it isn't written to again.
    """

    @property
    def location(self) -> str:
        """Its place, for messages."""

    def open(self) -> list[Event]:
        """Read what there is and make ready to write.

        Raises:
            OSError: it can't be written.
            LedgerError: it is damaged.
        """

    def write(self, first: int, count: int, data: bytes) -> None:
        """Add so many lines, of which the first is line `first`.

        Raises:
            OSError: they may be there in part, or not at all.
        """

    def close(self) -> None:
        """Write no more."""


class LedgerFile:
    """A record on the disk: `ledger.jsonl`."""

    def __init__(self, path: Path) -> None:
        """Take the file at `path`; it is created if there is none."""
        self._path = path
        self._handle = -1

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._path)

    def open(self) -> list[Event]:
        """Open the file, creating it if there is none, and cut off a torn last line."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        events, whole = decode_all(_content(self._path), self._path)
        if whole < os.fstat(self._handle).st_size:
            os.ftruncate(self._handle, whole)
            os.fsync(self._handle)
        return events

    def write(self, first: int, count: int, data: bytes) -> None:  # noqa: ARG002 (a file knows)
        """Append the lines, all with one fsync."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class Ledger:
    """Appends events to a ledger. One at a time may be open for writing (see `search.folder`).

    Invariants: what `append` returned from is durable; after an error in `append` the ledger
    refuses all further events, because what stands at its end is no longer known.
    """

    def __init__(self, record: Path | Record) -> None:
        """Open a ledger.

        Args:
            record: where it is kept; a path is that of a file.

        Raises:
            LedgerError: it can't be written, or is damaged.
        """
        self._record = LedgerFile(record) if isinstance(record, Path) else record
        self._broken: OSError | None = None
        try:
            self._events = self._record.open()
        except OSError as error:
            raise self._failure(error) from error

    @property
    def events(self) -> list[Event]:
        """All events so far, in order; a copy."""
        return list(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def append(self, *events: Event) -> None:
        """Write events and return when they are durable, all with one fsync or one upload.

        Raises:
            LedgerError: they couldn't be written; a reader then sees a prefix of them.
        """
        if self._broken is not None:
            raise self._failure(self._broken)
        start = len(self._events)
        data = b"".join(encode(start + index, event) for index, event in enumerate(events))
        try:
            self._record.write(start, len(events), data)
        except OSError as error:
            self._broken = error
            raise self._failure(error) from error
        self._events.extend(events)

    def _failure(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"The ledger {self._record.location} cannot be written: {error.strerror}. All events "
            "that were acknowledged before are safe. Free disk space or fix the permissions, then "
            "resume the experiment."
        )

    def close(self) -> None:
        """Close the record. A closed ledger can't be appended to."""
        self._record.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
