"""After a crash at any change of the disk, readers see the old or the new state."""

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
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from tests.faults.machine import Machine, count_changes, crash
from tests.search.local_checkpoints import local_checkpoints
from tests.search.simulated_search import make_config

pytestmark = pytest.mark.parametrize("power_cut", [False, True], ids=["process dies", "power cut"])

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
OLD: list[Event] = [FIRST, TrialCreated(at=1.0, number=0, params={}, max_epochs=9)]
NEW: list[Event] = [
    EpochReported(at=1.0, number=0, epoch=n, metrics={"valid_loss": 0.1}, checkpoint=f"epoch-{n}")
    for n in (1, 2, 3)
]
OLDER = ({"w": torch.arange(6.0)}, {"epoch": 1})
NEWER = ({"w": torch.ones(6)}, {"epoch": 2})


def every_crash(
    make: Callable[[Path], Callable[[], None]], tmp_path: Path, power_cut: bool
) -> list[Path]:
    """Return the folders after a crash at the first change, at the second, ..."""
    (tmp_path / "complete").mkdir()
    count = count_changes(make(tmp_path / "complete"))
    assert count > 2
    for fail_at in range(1, count + 1):
        folder = tmp_path / f"{fail_at}"
        folder.mkdir()
        crash(make(folder), fail_at, power_cut=power_cut)
    return [tmp_path / f"{fail_at}" for fail_at in range(1, count + 1)]


def test_ledger_keeps_acknowledged_events(tmp_path: Path, power_cut: bool) -> None:
    acknowledged: dict[Path, int] = {}

    def make(folder: Path) -> Callable[[], None]:
        path = folder / "ledger.jsonl"
        lines = [encode(number, event) for number, event in enumerate([*OLD, NEW[0]])]
        path.write_bytes(b"".join(lines)[:-5])

        def act() -> None:
            acknowledged[folder] = len(OLD)
            with Ledger(path) as ledger:
                ledger.append(NEW[0], NEW[1])
                acknowledged[folder] = len(OLD) + 2
                ledger.append(NEW[2])
                acknowledged[folder] = len(OLD) + 3

        return act

    folders = every_crash(make, tmp_path, power_cut)
    assert {acknowledged[folder] for folder in folders} >= {2, 4}
    for folder in folders:
        path = folder / "ledger.jsonl"
        seen = read(path)
        assert seen == [*OLD, *NEW][: len(seen)]
        assert len(seen) >= acknowledged[folder]
        with Ledger(path) as ledger:
            assert ledger.events == seen
            ledger.append(*[*OLD, *NEW][len(seen) :])
        assert read(path) == [*OLD, *NEW]


def test_replaced_checkpoint_is_old_or_new(tmp_path: Path, power_cut: bool) -> None:
    def make(folder: Path) -> Callable[[], None]:
        local_checkpoints(folder / "trials" / "0").save(OLDER, "epoch-1")
        return lambda: local_checkpoints(folder / "trials" / "0").save(NEWER, "epoch-1")

    for folder in every_crash(make, tmp_path, power_cut):
        checkpoints = local_checkpoints(folder / "trials" / "0")
        assert checkpoints.load("epoch-1")[1] in (OLDER[1], NEWER[1])
        checkpoints.save(NEWER, "epoch-1")
        assert checkpoints.load("epoch-1")[1] == NEWER[1]
        assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-1"]


def test_first_checkpoint_is_missing_or_complete(tmp_path: Path, power_cut: bool) -> None:
    def make(folder: Path) -> Callable[[], None]:
        return lambda: local_checkpoints(folder / "trials" / "0").save(NEWER, "epoch-1")

    for folder in every_crash(make, tmp_path, power_cut):
        checkpoints = local_checkpoints(folder / "trials" / "0")
        try:
            assert checkpoints.load("epoch-1")[1] == NEWER[1]
        except CheckpointError as error:
            assert "does not exist" in str(error)  # noqa: PT017 (both outcomes are correct)
        checkpoints.save(NEWER, "epoch-1")
        assert checkpoints.load("epoch-1")[1] == NEWER[1]


def test_saved_checkpoint_survives(tmp_path: Path, power_cut: bool) -> None:
    machine = Machine()
    (tmp_path / "demo").mkdir()
    checkpoints = local_checkpoints(tmp_path / "demo" / "trials" / "0")
    with machine.running():
        checkpoints.save(NEWER, "epoch-1")
    if power_cut:
        machine.cut_power()
    assert checkpoints.load("epoch-1")[1] == NEWER[1]


def test_removal_and_renaming_lose_no_other_checkpoint(tmp_path: Path, power_cut: bool) -> None:
    def make(folder: Path) -> Callable[[], None]:
        checkpoints = local_checkpoints(folder)
        for number in (1, 2, 3):
            checkpoints.save(OLDER, f"epoch-{number}")

        def act() -> None:
            checkpoints.set_aside("epoch-3")
            checkpoints.remove("epoch-1")

        return act

    for folder in every_crash(make, tmp_path, power_cut):
        assert local_checkpoints(folder).load("epoch-2")[1] == OLDER[1]
        names = {path.name for path in folder.iterdir()} & {"epoch-3", "epoch-3.damaged"}
        assert len(names) == 1
        assert checkpoint.load(folder / names.pop())[1] == OLDER[1]
        local_checkpoints(folder).remove("epoch-1")


def test_new_experiment_is_missing_or_complete(tmp_path: Path, power_cut: bool) -> None:
    def make(folder: Path) -> Callable[[], None]:
        experiment = LocalExperiment(folder / "storage" / "demo")
        return lambda: experiment.create(make_config(), FIRST)

    for folder in every_crash(make, tmp_path, power_cut):
        storage = folder / "storage"
        if open_storage(storage).names():
            found = find_experiment("demo", storage)
            assert found.config() == make_config()
            assert found.events() == [FIRST]
            with pytest.raises(ExperimentError, match="already exists"):
                new_experiment("demo", storage)
            shutil.rmtree(found.path)
        new_experiment("demo", storage).create(make_config(), FIRST)
        assert find_experiment("demo", storage).events() == [FIRST]
