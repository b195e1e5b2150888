"""One contract for every storage: what is on the disk and what is in an object store."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from celltune.models.errors import CheckpointError
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialCreated
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from celltune.search.storage.retention import CheckpointRetention
from tests.search.support import make_config

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
CREATED = TrialCreated(at=1.0, number=0, params={"cell": "gru"}, max_epochs=9)
EPOCHS: list[Event] = [
    EpochReported(
        at=1.0, number=0, epoch=n, metrics={"valid_accuracy": 0.5}, checkpoint=f"epoch-{n}"
    )
    for n in (1, 2, 3)
]
OLD = ({"w": torch.arange(6.0)}, {"epoch": 1})
NEW = ({"w": torch.ones(6)}, {"epoch": 2})


@pytest.fixture(params=["disk", "object store"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "disk":
        return open_storage(tmp_path / "storage")
    return open_storage(request.getfixturevalue("bucket"))


@pytest.fixture
def folder(root: Storage) -> Experiment:
    folder = new_experiment("demo", root)
    folder.create(make_config(), FIRST)
    return folder


def same(left: tuple, right: tuple) -> bool:
    return left[1] == right[1] and all(torch.equal(left[0][k], right[0][k]) for k in right[0])


def test_what_was_created_is_found_whole(root: Storage, folder: Experiment) -> None:
    found = find_experiment("demo", root)
    assert root.names() == ["demo"]
    assert found.name == "demo"
    assert found.location == str(root / "demo")
    assert found.config() == make_config()
    assert found.state().created == FIRST


def test_an_empty_storage_has_no_experiments(root: Storage) -> None:
    assert root.names() == []
    with pytest.raises(ExperimentError, match=r"'demo'. It contains no experiments"):
        find_experiment("demo", root)


def test_a_taken_name_is_refused(root: Storage, folder: Experiment) -> None:
    with pytest.raises(ExperimentError, match=r"already exists in .*Resume it"):
        new_experiment("demo", root)
    with pytest.raises(ExperimentError, match="already exists"):
        folder.create(make_config(), FIRST)
    with pytest.raises(ExperimentError, match="Did you mean 'demo'"):
        find_experiment("dem", root)
    assert folder.events() == [FIRST]


def test_what_was_appended_is_read_by_all(root: Storage, folder: Experiment) -> None:
    with folder.locked(), folder.open_ledger() as ledger:
        ledger.append(CREATED)
        ledger.append(EPOCHS[0], EPOCHS[1])
        assert ledger.events == [FIRST, CREATED, *EPOCHS[:2]]
        assert find_experiment("demo", root).events() == ledger.events
    with folder.locked(), folder.open_ledger() as ledger:
        assert ledger.events == [FIRST, CREATED, *EPOCHS[:2]]
        ledger.append(EPOCHS[2])
    assert folder.state().trials[0].epochs_done == 3


def test_one_drives_at_a_time(root: Storage, folder: Experiment) -> None:
    second = find_experiment("demo", root)
    assert not second.is_locked()
    with folder.locked():
        assert second.is_locked()
        with (
            pytest.raises(ExperimentError, match=r"run by another process \(pid .*stop it first"),
            second.locked(),
        ):
            pass
    assert not second.is_locked()
    with second.locked():
        assert folder.is_locked()


def test_checkpoints_travel_and_come_back(folder: Experiment) -> None:
    checkpoints: Checkpoints = pickle.loads(pickle.dumps(folder.checkpoints(3)))  # noqa: S301
    with pytest.raises(CheckpointError, match=r"epoch-1.*used: it can't be read \(No such"):
        checkpoints.load("epoch-1")
    checkpoints.save(OLD, "epoch-1")
    assert same(checkpoints.load("epoch-1"), OLD)
    checkpoints.save(NEW, "epoch-1")
    assert same(folder.checkpoints(3).load("epoch-1"), NEW)
    checkpoints.save(OLD, "epoch-2")
    aside = checkpoints.set_aside("epoch-1")
    assert aside == checkpoints.location("epoch-1.damaged")
    assert same(checkpoints.load("epoch-1.damaged"), NEW)
    with pytest.raises(CheckpointError):
        checkpoints.load("epoch-1")
    with pytest.raises(FileNotFoundError):
        checkpoints.set_aside("epoch-1")
    checkpoints.remove("epoch-2")
    checkpoints.remove("epoch-2")
    with pytest.raises(CheckpointError):
        checkpoints.load("epoch-2")


def test_the_keeper_removes_what_nothing_needs(folder: Experiment) -> None:
    state = ExperimentState([CREATED])
    keeper = CheckpointRetention(folder, "valid_accuracy")
    for number, event in enumerate(EPOCHS, 1):
        folder.checkpoints(0).save(OLD, f"epoch-{number}")
        state.apply(event)
        keeper(event, state)
    folder.checkpoints(0).load("epoch-1")
    folder.checkpoints(0).load("epoch-3")
    keeper(EPOCHS[2], ExperimentState([CREATED, *EPOCHS]))
    folder.checkpoints(0).remove("epoch-2")
