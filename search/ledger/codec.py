"""Encode and decode the lines of a ledger."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import BinaryIO

from pydantic import ValidationError

from celltune.printable import printable, quoted
from celltune.search.errors import LedgerError
from celltune.search.ledger.events import EVENT, Event, ExperimentCreated

MAX_LINE = 64 * 2**20
"""The largest length of a line in bytes. The outcomes of 100 million test documents fit into it."""

UNBOUND = 0
"""The binding of the first line, and of all lines in ledgers of older releases."""

_LINE = re.compile(rb'\{"n": (\d{1,15}), "crc": "([0-9a-f]{8})", "data": (\{.*\})\}')


def binding_of(first: Event) -> int:
    """Return what the checksums of a ledger's later lines start with, by its first event.

    A line of another experiment at the same position then has a wrong checksum.
    """
    if isinstance(first, ExperimentCreated) and first.experiment_id is not None:
        return zlib.crc32(first.experiment_id.encode())
    return UNBOUND


def checksum(number: int, data: bytes, binding: int = UNBOUND) -> bytes:
    """Return the checksum of line `number` with the JSON text `data`."""
    return b"%08x" % zlib.crc32(data, zlib.crc32(b"%d:" % number, binding))


def encode(number: int, event: Event, binding: int = UNBOUND) -> bytes:
    r"""Return an event as line `number` of a ledger, including the `\n`."""
    data = event.model_dump_json().encode()
    return b'{"n": %d, "crc": "%b", "data": %b}\n' % (number, checksum(number, data, binding), data)


def encode_lines(first: int, events: Sequence[Event], binding: int) -> bytes:
    """Return events as consecutive lines of a ledger.

    Args:
        first: the number of the first one; with 0, its event gives the binding of the others.
        events: at least one event.
        binding: see `binding_of`.

    Raises:
        ValueError: a line would be longer than `MAX_LINE`.
    """
    later = binding_of(events[0]) if first == 0 else binding
    lines = [
        encode(number, event, later if number else UNBOUND)
        for number, event in enumerate(events, first)
    ]
    if any(len(line) > MAX_LINE for line in lines):
        raise ValueError(f"an event is longer than {MAX_LINE:,} bytes")
    return b"".join(lines)


def decode(number: int, line: bytes, binding: int = UNBOUND) -> Event:
    r"""Return the event of line `number`, which is given without its `\n`.

    Raises:
        ValueError: the line is damaged, has another number, belongs to another experiment, or is
            not an event.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("it is not a line of a ledger")
    recorded_number, data = int(match[1]), match[3]
    if match[2] != checksum(recorded_number, data, binding):
        other = ", or it belongs to another experiment" if binding != UNBOUND else ""
        raise ValueError(f"its checksum does not match its content{other}")
    if recorded_number != number:
        raise ValueError(f"its number is that of line {recorded_number + 1}")
    try:
        event = EVENT.validate_json(data)
    except ValidationError as error:
        raise ValueError(f"it is not a valid event ({_problem(error)})") from error
    if (number == 0) != isinstance(event, ExperimentCreated):
        raise ValueError("only the first event creates the experiment")
    return event


def _problem(error: ValidationError) -> str:
    """Return what is wrong with an event: the field, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    # The first part is the kind of the event, and the last ones may be keys from the file.
    field = printable(".".join(str(part) for part in first["loc"]), 80)
    if first["type"] == "value_error":
        return f"{field}: {first['ctx']['error']}"
    value = "" if first["type"] in ("missing", "json_invalid") else f" {quoted(first['input'])}:"
    return f"{field}:{value} {printable(first['msg'], 200)}"


def _without_copy(number: int) -> str:
    """Return what to do about damage in line `number` if there is no copy of the ledger."""
    if number == 0:
        return "If there is no copy, remove the experiment: nothing before this line can be kept."
    return (
        f"If there is no copy, cut the file before line {number + 1} to keep the events before it."
    )


def decode_lines(
    source: BinaryIO, location: object, first: int = 0, binding: int = UNBOUND
) -> tuple[list[Event], int]:
    """Decode all complete lines.

    Args:
        source: a ledger or a part of one.
        location: the address of the content, for messages.
        first: the number of the first line in `source`; with 0, its event gives the binding of the
            others.
        binding: see `binding_of`.

    Returns:
        The events, and the length of the complete lines in bytes. What follows is a torn line.

    Raises:
        LedgerError: a complete line is damaged.
        OSError: the source cannot be read.
    """
    events: list[Event] = []
    size = 0
    while line := source.readline(MAX_LINE + 1):
        number = first + len(events)
        if not line.endswith(b"\n") and len(line) <= MAX_LINE:
            break
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"it is longer than {MAX_LINE:,} bytes")  # noqa: TRY301
            events.append(decode(number, line[:-1], binding))
        except ValueError as error:
            raise LedgerError(
                f"The ledger {location} is damaged in line {number + 1}: {error}. Nothing was "
                f"changed. Restore the file from a copy. {_without_copy(number)}"
            ) from error
        size += len(line)
        if number == 0:
            binding = binding_of(events[0])
    return events, size
