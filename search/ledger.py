r"""The append-only record of an experiment: `ledger.jsonl`.

One line an event::

    {"n": 3, "crc": "8f0c2e11", "data": {"event": "epoch_reported", ...}}\n

`n` counts the lines from 0 and `crc` is the CRC-32 of `n` and the data's JSON text, so a line
that is cut, altered, lost or written twice can't pass for a whole one. A line counts once `fsync`
has returned. A process that dies while it writes leaves at most one torn line at the end: readers
drop it, and the next writer cuts it off. A torn line has no line end; damage to a line that has one
is an error that names the line, wherever it stands: it may have been acknowledged.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from search.errors import LedgerError
from search.events import EVENT, Event

_LINE = re.compile(rb'\{"n": (\d+), "crc": "([0-9a-f]{8})", "data": (\{.*\})\}')


def _checksum(number: int, data: bytes) -> str:
    return f"{zlib.crc32(b'%d:%b' % (number, data)):08x}"


def encode(number: int, event: Event) -> bytes:
    """Write an event as line `number` of a ledger, with its line end."""
    data = event.model_dump_json().encode()
    crc = _checksum(number, data).encode()
    return b'{"n": %d, "crc": "%b", "data": %b}\n' % (number, crc, data)


def decode(number: int, line: bytes) -> Event:
    """Read line `number`, given without its line end.

    Raises:
        ValueError: the line isn't whole, isn't the one that belongs here, or isn't an event.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("it isn't a line of a ledger")
    written, data = int(match[1]), match[3]
    if match[2].decode() != _checksum(written, data):
        raise ValueError("its checksum doesn't agree with its content")
    if written != number:
        raise ValueError(f"it says that it is line {written + 1}")
    try:
        return EVENT.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"it isn't an event ({where}: {first['msg']})") from error


def _scan(path: Path) -> tuple[list[Event], int]:
    """Read a ledger: its events, and the length in bytes of the whole lines."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"The ledger {path} can't be read: {error.strerror}.") from error
    events: list[Event] = []
    whole = 0
    lines = content.split(b"\n")
    lines.pop()  # what follows the last line end: nothing, or a torn line
    for number, line in enumerate(lines):
        try:
            events.append(decode(number, line))
        except ValueError as error:
            raise LedgerError(
                f"The ledger {path} is damaged in line {number + 1} of {len(lines)}: {error}. "
                "Nothing was changed. Put the file back from a copy; if there is none, cutting "
                f"the file before line {number + 1} keeps what was recorded until then."
            ) from error
        whole += len(line) + 1
    return events, whole


def read(path: Path) -> list[Event]:
    """Read the events of a ledger, in their order; a torn last line is dropped.

    Raises:
        LedgerError: the file can't be read, or a line is damaged.
    """
    return _scan(path)[0]


class Ledger:
    """Appends events to a ledger. One at a time may be open for writing (see `search.folder`).

    Invariants: what `append` returned from is on the disk; after an error in `append` the ledger
    refuses all further events, because what stands at its end is no longer known.
    """

    def __init__(self, path: Path) -> None:
        """Open a ledger, creating it if there is none, and cut off a torn last line."""
        self.path = path
        self._broken: OSError | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._failure(error) from error
        self._events, whole = _scan(path)
        if whole < os.fstat(self._file).st_size:
            os.ftruncate(self._file, whole)
            os.fsync(self._file)

    @property
    def events(self) -> list[Event]:
        """All events so far, in order; a copy."""
        return list(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def append(self, *events: Event) -> None:
        """Write events and return when they are on the disk, all with one fsync.

        Raises:
            LedgerError: they couldn't be written; a reader then sees a prefix of them.
        """
        if self._broken is not None:
            raise self._failure(self._broken)
        start = len(self._events)
        data = b"".join(encode(start + index, event) for index, event in enumerate(events))
        try:
            self._write(data)
        except OSError as error:
            self._broken = error
            raise self._failure(error) from error
        self._events.extend(events)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def _failure(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"The ledger {self.path} can't be written: {error.strerror}. Everything that was "
            "acknowledged before is safe; make room or give the right to write, then resume."
        )

    def close(self) -> None:
        """Close the file. A closed ledger can't be appended to."""
        os.close(self._file)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
