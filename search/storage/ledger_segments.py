"""A ledger in an object store, where nothing can be appended to an object.

::

    <experiment>/ledger/<first line>-<lines>-<generation>.jsonl
    <experiment>/ledger/<first line>-<lines>-<generation>-merged.jsonl

Each append writes one new object, a *segment*. Its lines have the format of `ledger.jsonl`, so the
concatenated segments are such a file. Lines count from 0. The generation is that of the lease under
which the segment was written (see `lease`). If two segments start at the same line, the one with
the higher generation is valid; the other was written by a driver that had lost its lease, and was
never acknowledged.

A long search would leave tens of thousands of segments. Therefore every `MERGE_AT` segments are
merged: the merged segment is written first, then its parts are removed. After a crash in between,
both exist and readers use the merged one.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from celltune.search.errors import LedgerError, StorageError
from celltune.search.ledger.codec import UNBOUND, binding_of, decode_lines
from celltune.search.ledger.events import Event
from celltune.search.storage.lease import Lease
from celltune.search.storage.object_path import ObjectPath

_log = logging.getLogger(__name__)

MERGE_AT = 256
"""Number of segments that are merged into one."""
PARALLEL_REQUESTS = 16
"""Number of simultaneous requests to the store."""
_READ_ATTEMPTS = 5

_NAME = re.compile(r"(\d{10})-(\d{6,10})-(\d{8})(-merged)?\.jsonl")


@dataclass(frozen=True)
class Segment:
    """The fields in a segment's name."""

    first: int
    """The first line."""
    count: int
    """The number of lines."""
    generation: int
    """The generation of the writer's lease."""
    merged: bool = False
    """True if it replaces several segments."""

    @property
    def name(self) -> str:
        """The object's name."""
        ending = "-merged.jsonl" if self.merged else ".jsonl"
        return f"{self.first:010d}-{self.count:06d}-{self.generation:08d}{ending}"

    @property
    def end(self) -> int:
        """The line after the last."""
        return self.first + self.count

    @property
    def rank(self) -> tuple[int, bool, int]:
        """The precedence among segments that start at the same line; the highest is valid."""
        return (self.generation, self.merged, self.count)


def _parse(name: str) -> Segment | None:
    match = _NAME.fullmatch(name)
    return match and Segment(int(match[1]), int(match[2]), int(match[3]), match[4] is not None)


def chain(segments: Iterable[Segment], location: object) -> list[Segment]:
    """Return the valid segments in the order of their lines.

    Args:
        segments: all segments of a ledger.
        location: the ledger's address, for messages.

    Raises:
        LedgerError: lines are missing or duplicated.
    """
    by_line = sorted(segments, key=lambda segment: (segment.first, *(-n for n in segment.rank)))
    valid: list[Segment] = []
    line = 0
    for segment in by_line:
        if segment.first > line:
            problem = f"lines {line + 1} to {segment.first} are missing"
            raise _damage_error(location, problem, segment)
        if segment.first == line:
            valid.append(segment)
            line = segment.end
        elif segment.generation == valid[-1].generation and not valid[-1].merged:
            raise _damage_error(location, f"line {segment.first + 1} is duplicated", segment)
    return valid


def _damage_error(location: object, problem: str, segment: Segment) -> LedgerError:
    return LedgerError(
        f"The ledger {location} is damaged at its object {segment.name}: {problem}. Nothing was "
        "changed. Restore the object from a copy. If there is no copy, remove this object and "
        "those after it to keep the events before it."
    )


def read(prefix: ObjectPath) -> list[Event]:
    """Return the events of the ledger under `prefix`; also works while a driver appends.

    Raises:
        LedgerError: the ledger cannot be read, or is damaged.
    """
    return [event for _, _, events in _read_segments(prefix) for event in events]


