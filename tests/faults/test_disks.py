"""Full, read-only and damaged disks, torn ledgers, and clocks that jump."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from celltune.models.errors import CheckpointError
from celltune.models.training import checkpoint
from celltune.search.errors import ExperimentError, LedgerError
from celltune.search.ledger.codec import encode
from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialCreated
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment, new_experiment
from celltune.search.storage.snapshot import replay
from celltune.search.tuning.controller import SearchController
from tests.faults.machine import Machine, count_changes
from tests.search.local_checkpoints import local_checkpoints
from tests.search.simulated_search import make_config, start_ledger, steps

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
EVENTS: list[Event] = [
    FIRST,
    TrialCreated(at=1.0, number=0, params={}, max_epochs=1_000_000),
    EpochReported(at=1.0, number=0, epoch=1, metrics={"valid_loss": 0.1}, checkpoint="epoch-1"),
]
STATE = ({"w": torch.arange(6.0)}, {"epoch": 17, "seconds": 1.25, "order": [3, 1, 2]})


def run_short_search(storage: Path) -> None:
    experiment = LocalExperiment(storage / "demo")
    experiment.create(make_config(), FIRST)
    with experiment.locked(), experiment.open_ledger() as ledger:
        ledger.append(EVENTS[1])
        experiment.checkpoints(0).save(STATE, "epoch-1")
        ledger.append(EVENTS[2])


def assert_consistent(experiment: LocalExperiment) -> None:
    seen = experiment.events()
    assert seen == EVENTS[: len(seen)]
    if len(seen) == len(EVENTS):
        assert experiment.checkpoints(0).load("epoch-1")[1] == STATE[1]
    with experiment.locked(), experiment.open_ledger() as ledger:
        ledger.append(*EVENTS[len(seen) :])
    assert experiment.events() == EVENTS


def test_full_disk_at_any_change_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "complete").mkdir()
    count = count_changes(lambda: run_short_search(tmp_path / "complete"))
    errors = set()
    for fail_at in range(1, count + 1):
        folder = tmp_path / f"{fail_at}"
        folder.mkdir()
        try:
            with Machine(fail_at, OSError(errno.ENOSPC, "No space left on device")).running():
                run_short_search(folder)
        except (ExperimentError, LedgerError, OSError) as error:
            assert "No space left" in str(error)  # noqa: PT017 (some changes only clean up)
            errors.add(type(error))
        experiment = LocalExperiment(folder / "demo")
        if experiment.exists():
            assert_consistent(experiment)
        else:
            run_short_search(folder)
    assert errors == {ExperimentError, LedgerError, OSError}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.getuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a disk is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_real_full_disk(tiny_disk: Path) -> None:
    run_short_search(tiny_disk)
    experiment = LocalExperiment(tiny_disk / "demo")
    with pytest.raises(OSError, match="No space left"):
        _fill_with_checkpoints(experiment)
    (tiny_disk / "filler").write_bytes(b"x" * _free_bytes(tiny_disk))
    with experiment.locked(), experiment.open_ledger() as ledger:
        with pytest.raises(LedgerError, match=r"cannot be written: No space left .* then resume"):
            _fill_with_events(ledger)
        before = ledger.events
    assert experiment.events()[: len(before)] == before
    assert len(before) > 3
    (tiny_disk / "filler").unlink()
    with experiment.locked(), experiment.open_ledger() as ledger:
        ledger.append(EVENTS[2].model_copy(update={"epoch": len(ledger.events) - 1}))
        assert replay(experiment.events(), "demo").trials[0].epochs_done == len(ledger.events) - 2


def _fill_with_checkpoints(experiment: LocalExperiment) -> None:
    for number in itertools.count(2):
        experiment.checkpoints(number).save(({"w": torch.zeros(2000)}, {"epoch": 1}), "epoch-1")


def _fill_with_events(ledger: Ledger) -> None:
    for number in itertools.count(2):
        ledger.append(EVENTS[2].model_copy(update={"epoch": number}))


def _free_bytes(folder: Path) -> int:
    """Return the free space without one block."""
    disk = os.statvfs(folder)
    return max(0, disk.f_bavail - 1) * disk.f_bsize


def test_read_only_disk_can_be_read(tiny_disk: Path) -> None:
    run_short_search(tiny_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    experiment = find_experiment("demo", tiny_disk)
    assert experiment.events() == EVENTS
    assert not experiment.is_locked()
    with pytest.raises(ExperimentError, match=r"cannot be written: Read-only file system. Check"):
        experiment.locked().__enter__()
    with pytest.raises(LedgerError, match="cannot be written: Read-only file system"):
        experiment.open_ledger()
    with pytest.raises(OSError, match="Read-only file system"):
        experiment.checkpoints(0).save(STATE, "epoch-2")
    with pytest.raises(ExperimentError, match=r"storage .* cannot be written: Read-only"):
        new_experiment("other", tiny_disk).create(make_config(), FIRST)
    assert experiment.checkpoints(0).load("epoch-1")[1] == STATE[1]


def test_flipped_bits_and_truncation_of_a_checkpoint_are_detected(tmp_path: Path) -> None:
    checkpoint.save(STATE, tmp_path / "epoch-1")
    rejected = 0
    for name in (checkpoint.STATE, checkpoint.TENSORS):
        path = tmp_path / "epoch-1" / name
        original = path.read_bytes()
        for index in range(len(original)):
            flipped = bytearray(original)
            flipped[index] ^= 1 << index % 8
            for damaged in (bytes(flipped), original[:index]):
                path.write_bytes(damaged)
                rejected += not _loads_unchanged(tmp_path / "epoch-1")
        path.write_bytes(original)
    assert rejected > 700
    assert _loads_unchanged(tmp_path / "epoch-1")


def _loads_unchanged(folder: Path) -> bool:
    try:
        tensors, rest = checkpoint.load(folder)
    except CheckpointError:
        return False
    assert rest == STATE[1]
    assert torch.equal(tensors["w"], STATE[0]["w"])
    return True


def test_damaged_checkpoints_are_set_aside_under_different_names(tmp_path: Path) -> None:
    checkpoints = local_checkpoints(tmp_path)
    for _ in range(3):
        checkpoints.save(STATE, "epoch-1")
        checkpoints.set_aside("epoch-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-1.damaged",
        "epoch-1.damaged-2",
        "epoch-1.damaged-3",
    ]


def test_last_line_torn_at_any_length_is_ignored_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = [encode(number, event) for number, event in enumerate(EVENTS)]
    for length in range(len(lines[-1])):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:length])
        assert read(path) == EVENTS[:-1]
        with Ledger(path) as ledger:
            ledger.append(EVENTS[-1])
        assert path.read_bytes() == b"".join(lines)


def test_jumping_clock_does_not_affect_the_search(tmp_path: Path) -> None:
    jumps = random.Random(1)  # noqa: S311

    def trials(name: str, clock: Any) -> list[Any]:
        path = tmp_path / name
        reports = 3
        while reports == 3:  # Interrupt and resume until nothing is left to do.
            with start_ledger(path) as ledger:
                controller = SearchController(make_config(), ledger, clock=clock)
                reports = len(list(itertools.islice(steps(controller), 3)))
        return [
            (trial.number, trial.params, trial.status, [epoch.metrics for epoch in trial.epochs])
            for trial in replay(read(path), str(path)).trials
        ]

    steady = trials("steady", time.time)
    assert len(steady) == 12
    assert trials("jumping", lambda: jumps.uniform(-1e9, 4e9)) == steady
