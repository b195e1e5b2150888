from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from celltune.data_prep.cache.eviction import LruTracker
from celltune.data_prep.errors import DataError

CEILING = 100
names = st.sampled_from("abcdef")
holders = st.sampled_from(["one", "two", "dead"])


class ShelfMachine(RuleBasedStateMachine):
    """Whatever is done, the ceiling holds and what a living holder holds stays."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = LruTracker(lambda holder: holder != "dead")
        self.held: dict[tuple[str, str], int] = {}
        self.sizes: dict[str, int] = {}
        self.order: list[str] = []

    @rule(name=names, size=st.integers(1, 60), holder=holders)
    def publish(self, name: str, size: int, holder: str) -> None:
        if name not in self.shelf:
            before = list(self.order)
            free = [n for n in before if not self.living(n)]
            try:
                gone = self.shelf.make_room(size, CEILING)
            except DataError:
                assert sum(self.sizes[n] for n in before if self.living(n)) + size > CEILING
                return
            assert gone == free[: len(gone)]
            if gone:
                # One fewer would not have been enough.
                kept = sum(self.sizes.values()) - sum(self.sizes[n] for n in gone[:-1])
                assert kept + size > CEILING
            for lost in gone:
                self.forget(lost)
            self.shelf.put(name, size)
            self.sizes[name] = size
        self.shelf.hold(name, holder)
        self.held[name, holder] = self.held.get((name, holder), 0) + 1
        self.order = [n for n in self.order if n != name] + [name]

    @precondition(lambda self: self.sizes)
    @rule(data=st.data(), holder=holders)
    def let_go(self, data: st.DataObject, holder: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        self.shelf.let_go(name, holder)
        self.held[name, holder] = max(0, self.held.get((name, holder), 0) - 1)

    @rule()
    def clear(self) -> None:
        gone = self.shelf.clear()
        assert sorted(gone) == sorted(name for name in self.sizes if not self.living(name))
        for name in gone:
            self.forget(name)

    @invariant()
    def ceiling_and_holds_are_kept(self) -> None:
        assert self.shelf.nbytes == sum(self.sizes.values()) <= CEILING
        assert all(name in self.shelf for name in self.sizes)

    def living(self, name: str) -> bool:
        return any(self.held.get((name, holder), 0) > 0 for holder in ("one", "two"))

    def forget(self, name: str) -> None:
        del self.sizes[name]
        self.order.remove(name)
        self.held = {key: count for key, count in self.held.items() if key[0] != name}


TestShelf = ShelfMachine.TestCase


def test_what_is_in_use_is_never_given_up() -> None:
    shelf = LruTracker(lambda _: True)
    shelf.put("mine", 80)
    shelf.hold("mine", "me")
    with pytest.raises(DataError, match=r"30 bytes .* beside 80 bytes in use .*data_memory_gb"):
        shelf.make_room(30, 100)
    shelf.let_go("mine", "me")
    assert shelf.make_room(30, 100) == ["mine"]


def test_without_a_ceiling_nothing_is_given_up() -> None:
    shelf = LruTracker(lambda _: True)
    shelf.put("a", 1 << 60)
    assert shelf.make_room(1 << 60, None) == []
