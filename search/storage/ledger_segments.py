"""A ledger in an object store, where nothing can be appended to.

::

    <experiment>/ledger/<first line>-<lines>-<generation>.jsonl
    <experiment>/ledger/<first line>-<lines>-<generation>-merged.jsonl

Each append is one object, written once and never again. Joined in order the objects are the very
bytes of a `ledger.jsonl`. Lines count from 0; the generation is that of the lease under which they
were written (see `search.lease`). Where two objects begin with the same line, the higher generation
holds: the other was written by a driver that had been succeeded, and was never acknowledged.

So that a long search doesn't become tens of thousands of objects, the newest ones are merged now
and then: first the merged object is written, then its parts are removed, so a crash in between
leaves both, and readers take the merged one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from celltune.search.errors import LedgerError
from celltune.search.ledger.codec import decode_all
from celltune.search.ledger.events import Event
from celltune.search.storage.lease import Lease
from celltune.search.storage.object_path import ObjectPath

_log = logging.getLogger(__name__)

MERGE_AT = 256
"""So many objects become one."""
SIDE_BY_SIDE = 16
"""Requests under way at the same time."""
_READS = 5

_NAME = re.compile(r"(\d{10})-(\d{6,})-(\d{8})(-merged)?\.jsonl")


@dataclass(frozen=True)
class Segment:
    """What an object's name says of it."""

    first: int
    count: int
    generation: int
    merged: bool = False

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
        """Of several that begin with the same line the one with the highest rank holds."""
        return (self.generation, self.merged, self.count)


def _parse(name: str) -> Segment | None:
    match = _NAME.fullmatch(name)
    return match and Segment(int(match[1]), int(match[2]), int(match[3]), match[4] is not None)


def chain(found: Iterable[Segment], where: object) -> list[Segment]:
    """Put segments in the order of their lines, leaving out those that others stand for.

    Raises:
        LedgerError: lines are missing, or stand twice.
    """
    waiting = sorted(found, key=lambda segment: (segment.first, *(-n for n in segment.rank)))
    chosen: list[Segment] = []
    line = 0
    for segment in waiting:
        if segment.first > line:
            raise _damaged(where, f"lines {line + 1} to {segment.first} are missing", segment)
        if segment.first == line:
            chosen.append(segment)
            line = segment.end
        elif segment.generation == chosen[-1].generation and not chosen[-1].merged:
            raise _damaged(where, f"line {segment.first + 1} stands twice", segment)
    return chosen


def _damaged(where: object, what: str, segment: Segment) -> LedgerError:
    return LedgerError(
        f"The ledger {where} is damaged at its object {segment.name}: {what}. Nothing was changed. "
        f"Put the object back from a copy; if there is none, removing {segment.name} and those "
        "after it keeps what was recorded until then."
    )


def read(place: ObjectPath) -> list[Event]:
    """Read the events of the ledger under `place`, also while a search writes.

    Raises:
        LedgerError: it can't be read, or is damaged.
    """
    return [event for _, _, events in _read_parts(place) for event in events]


Part = tuple[Segment, bytes, list[Event]]


def _read_parts(place: ObjectPath) -> list[Part]:
    try:
        for _ in range(_READS):
            segments = chain(filter(None, map(_parse, place.names())), place)
            try:
                contents = _fetch(place, segments)
            except FileNotFoundError:
                continue  # It was merged after it was listed.
            return [
                (segment, content, _decode(place, segment, content))
                for segment, content in zip(segments, contents, strict=True)
            ]
    except OSError as error:
        raise LedgerError(f"The ledger {place} can't be read: {error.strerror}.") from error
    raise LedgerError(f"The ledger {place} can't be read: its objects come and go.")


def _fetch(place: ObjectPath, segments: Sequence[Segment]) -> list[bytes]:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(lambda segment: (place / segment.name).read_bytes(), segments))


def _decode(place: ObjectPath, segment: Segment, content: bytes) -> list[Event]:
    events, whole = decode_all(content, place / segment.name, segment.first)
    if whole != len(content) or len(events) != segment.count:
        raise _damaged(
            place, f"it holds {len(events)} whole lines instead of {segment.count}", segment
        )
    return events


class SegmentedLedger:
    """A `search.ledger.Record` of objects."""

    def __init__(self, place: ObjectPath, lease: Lease) -> None:
        """Keep the ledger under `place`, as the holder of `lease`."""
        self._place = place
        self._lease = lease
        self._newest: list[tuple[Segment, bytes]] = []

    @property
    def location(self) -> str:
        """Its prefix."""
        return str(self._place)

    def open(self) -> list[Event]:
        """Read what there is."""
        parts = _read_parts(self._place)
        last = max((index for index, part in enumerate(parts, 1) if part[0].merged), default=0)
        self._newest = [(segment, content) for segment, content, _ in parts[last:]]
        return [event for _, _, events in parts for event in events]

    def write(self, first: int, count: int, data: bytes) -> None:
        """Upload the lines as one object; they count if this driver still has the lease."""
        segment = Segment(first, count, self._lease.generation)
        (self._place / segment.name).write_bytes(data)
        self._lease.confirm()
        self._newest.append((segment, data))
        if len(self._newest) >= MERGE_AT:
            self._merge()

    def _merge(self) -> None:
        parts, self._newest = self._newest, []
        first, last = parts[0][0], parts[-1][0]
        merged = Segment(first.first, last.end - first.first, self._lease.generation, merged=True)
        try:
            (self._place / merged.name).write_bytes(b"".join(data for _, data in parts))
            self._lease.confirm()
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                list(pool.map(lambda part: (self._place / part[0].name).unlink(), parts))
        except OSError as error:
            # The lines are durable either way; the parts merely stay what is read.
            _log.warning("The ledger %s isn't merged: %s", self._place, error.strerror)

    def close(self) -> None:
        """Nothing is open between two requests."""
