"""Encode and decode the lines of a ledger."""

from __future__ import annotations

import re
import zlib

from pydantic import ValidationError

from celltune.search.errors import LedgerError
from celltune.search.ledger.events import EVENT, Event

_LINE = re.compile(rb'\{"n": (\d+), "crc": "([0-9a-f]{8})", "data": (\{.*\})\}')


def _checksum(number: int, data: bytes) -> bytes:
    return b"%08x" % zlib.crc32(data, zlib.crc32(b"%d:" % number))


def encode(number: int, event: Event) -> bytes:
    r"""Return an event as line `number` of a ledger, including the `\n`."""
    data = event.model_dump_json().encode()
    return b'{"n": %d, "crc": "%b", "data": %b}\n' % (number, _checksum(number, data), data)


def decode(number: int, line: bytes) -> Event:
    r"""Return the event of line `number`, which is given without its `\n`.

    Raises:
        ValueError: the line is damaged, has another number, or is not an event.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("it is not a line of a ledger")
    recorded_number, data = int(match[1]), match[3]
    if match[2] != _checksum(recorded_number, data):
        raise ValueError("its checksum does not match its content")
    if recorded_number != number:
        raise ValueError(f"its number is that of line {recorded_number + 1}")
    try:
        return EVENT.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"it is not an event ({field}: {first['msg']})") from error


def decode_lines(content: bytes, location: object, first: int = 0) -> tuple[list[Event], int]:
    """Decode all complete lines.

    Args:
        content: a ledger or a part of one.
        location: the address of the content, for messages.
        first: the number of the first line in `content`.

    Returns:
        The events, and the length of the complete lines in bytes. What follows is a torn line.

    Raises:
        LedgerError: a complete line is damaged.
    """
    lines = content.split(b"\n")
    torn_line = lines.pop()
    events: list[Event] = []
    for number, line in enumerate(lines, first):
        try:
            events.append(decode(number, line))
        except ValueError as error:
            raise LedgerError(
                f"The ledger {location} is damaged in line {number + 1} of {first + len(lines)}: "
                f"{error}. Nothing was changed. Restore the file from a copy. If there is no copy, "
                f"cut the file before line {number + 1} to keep the events before it."
            ) from error
    return events, len(content) - len(torn_line)
