"""What only an object store can do to an experiment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from celltune.models.errors import CheckpointError
from celltune.search.errors import ExperimentError, LedgerError
from celltune.search.ledger.codec import encode
from celltune.search.ledger.events import Event, ExperimentCreated, TrialCreated
from celltune.search.storage import arrow, lease
from celltune.search.storage import ledger_segments as segments
from celltune.search.storage.arrow import ArrowPath, ArrowStorage
from celltune.search.storage.ledger_segments import Segment, chain
from celltune.search.storage.locate import find_experiment, open_storage
from celltune.search.storage.object_path import ObjectPath
from celltune.search.storage.object_store import ObjectStoreExperiment
from tests.search.support import make_config

FIRST = ExperimentCreated(at=1.0, fingerprint="f")
TRIALS: list[Event] = [TrialCreated(at=1.0, number=n, params={}, max_epochs=1) for n in range(40)]
STATE = ({"w": torch.arange(6.0)}, {"epoch": 1})


@pytest.fixture
def storage(bucket: str, monkeypatch: pytest.MonkeyPatch) -> ArrowStorage:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.03)
    return ArrowStorage.open(bucket)


@pytest.fixture
def root(storage: ArrowStorage) -> ObjectPath:
    return storage.root


@pytest.fixture
def folder(storage: ArrowStorage) -> ObjectStoreExperiment:
    folder = storage.experiment("demo")
    folder.create(make_config(), FIRST)
    return folder


def append(folder: ObjectStoreExperiment, *batches: list[Event]) -> None:
    with folder.locked(), folder.open_ledger() as ledger:
        for batch in batches:
            ledger.append(*batch)


def place_of(folder: ObjectStoreExperiment) -> ObjectPath:
    return folder.storage.root / folder.name / "ledger"


def test_many_events_of_one_append_are_one_object_in_the_ledgers_own_format(
    folder: ObjectStoreExperiment,
) -> None:
    append(folder, TRIALS[:3], TRIALS[3:4])
    place = place_of(folder)
    names = place.names()
    assert [name[:17] for name in names] == [
        "0000000000-000001",
        "0000000001-000003",
        "0000000004-000001",
    ]
    joined = b"".join((place / name).read_bytes() for name in names)
    assert joined == b"".join(encode(n, e) for n, e in enumerate([FIRST, *TRIALS[:4]]))


def test_a_missing_altered_cut_or_doubled_object_is_named(folder: ObjectStoreExperiment) -> None:
    append(folder, TRIALS[:3], TRIALS[3:4], TRIALS[4:5])
    place = place_of(folder)
    second, third = place.names()[1:3]
    content = (place / second).read_bytes()

    (place / second).write_bytes(content.replace(b"trial_created", b"trial_cre4ted"))
    with pytest.raises(LedgerError, match=f"ledger .*{second}.* is damaged in line 2 of 4: its ch"):
        folder.events()
    (place / second).write_bytes(content[:-10])
    with pytest.raises(LedgerError, match=f"object {second}: it holds 2 whole lines instead of 3"):
        folder.events()
    (place / second).write_bytes(content)
    (place / third).unlink()
    with pytest.raises(LedgerError, match=r"damaged at its object .*: lines 5 to 5 are missing"):
        folder.events()
    doubled = second.replace("0000000001-000003", "0000000002-000003")
    (place / doubled).write_bytes(content)
    with pytest.raises(LedgerError, match=f"object {doubled}: line 3 stands twice"):
        folder.events()


def test_small_objects_are_merged_and_a_crash_within_is_harmless(
    folder: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MERGE_AT", 8)
    append(folder, *([trial] for trial in TRIALS[:20]))
    assert len(place_of(folder).names()) == 2 + 5
    assert folder.events() == [FIRST, *TRIALS[:20]]

    def die(path: ObjectPath) -> None:
        raise OSError(5, "the machine died")

    monkeypatch.setattr(ArrowPath, "unlink", die)
    append(folder, *([trial] for trial in TRIALS[20:30]))
    monkeypatch.undo()
    assert folder.events() == [FIRST, *TRIALS[:30]]
    append(folder, TRIALS[30:])
    assert folder.events() == [FIRST, *TRIALS]


def test_a_driver_that_was_taken_for_dead_writes_nothing_that_counts(
    folder: ObjectStoreExperiment, storage: ArrowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.Lease, "_show_life", lambda self: None)
    monkeypatch.setattr(lease, "_lives_here", lambda content: None)
    second = storage.experiment("demo")
    with folder.locked(), folder.open_ledger() as first_ledger:
        first_ledger.append(TRIALS[0])
        with second.locked(), second.open_ledger() as second_ledger:
            with pytest.raises(LedgerError, match="another driver took the experiment over"):
                first_ledger.append(TRIALS[1], TRIALS[2])
            second_ledger.append(TRIALS[1])
            assert folder.events() == second_ledger.events == [FIRST, *TRIALS[:2]]
    append(folder, TRIALS[2:4])
    assert folder.events() == [FIRST, *TRIALS[:4]]


def test_a_lease_is_free_at_once_where_its_process_is_seen_to_be_dead(
    folder: ObjectStoreExperiment, storage: ArrowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, sys\n"
        "from celltune.search.storage.locate import open_storage\n"
        "with open_storage(sys.argv[1]).experiment('demo').locked(): os._exit(9)"
    )
    monkeypatch.setattr(lease, "BEAT_SECONDS", 60.0)
    done = subprocess.run([sys.executable, "-c", code, str(storage)], check=False)
    assert done.returncode == 9
    assert not folder.is_locked()
    append(folder, TRIALS[:1])
    assert folder.events() == [FIRST, TRIALS[0]]


def test_a_lease_of_another_machine_is_free_once_it_shows_no_life(
    folder: ObjectStoreExperiment, root: ObjectPath
) -> None:
    place = root / "demo" / "lock"
    (entry,) = place.names()
    content = json.loads((place / entry).read_bytes())
    content.update(released=False, machine="another", owner="pid 7 on another")
    (place / entry).write_bytes(json.dumps(content).encode())
    assert not folder.is_locked()
    append(folder, TRIALS[:1])
    assert [name[:8] for name in place.names()] == [f"{int(entry[:8]) + 1:08d}"]


def test_of_two_that_take_a_lease_at_once_at_most_one_has_it(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = root / "demo" / "lock"
    rival = place / f"{1:08d}-{'f' * 16}"
    real, written = ArrowPath.write_bytes, []

    def together(path: ObjectPath, content: bytes) -> None:
        real(path, content)
        written.append(path.name)
        if len(written) == 1:
            mine = json.loads(content)
            real(rival, json.dumps({**mine, "machine": "another"}).encode())

    monkeypatch.setattr(ArrowPath, "write_bytes", together)
    taken = lease.Lease(place)
    assert taken.generation == 2  # of the first it had to let go, until the rival was silent
    assert written[0].startswith("00000001-")
    assert [name[:8] for name in place.names()] == ["00000002"]
    taken.release()


def test_a_lease_that_others_keep_taking_is_refused(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ArrowPath.names
    rival = f"{9:08d}-{'f' * 16}"
    seen: list[int] = []

    def names(path: ObjectPath) -> list[str]:
        seen.append(1)
        return real(path) if len(seen) % 2 else [*real(path), rival]

    monkeypatch.setattr(ArrowPath, "names", names)
    with pytest.raises(lease.HeldError, match="others that start at this moment"):
        lease.Lease(root / "demo" / "lock")


def test_a_ledger_without_the_lock_is_refused(folder: ObjectStoreExperiment) -> None:
    with pytest.raises(ExperimentError, match="cannot be opened for writing without its lock"):
        folder.open_ledger()


def test_a_dead_server_is_told_by_every_way_in(
    folder: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(address: str, query: str) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION: no connection (Request ID: x).\nmore")

    with folder.locked(), folder.open_ledger() as ledger:
        monkeypatch.setattr(arrow, "_connect", dead)
        with pytest.raises(LedgerError, match=r"cannot be written: AWS Error NETWORK_CON.* resume"):
            ledger.append(TRIALS[0])
    ways: list[tuple[Callable[[], Any], type[Exception]]] = [
        (folder.events, LedgerError),
        (folder.exists, ExperimentError),
        (folder.is_locked, ExperimentError),
        (folder.storage.names, ExperimentError),
        (lambda: find_experiment("demo", folder.storage), ExperimentError),
        (lambda: folder.locked().__enter__(), ExperimentError),
        (lambda: folder.checkpoints(0).save(STATE, "epoch-1"), OSError),
        (lambda: folder.checkpoints(0).load("epoch-1"), OSError),
    ]
    for way, kind in ways:
        with pytest.raises(kind, match="NETWORK_CONNECTION: no connection"):
            way()


def test_a_damaged_checkpoint_is_no_outage_and_an_outage_no_damage(
    folder: ObjectStoreExperiment,
) -> None:
    checkpoints = folder.checkpoints(0)
    checkpoints.save(STATE, "epoch-1")
    place = checkpoints.folder / "epoch-1"
    (tensors,) = [name for name in place.names() if name.startswith("tensors-")]
    content = bytearray((place / tensors).read_bytes())
    content[-1] ^= 1
    (place / tensors).write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=f"{tensors}.* can't be used: it is altered"):
        checkpoints.load("epoch-1")


def test_a_crash_between_the_two_uploads_of_a_checkpoint_leaves_the_old_one(
    folder: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = folder.checkpoints(0)
    checkpoints.save(STATE, "epoch-1")
    real, done = ArrowPath.write_bytes, []

    def dying(path: ObjectPath, content: bytes) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(path)
        real(path, content)

    monkeypatch.setattr(ArrowPath, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(({"w": torch.ones(9)}, {"epoch": 2}), "epoch-1")
    monkeypatch.undo()
    assert checkpoints.load("epoch-1")[1] == {"epoch": 1}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "zz://bucket/path",
            "cannot be opened: 'zz' is not a storage backend. Allowed: local folder, s3, gs",
        ),
        ("s3://bucket/path?colour=red&region=eu", "cannot be opened: Unexpected query parameter"),
        ("s3://key:secret@bucket/path", r"storage s3://...@bucket contains a password"),
    ],
)
def test_a_uri_that_can_not_be_used_is_told(uri: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as caught:
        open_storage(uri)
    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told(object_store: str) -> None:
    storage = open_storage(f"s3://nobucket/x?endpoint_override={object_store}&scheme=http")
    with pytest.raises(ExperimentError, match=r"cannot be written: .*NO_SUCH_BUCKET"):
        storage.experiment("demo").create(make_config(), FIRST)


@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=12), data=st.data())
def test_a_chain_is_found_whatever_merges_were_cut_short(
    cuts: list[int], data: st.DataObject
) -> None:
    """Whatever parts of a merged object are still there, the chain covers each line once."""
    parts, line = [], 0
    for count in cuts:
        parts.append(Segment(line, count, 1))
        line += count
    begin = data.draw(st.integers(0, len(parts) - 1))
    until = data.draw(st.integers(begin, len(parts) - 1))
    first, end = parts[begin].first, parts[until].end
    merged = Segment(first, end - first, data.draw(st.integers(1, 2)), merged=True)
    left = [part for part in parts[begin : until + 1] if data.draw(st.booleans())]
    found = data.draw(st.permutations([*parts[:begin], merged, *left, *parts[until + 1 :]]))
    assert chain(found, "x") == [*parts[:begin], merged, *parts[until + 1 :]]


def test_events_are_read_while_a_merge_takes_objects_away(
    folder: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(folder, *([trial] for trial in TRIALS[:5]))
    real, merged = ArrowPath.names, []

    def names(path: ObjectPath) -> list[str]:
        found = real(path)
        if path == place_of(folder) and not merged:
            merged.append(1)
            monkeypatch.setattr(segments, "MERGE_AT", 2)
            append(folder, [TRIALS[5]])
        return found

    monkeypatch.setattr(ArrowPath, "names", names)
    assert folder.events() == [FIRST, *TRIALS[:6]]


def test_scratch_folder_is_the_same_in_every_run(storage: ArrowStorage) -> None:
    assert storage.experiment("demo").scratch == storage.experiment("demo").scratch
