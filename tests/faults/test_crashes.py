"""A crash at every single change of the disk: who reads sees the old state or the new."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from celltune.models.errors import CheckpointError
from celltune.models.training import checkpoint
from celltune.search.errors import ExperimentError
from celltune.search.ledger.codec import encode
from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialCreated
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from tests.faults.machine import Machine, changes, crash
from tests.search.simulated_search import make_config

pytestmark = pytest.mark.parametrize("power", [False, True], ids=["process dies", "power is cut"])

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
OLD: list[Event] = [FIRST, TrialCreated(at=1.0, number=0, params={}, max_epochs=9)]
NEW: list[Event] = [
    EpochReported(at=1.0, number=0, epoch=n, metrics={"valid_loss": 0.1}, checkpoint=f"epoch-{n}")
    for n in (1, 2, 3)
]
OLDER = ({"w": torch.arange(6.0)}, {"epoch": 1})
NEWER = ({"w": torch.ones(6)}, {"epoch": 2})


def every_crash(
    make: Callable[[Path], Callable[[], None]], tmp_path: Path, power: bool
) -> list[Path]:
    """Give the folder after a crash at the first change, at the second, ..."""
    (tmp_path / "whole").mkdir()
    count = changes(make(tmp_path / "whole"))
    assert count > 2
    for die_at in range(1, count + 1):
        place = tmp_path / f"{die_at}"
        place.mkdir()
        crash(make(place), die_at, power=power)
    return [tmp_path / f"{die_at}" for die_at in range(1, count + 1)]


def test_of_the_ledger(tmp_path: Path, power: bool) -> None:
    acknowledged: dict[Path, int] = {}

    def make(place: Path) -> Callable[[], None]:
        path = place / "ledger.jsonl"
        lines = [encode(number, event) for number, event in enumerate([*OLD, NEW[0]])]
        path.write_bytes(b"".join(lines)[:-5])

        def act() -> None:
            acknowledged[place] = len(OLD)
            with Ledger(path) as ledger:
                ledger.append(NEW[0], NEW[1])
                acknowledged[place] = len(OLD) + 2
                ledger.append(NEW[2])
                acknowledged[place] = len(OLD) + 3

        return act

    places = every_crash(make, tmp_path, power)
    assert {acknowledged[place] for place in places} >= {2, 4}
    for place in places:
        path = place / "ledger.jsonl"
        seen = read(path)
        assert seen == [*OLD, *NEW][: len(seen)]
        assert len(seen) >= acknowledged[place]
        with Ledger(path) as ledger:
            assert ledger.events == seen
            ledger.append(*[*OLD, *NEW][len(seen) :])
        assert read(path) == [*OLD, *NEW]


def test_of_a_checkpoint_that_replaces_another(tmp_path: Path, power: bool) -> None:
    def make(place: Path) -> Callable[[], None]:
        LocalCheckpoints(place / "trials" / "0").save(OLDER, "epoch-1")
        return lambda: LocalCheckpoints(place / "trials" / "0").save(NEWER, "epoch-1")

    for place in every_crash(make, tmp_path, power):
        checkpoints = LocalCheckpoints(place / "trials" / "0")
        assert checkpoints.load("epoch-1")[1] in (OLDER[1], NEWER[1])
        checkpoints.save(NEWER, "epoch-1")
        assert checkpoints.load("epoch-1")[1] == NEWER[1]
        assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-1"]


def test_of_a_trials_first_checkpoint(tmp_path: Path, power: bool) -> None:
    def make(place: Path) -> Callable[[], None]:
        return lambda: LocalCheckpoints(place / "trials" / "0").save(NEWER, "epoch-1")

    for place in every_crash(make, tmp_path, power):
        checkpoints = LocalCheckpoints(place / "trials" / "0")
        try:
            assert checkpoints.load("epoch-1")[1] == NEWER[1]
        except CheckpointError as error:
            assert "No such file" in str(error)  # noqa: PT017 (either is right)
        checkpoints.save(NEWER, "epoch-1")
        assert checkpoints.load("epoch-1")[1] == NEWER[1]


def test_once_saved_a_checkpoint_outlives_a_power_cut(tmp_path: Path, power: bool) -> None:
    machine = Machine()
    checkpoints = LocalCheckpoints(tmp_path / "demo" / "trials" / "0")
    with machine.running():
        checkpoints.save(NEWER, "epoch-1")
    if power:
        machine.cut_power()
    assert checkpoints.load("epoch-1")[1] == NEWER[1]


def test_of_tidying_and_setting_aside(tmp_path: Path, power: bool) -> None:
    def make(place: Path) -> Callable[[], None]:
        checkpoints = LocalCheckpoints(place)
        for number in (1, 2, 3):
            checkpoints.save(OLDER, f"epoch-{number}")

        def act() -> None:
            checkpoints.set_aside("epoch-3")
            checkpoints.remove("epoch-1")

        return act

    for place in every_crash(make, tmp_path, power):
        assert LocalCheckpoints(place).load("epoch-2")[1] == OLDER[1]
        kept = {path.name for path in place.iterdir()} & {"epoch-3", "epoch-3.damaged"}
        assert len(kept) == 1
        assert checkpoint.load(place / kept.pop())[1] == OLDER[1]
        LocalCheckpoints(place).remove("epoch-1")


def test_of_creating_an_experiment(tmp_path: Path, power: bool) -> None:
    def make(place: Path) -> Callable[[], None]:
        folder = LocalExperiment(place / "storage" / "demo")
        return lambda: folder.create(make_config(), FIRST)

    for place in every_crash(make, tmp_path, power):
        storage = place / "storage"
        if open_storage(storage).names():
            found = find_experiment("demo", storage)
            assert found.config() == make_config()
            assert found.events() == [FIRST]
            with pytest.raises(ExperimentError, match="already exists"):
                new_experiment("demo", storage)
            shutil.rmtree(found.path)
        new_experiment("demo", storage).create(make_config(), FIRST)
        assert find_experiment("demo", storage).events() == [FIRST]
