"""After a crash at any request to an object store, readers see the old or the new state."""

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
def crashing(fail_at: int, *, takes_effect: bool) -> Iterator[list[str]]:
    """Crash at a request, before or after it takes effect. All later requests crash too."""
    requests: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: ArrowPath, *args: Any) -> Any:
            requests.append(name)
            if len(requests) == fail_at and takes_effect:
                real(path, *args)
            if len(requests) >= fail_at:
                raise Crash
            return real(path, *args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        # A dead process shows no sign of life, which its own machine detects without waiting.
        patch.setattr(lease, "BEAT_SECONDS", 3600.0)
        patch.setattr(lease.Lease, "release", lambda self: self._released.set())
        for name in REQUESTS:
            patch.setattr(ArrowPath, name, wrapped(name, getattr(ArrowPath, name)))
        yield requests


def every_crash(
    storage: Storage,
    prepare: Callable[[Experiment], None],
    act: Callable[[Experiment], None],
    takes_effect: bool,
) -> Iterator[Experiment]:
    """Yield an experiment after a crash at the first request, at the second, ..."""
    for fail_at in range(1, 100):
        experiment = storage.experiment(f"e{uuid4().hex[:12]}")
        prepare(experiment)
        try:
            with crashing(fail_at, takes_effect=takes_effect):
                act(experiment)
        except Crash:
            yield experiment
        else:
            assert fail_at > 2
            return


@pytest.fixture
def storage(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(lease, "_is_alive_here", lambda content: False)
    monkeypatch.setattr(segments, "MERGE_AT", 3)
    return open_storage(bucket)


@pytest.mark.parametrize("takes_effect", [False, True])
def test_ledger_keeps_acknowledged_events(storage: Storage, takes_effect: bool) -> None:
    acknowledged: dict[str, int] = {}

    def prepare(experiment: Experiment) -> None:
        experiment.create(make_config(), FIRST)

    def act(experiment: Experiment) -> None:
        acknowledged[experiment.name] = 1
        with experiment.locked(), experiment.open_ledger() as ledger:
            for event in EVENTS[1:]:
                ledger.append(event)
                acknowledged[experiment.name] += 1

    for experiment in every_crash(storage, prepare, act, takes_effect):
        again = storage.experiment(experiment.name)
        seen = again.events()
        assert seen == EVENTS[: len(seen)]
        assert len(seen) >= acknowledged[experiment.name]
        with again.locked(), again.open_ledger() as ledger:
            assert ledger.events == seen
            ledger.append(*EVENTS[len(seen) :])
        assert again.events() == EVENTS
    assert max(acknowledged.values()) == len(EVENTS)


@pytest.mark.parametrize("takes_effect", [False, True])
def test_replaced_checkpoint_is_old_or_new(storage: Storage, takes_effect: bool) -> None:
    def prepare(experiment: Experiment) -> None:
        experiment.checkpoints(0).save(OLD, "epoch-1")

    def act(experiment: Experiment) -> None:
        experiment.checkpoints(0).save(NEW, "epoch-1")

    for experiment in every_crash(storage, prepare, act, takes_effect):
        assert experiment.checkpoints(0).load("epoch-1")[1] in (OLD[1], NEW[1])
        experiment.checkpoints(0).save(NEW, "epoch-1")
        assert experiment.checkpoints(0).load("epoch-1")[1] == NEW[1]


@pytest.mark.parametrize("takes_effect", [False, True])
def test_new_experiment_is_missing_or_complete(storage: Storage, takes_effect: bool) -> None:
    def act(experiment: Experiment) -> None:
        experiment.create(make_config(), FIRST)

    for experiment in every_crash(storage, lambda experiment: None, act, takes_effect):
        if experiment.name in storage.names():
            assert find_experiment(experiment.name, storage).config() == make_config()
        else:
            new_experiment(experiment.name, storage).create(make_config(), FIRST)
        assert find_experiment(experiment.name, storage).events() == [FIRST]
