"""Disks that are full, read-only or damaged, torn ledgers, and clocks that jump."""

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
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment, new_experiment
from celltune.search.storage.snapshot import replay
from celltune.search.tuning.controller import SearchController
from tests.faults.machine import Machine, changes
from tests.search.simulated_search import make_config, start_ledger, steps

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
EVENTS: list[Event] = [
    FIRST,
    TrialCreated(at=1.0, number=0, params={}, max_epochs=9),
    EpochReported(at=1.0, number=0, epoch=1, metrics={"valid_loss": 0.1}, checkpoint="epoch-1"),
]
STATE = ({"w": torch.arange(6.0)}, {"epoch": 17, "seconds": 1.25, "order": [3, 1, 2]})


def search_a_little(place: Path) -> None:
    folder = LocalExperiment(place / "demo")
    folder.create(make_config(), FIRST)
    with folder.locked(), folder.open_ledger() as ledger:
        ledger.append(EVENTS[1])
        folder.checkpoints(0).save(STATE, "epoch-1")
        ledger.append(EVENTS[2])


def check_sound(folder: LocalExperiment) -> None:
    seen = folder.events()
    assert seen == EVENTS[: len(seen)]
    if len(seen) == len(EVENTS):
        assert folder.checkpoints(0).load("epoch-1")[1] == STATE[1]
    with folder.locked(), folder.open_ledger() as ledger:
        ledger.append(*EVENTS[len(seen) :])
    assert folder.events() == EVENTS


def test_a_disk_that_fills_at_any_change_is_told_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    count = changes(lambda: search_a_little(tmp_path / "whole"))
    told = set()
    for fail_at in range(1, count + 1):
        place = tmp_path / f"{fail_at}"
        place.mkdir()
        try:
            with Machine(fail_at, OSError(errno.ENOSPC, "No space left on device")).running():
                search_a_little(place)
        except (ExperimentError, LedgerError, OSError) as error:
            assert "No space left" in str(error)  # noqa: PT017 (some changes only tidy)
            told.add(type(error))
        folder = LocalExperiment(place / "demo")
        if folder.exists():
            check_sound(folder)
        else:
            search_a_little(place)
    assert told == {ExperimentError, LedgerError, OSError}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if os.getuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a disk isn't allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    search_a_little(tiny_disk)
    folder = LocalExperiment(tiny_disk / "demo")
    with pytest.raises(OSError, match="No space left"):
        _fill_with_checkpoints(folder)
    (tiny_disk / "rest").write_bytes(b"x" * sum(_fitting(tiny_disk)))
    with folder.locked(), folder.open_ledger() as ledger:
        with pytest.raises(LedgerError, match=r"cannot be written: No space left .* then resume"):
            _fill_with_events(ledger)
        before = ledger.events
    assert folder.events()[: len(before)] == before
    assert len(before) > 3
    (tiny_disk / "rest").unlink()
    with folder.locked(), folder.open_ledger() as ledger:
        ledger.append(EVENTS[2].model_copy(update={"epoch": len(ledger.events) - 1}))
        assert folder.state().trials[0].epochs_done == len(ledger.events) - 2


def _fill_with_checkpoints(folder: LocalExperiment) -> None:
    for number in itertools.count(2):
        folder.checkpoints(number).save(({"w": torch.zeros(2000)}, {"epoch": 1}), "epoch-1")


def _fill_with_events(ledger: Ledger) -> None:
    for number in itertools.count(2):
        ledger.append(EVENTS[2].model_copy(update={"epoch": number}))


def _fitting(place: Path) -> Iterator[int]:
    free = os.statvfs(place)
    yield max(0, free.f_bavail - 1) * free.f_bsize


def test_a_folder_that_can_not_be_written(tiny_disk: Path) -> None:
    search_a_little(tiny_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    folder = find_experiment("demo", tiny_disk)
    assert folder.events() == EVENTS
    assert not folder.is_locked()
    with pytest.raises(ExperimentError, match=r"cannot be written: Read-only file system. Check"):
        folder.locked().__enter__()
    with pytest.raises(LedgerError, match="cannot be written: Read-only file system"):
        folder.open_ledger()
    with pytest.raises(OSError, match="Read-only file system"):
        folder.checkpoints(0).save(STATE, "epoch-2")
    with pytest.raises(ExperimentError, match=r"storage .* cannot be written: Read-only"):
        new_experiment("other", tiny_disk).create(make_config(), FIRST)
    assert folder.checkpoints(0).load("epoch-1")[1] == STATE[1]


def test_no_flipped_bit_and_no_cut_of_a_checkpoint_passes(tmp_path: Path) -> None:
    checkpoint.save(STATE, tmp_path / "epoch-1")
    refused = 0
    for name in (checkpoint.STATE, checkpoint.TENSORS):
        path = tmp_path / "epoch-1" / name
        sound = path.read_bytes()
        for place in range(len(sound)):
            flipped = bytearray(sound)
            flipped[place] ^= 1 << place % 8
            for damaged in (bytes(flipped), sound[:place]):
                path.write_bytes(damaged)
                refused += not _reads_as_it_was(tmp_path / "epoch-1")
        path.write_bytes(sound)
    assert refused > 700
    assert _reads_as_it_was(tmp_path / "epoch-1")


def _reads_as_it_was(folder: Path) -> bool:
    try:
        tensors, rest = checkpoint.load(folder)
    except CheckpointError:
        return False
    assert rest == STATE[1]
    assert torch.equal(tensors["w"], STATE[0]["w"])
    return True


def test_a_second_damaged_checkpoint_is_set_aside_beside_the_first(tmp_path: Path) -> None:
    checkpoints = LocalCheckpoints(tmp_path)
    for _ in range(3):
        checkpoints.save(STATE, "epoch-1")
        checkpoints.set_aside("epoch-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-1.damaged",
        "epoch-1.damaged-2",
        "epoch-1.damaged-3",
    ]


def test_a_last_line_torn_at_any_length_is_dropped_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = [encode(number, event) for number, event in enumerate(EVENTS)]
    for length in range(len(lines[-1])):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:length])
        assert read(path) == EVENTS[:-1]
        with Ledger(path) as ledger:
            ledger.append(EVENTS[-1])
        assert path.read_bytes() == b"".join(lines)


def test_a_clock_that_jumps_decides_nothing(tmp_path: Path) -> None:
    jumps = random.Random(1)  # noqa: S311

    def trials(name: str, clock: Any) -> list[Any]:
        path = tmp_path / name
        cut = 3
        while cut == 3:  # until a run has nothing left to do
            with start_ledger(path) as ledger:
                conductor = SearchController(make_config(), ledger, clock=clock)
                cut = len(list(itertools.islice(steps(conductor), 3)))
        return [
            (trial.number, trial.params, trial.status, [epoch.metrics for epoch in trial.epochs])
            for trial in replay(read(path), str(path)).trials
        ]

    even = trials("even", time.time)
    assert len(even) == 12
    assert trials("jumping", lambda: jumps.uniform(-1e9, 4e9)) == even
