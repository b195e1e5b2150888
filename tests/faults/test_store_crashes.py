"""A crash at every single request that changes an object store: who reads sees old or new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import torch

from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialCreated
from celltune.search.storage import lease
from celltune.search.storage import ledger_segments as segments
from celltune.search.storage.arrow import ArrowPath
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from tests.faults.machine import Crash
from tests.search.simulated_search import make_config

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
EVENTS: list[Event] = [
    FIRST,
    TrialCreated(at=1.0, number=0, params={}, max_epochs=9),
    *(
        EpochReported(at=1.0, number=0, epoch=n, metrics={"valid_loss": 0.1}, checkpoint=None)
        for n in range(1, 6)
    ),
]
OLD = ({"w": torch.arange(6.0)}, {"epoch": 1})
NEW = ({"w": torch.ones(6)}, {"epoch": 2})
REQUESTS = ("write_bytes", "unlink", "remove_all")


@contextmanager
def dying(die_at: int, *, answered: bool) -> Iterator[list[str]]:
    """Die at a request, before it is made or once it took effect; dead is dead."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: ArrowPath, *args: Any) -> Any:
            made.append(name)
            if len(made) == die_at and answered:
                real(path, *args)
            if len(made) >= die_at:
                raise Crash
            return real(path, *args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        # A dead process beats no more, and nobody on its machine need wait to see that.
        patch.setattr(lease, "BEAT_SECONDS", 3600.0)
        patch.setattr(lease.Lease, "release", lambda self: self._released.set())
        for name in REQUESTS:
            patch.setattr(ArrowPath, name, wrapped(name, getattr(ArrowPath, name)))
        yield made


def every_crash(
    root: Storage,
    prepare: Callable[[Experiment], None],
    act: Callable[[Experiment], None],
    answered: bool,
) -> Iterator[Experiment]:
    """Give an experiment after a crash at the first request, at the second, ..."""
    for die_at in range(1, 100):
        folder = root.experiment(f"e{uuid4().hex[:12]}")
        prepare(folder)
        try:
            with dying(die_at, answered=answered):
                act(folder)
        except Crash:
            yield folder
        else:
            assert die_at > 2
            return


@pytest.fixture
def root(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(lease, "_is_alive_here", lambda content: False)
    monkeypatch.setattr(segments, "MERGE_AT", 3)
    return open_storage(bucket)


@pytest.mark.parametrize("answered", [False, True])
def test_of_the_ledger_and_its_merges(root: Storage, answered: bool) -> None:
    acknowledged: dict[str, int] = {}

    def prepare(folder: Experiment) -> None:
        folder.create(make_config(), FIRST)

    def act(folder: Experiment) -> None:
        acknowledged[folder.name] = 1
        with folder.locked(), folder.open_ledger() as ledger:
            for event in EVENTS[1:]:
                ledger.append(event)
                acknowledged[folder.name] += 1

    for folder in every_crash(root, prepare, act, answered):
        again = root.experiment(folder.name)
        seen = again.events()
        assert seen == EVENTS[: len(seen)]
        assert len(seen) >= acknowledged[folder.name]
        with again.locked(), again.open_ledger() as ledger:
            assert ledger.events == seen
            ledger.append(*EVENTS[len(seen) :])
        assert again.events() == EVENTS
    assert max(acknowledged.values()) == len(EVENTS)


@pytest.mark.parametrize("answered", [False, True])
def test_of_a_checkpoint_that_replaces_another(root: Storage, answered: bool) -> None:
    def prepare(folder: Experiment) -> None:
        folder.checkpoints(0).save(OLD, "epoch-1")

    def act(folder: Experiment) -> None:
        folder.checkpoints(0).save(NEW, "epoch-1")

    for folder in every_crash(root, prepare, act, answered):
        assert folder.checkpoints(0).load("epoch-1")[1] in (OLD[1], NEW[1])
        folder.checkpoints(0).save(NEW, "epoch-1")
        assert folder.checkpoints(0).load("epoch-1")[1] == NEW[1]


@pytest.mark.parametrize("answered", [False, True])
def test_of_creating_an_experiment(root: Storage, answered: bool) -> None:
    def act(folder: Experiment) -> None:
        folder.create(make_config(), FIRST)

    for folder in every_crash(root, lambda folder: None, act, answered):
        if folder.name in root.names():
            assert find_experiment(folder.name, root).config() == make_config()
        else:
            new_experiment(folder.name, root).create(make_config(), FIRST)
        assert find_experiment(folder.name, root).events() == [FIRST]
