"""Encode and decode the lines of a ledger."""

from __future__ import annotations

import gc
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from celltune.search.errors import LedgerError
from celltune.search.ledger.events import EVENT, Event

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


def decode_all(content: bytes, where: object, first: int = 0) -> tuple[list[Event], int]:
    """Read whole lines, from line `first` on.

    Args:
        content: of a ledger or of a part of one.
        where: of the content, for messages.
        first: which line the content begins with.

    Returns:
        The events, and the length in bytes of the whole lines: what follows is torn.

    Raises:
        LedgerError: a line is damaged.
    """
    lines = content.split(b"\n")
    torn = lines.pop()
    events: list[Event] = []
    with _without_collector():
        for number, line in enumerate(lines, first):
            try:
                events.append(_decode_sound(number, line) or decode(number, line))
            except ValueError as error:
                raise LedgerError(
                    f"The ledger {where} is damaged in line {number + 1} of {first + len(lines)}: "
                    f"{error}. Nothing was changed. Put the file back from a copy; if there is "
                    f"none, cutting the file before line {number + 1} keeps what was recorded "
                    "until then."
                ) from error
    return events, len(content) - len(torn)


def _decode_sound(number: int, line: bytes) -> Event | None:
    """Read a line as `encode` wrote it, quickly; None if it isn't one, for `decode` to say why."""
    head = b'{"n": %d, "crc": "' % number
    crc = len(head)
    data = line[crc + 19 : -1]
    if line[:crc] != head or line[crc + 8 : crc + 19] != b'", "data": ' or line[-1:] != b"}":
        return None
    if line[crc : crc + 8] != b"%08x" % zlib.crc32(data, zlib.crc32(b"%d:" % number)):
        return None
    try:
        return EVENT.validate_json(data)
    except ValidationError:
        return None


@contextmanager
def _without_collector() -> Iterator[None]:
    # Events hold no cycles, and the collector takes half of the time while so many come to be.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
