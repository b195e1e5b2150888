"""Eviction of data sets from memory: the decision, without Ray.

The `DataCache` actor carries it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from celltune.data_prep.errors import DataError


@dataclass
class _Entry:
    """Size, last use and users of a data set; `references` counts `acquire` calls per user."""

    nbytes: int
    last_used: int
    references: Counter[str] = field(default_factory=Counter)


class LruTracker:
    """Tracks sizes, users and last use of data sets, and selects sets to evict.

    A set that a running user has acquired is never evicted. Time is a counter of calls, not a
    clock.

    Args:
        is_running: returns whether a user still runs; the references of others are ignored.
    """

    def __init__(self, is_running: Callable[[str], bool]) -> None:
        self._is_running = is_running
        self._entries: dict[str, _Entry] = {}
        self._now = 0

    def __contains__(self, name: str) -> bool:
        """Return whether a set is tracked."""
        return name in self._entries

    @property
    def nbytes(self) -> int:
        """Total size of all sets in bytes."""
        return sum(entry.nbytes for entry in self._entries.values())

    def make_room(self, nbytes: int, limit: int | None) -> list[str]:
        """Evict unused sets until another set fits below the limit.

        Args:
            nbytes: size of the new set.
            limit: maximum total size in bytes; None for no limit.

        Returns:
            The evicted sets, the least recently used first.

        Raises:
            DataError: the sets in use leave too little room; nothing is evicted.
        """
        if limit is None:
            return []
        evicted: list[str] = []
        remaining = self.nbytes
        for name in sorted(self._entries, key=lambda name: self._entries[name].last_used):
            if remaining + nbytes <= limit:
                break
            if not self.users(name):
                evicted.append(name)
                remaining -= self._entries[name].nbytes
        if remaining + nbytes > limit:
            raise DataError(_no_room(nbytes, limit, remaining))
        for name in evicted:
            del self._entries[name]
        return evicted

    def add(self, name: str, nbytes: int) -> None:
        """Track a new set."""
        self._entries[name] = _Entry(nbytes, self._tick())

    def touch(self, name: str) -> None:
        """Record that a set is used now."""
        self._entries[name].last_used = self._tick()

    def acquire(self, name: str, user: str) -> None:
        """Protect a set until `user` has called `release` once for each `acquire`."""
        self._entries[name].references[user] += 1
        self.touch(name)

    def release(self, name: str, user: str) -> None:
        """Release one reference; does nothing if the user has none."""
        if name in self._entries and self._entries[name].references[user]:
            self._entries[name].references[user] -= 1

    def users(self, name: str) -> int:
        """Return the number of running users of a set."""
        references = self._entries[name].references
        return sum(count > 0 and self._is_running(user) for user, count in references.items())

    def evict_unused(self, names: Collection[str] | None = None) -> list[str]:
        """Evict all unused sets, or those among `names`, and return them."""
        evicted = [
            name
            for name in self._entries
            if (names is None or name in names) and not self.users(name)
        ]
        for name in evicted:
            del self._entries[name]
        return evicted

    def _tick(self) -> int:
        self._now += 1
        return self._now


def _no_room(nbytes: int, limit: int, used: int) -> str:
    shown = f"the limit of {limit:,} bytes (resources.data_memory_gb)"
    if nbytes > limit:
        return (
            f"The prepared data of {nbytes:,} bytes exceeds {shown}. Raise the limit, or lower "
            f"data.train_size or data.max_tokens."
        )
    return (
        f"The prepared data of {nbytes:,} bytes does not fit into {shown}, because running "
        f"searches use {used:,} bytes. Raise the limit, wait until another search ends, or lower "
        f"data.train_size or data.max_tokens."
    )
