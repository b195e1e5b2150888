from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from celltune.data_prep.cache.eviction import LruTracker
from celltune.data_prep.errors import DataError

LIMIT = 100
names = st.sampled_from("abcdef")
users = st.sampled_from(["one", "two", "ended"])


class TrackerMachine(RuleBasedStateMachine):
    """After any sequence of calls, the limit holds and sets in use are not evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = LruTracker(lambda user: user != "ended")
        self.references: dict[tuple[str, str], int] = {}
        self.sizes: dict[str, int] = {}
        self.order: list[str] = []

    @rule(name=names, size=st.integers(1, 60), user=users)
    def add_and_acquire(self, name: str, size: int, user: str) -> None:
        if name not in self.tracker:
            before = list(self.order)
            unused = [n for n in before if not self.in_use(n)]
            try:
                evicted = self.tracker.make_room(size, LIMIT)
            except DataError:
                assert sum(self.sizes[n] for n in before if self.in_use(n)) + size > LIMIT
                return
            assert evicted == unused[: len(evicted)]
            if evicted:
                # Without the last eviction the new set would not have fitted.
                remaining = sum(self.sizes.values()) - sum(self.sizes[n] for n in evicted[:-1])
                assert remaining + size > LIMIT
            for other in evicted:
                self.forget(other)
            self.tracker.add(name, size)
            self.sizes[name] = size
        self.tracker.acquire(name, user)
        self.references[name, user] = self.references.get((name, user), 0) + 1
        self.order = [n for n in self.order if n != name] + [name]

    @precondition(lambda self: self.sizes)
    @rule(data=st.data(), user=users)
    def release(self, data: st.DataObject, user: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        self.tracker.release(name, user)
        self.references[name, user] = max(0, self.references.get((name, user), 0) - 1)

    @rule()
    def evict_unused(self) -> None:
        evicted = self.tracker.evict_unused()
        assert sorted(evicted) == sorted(name for name in self.sizes if not self.in_use(name))
        for name in evicted:
            self.forget(name)

    @invariant()
    def limit_holds_and_all_sets_are_tracked(self) -> None:
        assert self.tracker.nbytes == sum(self.sizes.values()) <= LIMIT
        assert all(name in self.tracker for name in self.sizes)

    def in_use(self, name: str) -> bool:
        return any(self.references.get((name, user), 0) > 0 for user in ("one", "two"))

    def forget(self, name: str) -> None:
        del self.sizes[name]
        self.order.remove(name)
        self.references = {k: count for k, count in self.references.items() if k[0] != name}


TestTracker = TrackerMachine.TestCase


def test_sets_in_use_are_not_evicted() -> None:
    tracker = LruTracker(lambda _: True)
    tracker.add("used", 80)
    tracker.acquire("used", "user")
    with pytest.raises(DataError, match=r"30 bytes does not fit .*data_memory_gb.* use 80 bytes"):
        tracker.make_room(30, 100)
    tracker.release("used", "user")
    assert tracker.make_room(30, 100) == ["used"]


def test_set_that_exceeds_the_limit_alone_is_rejected() -> None:
    tracker = LruTracker(lambda _: True)
    tracker.add("unused", 80)
    message = (
        r"data of 101 bytes exceeds the limit of 100 bytes \(resources\.data_memory_gb\)\. Raise "
        r"the limit, or lower"
    )
    with pytest.raises(DataError, match=message):
        tracker.make_room(101, 100)
    assert "unused" in tracker


def test_nothing_is_evicted_without_a_limit() -> None:
    tracker = LruTracker(lambda _: True)
    tracker.add("a", 1 << 60)
    assert tracker.make_room(1 << 60, None) == []