def _read_segments(prefix: ObjectPath) -> list[tuple[Segment, bytes, list[Event]]]:
    try:
        for _ in range(_READ_ATTEMPTS):
            segments = chain(filter(None, map(_parse, prefix.names())), prefix)
            try:
                contents = _download(prefix, segments)
            except FileNotFoundError:
                continue  # A segment was merged after it was listed.
            return _decoded(prefix, segments, contents)
    except OSError as error:
        raise LedgerError(f"The ledger {prefix} cannot be read: {error.strerror}.") from error
    raise LedgerError(
        f"The ledger {prefix} cannot be read: its objects were removed during each of "
        f"{_READ_ATTEMPTS} attempts. Try again."
    )


def _download(prefix: ObjectPath, segments: Sequence[Segment]) -> list[bytes]:
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        return list(pool.map(lambda segment: (prefix / segment.name).read_bytes(), segments))


def _decoded(
    prefix: ObjectPath, segments: Sequence[Segment], contents: Sequence[bytes]
) -> list[tuple[Segment, bytes, list[Event]]]:
    decoded: list[tuple[Segment, bytes, list[Event]]] = []
    binding = UNBOUND
    for segment, content in zip(segments, contents, strict=True):
        events = _decode(prefix, segment, content, binding)
        if segment.first == 0:
            binding = binding_of(events[0])
        decoded.append((segment, content, events))
    return decoded


def _decode(prefix: ObjectPath, segment: Segment, content: bytes, binding: int) -> list[Event]:
    source, location = io.BytesIO(content), prefix / segment.name
    events, decoded_bytes = decode_lines(source, location, segment.first, binding)
    # Earlier releases wrote an object without lines when no event was appended.
    is_first_empty = segment.first == 0 and not events
    if is_first_empty or decoded_bytes != len(content) or len(events) != segment.count:
        problem = f"it has {len(events)} complete lines instead of {segment.count}"
        raise _damage_error(prefix, problem, segment)
    return events


class SegmentedLedger:
    """A ledger's lines in segments; a `celltune.search.ledger.ledger.LedgerLines`."""

    def __init__(self, prefix: ObjectPath, lease: Lease) -> None:
        """Store the segments under `prefix`, as the holder of `lease`."""
        self._prefix = prefix
        self._lease = lease
        self._unmerged: list[tuple[Segment, bytes]] = []

    @property
    def location(self) -> str:
        """The prefix, for messages."""
        return str(self._prefix)

    def open(self) -> list[Event]:
        """Return the events of all segments."""
        segments = _read_segments(self._prefix)
        merged = [index for index, (segment, _, _) in enumerate(segments) if segment.merged]
        first_unmerged = merged[-1] + 1 if merged else 0
        self._unmerged = [(segment, data) for segment, data, _ in segments[first_unmerged:]]
        return [event for _, _, events in segments for event in events]

    def write(self, first: int, count: int, data: bytes) -> None:
        """Upload the lines as one segment, and check that this driver still holds the lease."""
        segment = Segment(first, count, self._lease.generation)
        (self._prefix / segment.name).write_bytes(data)
        try:
            self._lease.confirm()
        except StorageError:
            # The experiment was removed. What is left of it would occupy its name.
            with suppress(OSError):
                (self._prefix / segment.name).unlink()
            raise
        self._unmerged.append((segment, data))
        if len(self._unmerged) >= MERGE_AT:
            self._merge()

    def _merge(self) -> None:
        parts, self._unmerged = self._unmerged, []
        first, last = parts[0][0], parts[-1][0]
        merged = Segment(first.first, last.end - first.first, self._lease.generation, merged=True)
        try:
            (self._prefix / merged.name).write_bytes(b"".join(data for _, data in parts))
            self._lease.confirm()
            with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
                list(pool.map(lambda part: (self._prefix / part[0].name).unlink(), parts))
        except (OSError, LedgerError, StorageError) as error:
            # The events are durable in any case; only the number of objects stays high. A lost
            # lease is reported by the next append.
            reason = f"{error.strerror}." if isinstance(error, OSError) else error
            _log.warning("Objects of the ledger %s cannot be merged: %s", self._prefix, reason)

    def check_in_place(self) -> None:
        """Check that the last heartbeat found this driver's lease."""
        self._lease.check_in_place()

    def close(self) -> None:
        """Do nothing: no connection is open between two requests."""
