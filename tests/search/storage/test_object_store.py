"""Experiments in an object store: leases, ledger segments and outages."""

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
from celltune.search.errors import ExperimentError, LedgerError, StorageError
from celltune.search.ledger.codec import encode
from celltune.search.ledger.events import Event, ExperimentCreated, TrialCreated
from celltune.search.storage import arrow, lease
from celltune.search.storage import ledger_segments as segments
from celltune.search.storage.arrow import ArrowPath, ArrowStorage
from celltune.search.storage.ledger_segments import Segment, chain
from celltune.search.storage.locate import find_experiment, open_storage
from celltune.search.storage.object_path import ObjectPath
from celltune.search.storage.object_store import ObjectStoreExperiment
from tests.search.simulated_search import make_config

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
def experiment(storage: ArrowStorage) -> ObjectStoreExperiment:
    experiment = storage.experiment("demo")
    experiment.create(make_config(), FIRST)
    return experiment


def append(experiment: ObjectStoreExperiment, *batches: list[Event]) -> None:
    with experiment.locked(), experiment.open_ledger() as ledger:
        for batch in batches:
            ledger.append(*batch)


def ledger_of(experiment: ObjectStoreExperiment) -> ObjectPath:
    return experiment.storage.root / experiment.name / "ledger"


def test_each_append_writes_one_object_in_the_format_of_a_ledger_file(
    experiment: ObjectStoreExperiment,
) -> None:
    append(experiment, TRIALS[:3], TRIALS[3:4])
    prefix = ledger_of(experiment)
    names = prefix.names()
    assert [name[:17] for name in names] == [
        "0000000000-000001",
        "0000000001-000003",
        "0000000004-000001",
    ]
    joined = b"".join((prefix / name).read_bytes() for name in names)
    assert joined == b"".join(encode(n, e) for n, e in enumerate([FIRST, *TRIALS[:4]]))


def test_damaged_object_is_reported(experiment: ObjectStoreExperiment) -> None:
    append(experiment, TRIALS[:3], TRIALS[3:4], TRIALS[4:5])
    prefix = ledger_of(experiment)
    second, third = prefix.names()[1:3]
    content = (prefix / second).read_bytes()

    (prefix / second).write_bytes(content.replace(b"trial_created", b"trial_cre4ted"))
    with pytest.raises(LedgerError, match=f"ledger .*{second}.* is damaged in line 2: its ch"):
        experiment.events()
    (prefix / second).write_bytes(content[:-10])
    with pytest.raises(LedgerError, match=f"object {second}: it has 2 complete lines instead of 3"):
        experiment.events()
    (prefix / second).write_bytes(content)
    (prefix / third).unlink()
    with pytest.raises(LedgerError, match=r"damaged at its object .*: lines 5 to 5 are missing"):
        experiment.events()
    duplicate = second.replace("0000000001-000003", "0000000002-000003")
    (prefix / duplicate).write_bytes(content)
    with pytest.raises(LedgerError, match=f"object {duplicate}: line 3 is duplicated"):
        experiment.events()


def test_objects_are_merged_also_after_an_interrupted_merge(
    experiment: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MERGE_AT", 8)
    append(experiment, *([trial] for trial in TRIALS[:20]))
    assert len(ledger_of(experiment).names()) == 2 + 5
    assert experiment.events() == [FIRST, *TRIALS[:20]]

    def fail(path: ObjectPath) -> None:
        raise OSError(5, "connection lost")

    monkeypatch.setattr(ArrowPath, "unlink", fail)
    append(experiment, *([trial] for trial in TRIALS[20:30]))
    monkeypatch.undo()
    assert experiment.events() == [FIRST, *TRIALS[:30]]
    append(experiment, TRIALS[30:])
    assert experiment.events() == [FIRST, *TRIALS]


def test_driver_that_lost_its_lease_cannot_append(
    experiment: ObjectStoreExperiment, storage: ArrowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.Lease, "_show_life", lambda self: None)
    monkeypatch.setattr(lease, "_is_alive_here", lambda content: None)
    second = storage.experiment("demo")
    with experiment.locked(), experiment.open_ledger() as first_ledger:
        first_ledger.append(TRIALS[0])
        with second.locked(), second.open_ledger() as second_ledger:
            for _ in range(2):
                with pytest.raises(
                    LedgerError,
                    match=r"^Another driver took over the experiment 'demo', because this one sent "
                    r"no heartbeat for [0-9.]+ s\. All recorded events are safe\. Resume the "
                    r"experiment after the other driver has ended\.$",
                ):
                    first_ledger.append(TRIALS[1], TRIALS[2])
            second_ledger.append(TRIALS[1])
            assert experiment.events() == second_ledger.events == [FIRST, *TRIALS[:2]]
    append(experiment, TRIALS[2:4])
    assert experiment.events() == [FIRST, *TRIALS[:4]]


def test_an_append_without_events_writes_nothing(experiment: ObjectStoreExperiment) -> None:
    append(experiment, [], TRIALS[:1])
    assert len(ledger_of(experiment).names()) == 2
    # An earlier release wrote such an object.
    (ledger_of(experiment) / "0000000002-000000-00000009.jsonl").write_bytes(b"")
    assert experiment.events() == [FIRST, TRIALS[0]]


def test_a_removed_experiment_ends_its_search_and_stays_removed(
    experiment: ObjectStoreExperiment, storage: ArrowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.Lease, "_show_life", lambda self: None)
    removed = r"The lock .*/demo/lock\S* was removed while the search was running, so the"
    with experiment.locked(), experiment.open_ledger() as ledger:
        ledger.append(TRIALS[0])
        experiment.check_in_place()
        (storage.root / "demo").remove_all()
        for _ in range(2):
            with pytest.raises(StorageError, match=removed):
                ledger.append(TRIALS[1])
        with pytest.raises(StorageError, match=removed):
            experiment.check_in_place()
    assert not experiment.exists()


def test_a_driver_that_was_frozen_does_not_show_life_again(
    experiment: ObjectStoreExperiment, storage: ArrowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.Lease, "_show_life", lambda self: None)
    monkeypatch.setattr(lease, "_is_alive_here", lambda content: None)
    second = storage.experiment("demo")
    with experiment.locked(), experiment.open_ledger():
        held = experiment._lease
        assert held is not None
        held.beat()
        experiment.check_in_place()
        with second.locked(), second.open_ledger() as ledger:
            before = (storage.root / "demo" / "lock").names()
            held.beat()
            assert (storage.root / "demo" / "lock").names() == before
            with pytest.raises(LedgerError, match="Another driver took over the experiment"):
                experiment.check_in_place()
            ledger.append(TRIALS[0])
    assert [int(name[:8]) for name in (storage.root / "demo" / "lock").names()] == [3]


def test_lease_of_a_dead_process_on_this_machine_is_free_at_once(
    experiment: ObjectStoreExperiment, storage: ArrowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, sys\n"
        "from celltune.search.storage.locate import open_storage\n"
        "with open_storage(sys.argv[1]).experiment('demo').locked(): os._exit(9)"
    )
    monkeypatch.setattr(lease, "BEAT_SECONDS", 60.0)
    died = subprocess.run([sys.executable, "-c", code, str(storage)], check=False)
    assert died.returncode == 9
    assert not experiment.is_locked()
    append(experiment, TRIALS[:1])
    assert experiment.events() == [FIRST, TRIALS[0]]


def test_lease_of_another_machine_is_free_without_signs_of_life(
    experiment: ObjectStoreExperiment, root: ObjectPath
) -> None:
    prefix = root / "demo" / "lock"
    (entry,) = prefix.names()
    content = json.loads((prefix / entry).read_bytes())
    content.update(released=False, machine="another", owner="pid 7 on another")
    (prefix / entry).write_bytes(json.dumps(content).encode())
    assert not experiment.is_locked()
    append(experiment, TRIALS[:1])
    assert [name[:8] for name in prefix.names()] == [f"{int(entry[:8]) + 1:08d}"]


def test_two_processes_that_take_a_lease_at_once_never_both_hold_it(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = root / "demo" / "lock"
    rival = prefix / f"{1:08d}-{'f' * 16}"
    real, written = ArrowPath.write_bytes, []

    def together(path: ObjectPath, content: bytes) -> None:
        real(path, content)
        written.append(path.name)
        if len(written) == 1:
            mine = json.loads(content)
            real(rival, json.dumps({**mine, "machine": "another"}).encode())

    monkeypatch.setattr(ArrowPath, "write_bytes", together)
    taken = lease.Lease(prefix, "demo")
    assert taken.generation == 2  # It gave up generation 1 and waited until the rival was dead.
    assert written[0].startswith("00000001-")
    assert [name[:8] for name in prefix.names()] == ["00000002"]
    taken.release()


def test_lease_under_constant_competition_is_rejected(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ArrowPath.names
    rival = f"{9:08d}-{'f' * 16}"
    seen: list[int] = []

    def names(path: ObjectPath) -> list[str]:
        seen.append(1)
        return real(path) if len(seen) % 2 else [*real(path), rival]

    monkeypatch.setattr(ArrowPath, "names", names)
    message = r"^Several processes are starting 'demo' at the same time\. Try again\.$"
    with pytest.raises(ExperimentError, match=message):
        lease.Lease(root / "demo" / "lock", "demo")


def test_ledger_cannot_be_opened_without_the_lock(experiment: ObjectStoreExperiment) -> None:
    with pytest.raises(ExperimentError, match="cannot be opened for writing without its lock"):
        experiment.open_ledger()


def test_every_operation_reports_an_outage(
    experiment: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(address: str, query: str) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION: no connection (Request ID: x).\nmore")

    with experiment.locked(), experiment.open_ledger() as ledger:
        monkeypatch.setattr(arrow, "_connect", unreachable)
        with pytest.raises(LedgerError, match=r"cannot be written: AWS Error NETWORK_CON.* resume"):
            ledger.append(TRIALS[0])
    operations: list[tuple[Callable[[], Any], type[Exception]]] = [
        (experiment.events, LedgerError),
        (experiment.exists, ExperimentError),
        (experiment.is_locked, ExperimentError),
        (experiment.storage.names, ExperimentError),
        (lambda: find_experiment("demo", experiment.storage), ExperimentError),
        (lambda: experiment.locked().__enter__(), ExperimentError),
        (lambda: experiment.checkpoints(0).save(STATE, "epoch-1"), OSError),
        (lambda: experiment.checkpoints(0).load("epoch-1"), OSError),
    ]
    for operation, kind in operations:
        with pytest.raises(kind, match="NETWORK_CONNECTION: no connection"):
            operation()


def test_damaged_checkpoint_is_detected(
    experiment: ObjectStoreExperiment,
) -> None:
    checkpoints = experiment.checkpoints(0)
    checkpoints.save(STATE, "epoch-1")
    prefix = checkpoints.folder / "epoch-1"
    (tensors,) = [name for name in prefix.names() if name.startswith("tensors-")]
    content = bytearray((prefix / tensors).read_bytes())
    content[-1] ^= 1
    (prefix / tensors).write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=f"{tensors}.* cannot be used: it is altered"):
        checkpoints.load("epoch-1")


def test_crash_between_the_uploads_of_a_checkpoint_leaves_the_old_one(
    experiment: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = experiment.checkpoints(0)
    checkpoints.save(STATE, "epoch-1")
    real, written = ArrowPath.write_bytes, []

    def crash_at_second(path: ObjectPath, content: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        real(path, content)

    monkeypatch.setattr(ArrowPath, "write_bytes", crash_at_second)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(({"w": torch.ones(9)}, {"epoch": 2}), "epoch-1")
    monkeypatch.undo()
    assert checkpoints.load("epoch-1")[1] == {"epoch": 1}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "zz://bucket/path",
            r"^The storage address has the unknown scheme 'zz'. Use a path, or one of the schemes "
            r"s3, gs, .*, file\.$",
        ),
        ("HTTP://user:secret@host", r"^The storage address has the unknown scheme 'http'\."),
        ("s3://bucket/path?sas=x", r"storage s3://\.\.\. contains the parameter 'sas'"),
        ("s3://bucket/path?colour=red&region=eu", "cannot be opened: Unexpected query parameter"),
        ("s3://key:secret@bucket/path", r"storage s3://... contains a password"),
    ],
)
def test_invalid_uri_is_rejected(uri: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as raised:
        open_storage(uri)
    assert "secret" not in str(raised.value)


def test_missing_bucket_is_reported(object_store: str) -> None:
    storage = open_storage(f"s3://nobucket/x?endpoint_override={object_store}&scheme=http")
    with pytest.raises(ExperimentError, match=r"cannot be written: .*NO_SUCH_BUCKET"):
        storage.experiment("demo").create(make_config(), FIRST)


@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=12), data=st.data())
def test_chain_covers_each_line_once_after_any_interrupted_merge(
    counts: list[int], data: st.DataObject
) -> None:
    parts, line = [], 0
    for count in counts:
        parts.append(Segment(line, count, 1))
        line += count
    begin = data.draw(st.integers(0, len(parts) - 1))
    until = data.draw(st.integers(begin, len(parts) - 1))
    first, end = parts[begin].first, parts[until].end
    merged = Segment(first, end - first, data.draw(st.integers(1, 2)), merged=True)
    remaining = [part for part in parts[begin : until + 1] if data.draw(st.booleans())]
    listed = data.draw(st.permutations([*parts[:begin], merged, *remaining, *parts[until + 1 :]]))
    assert chain(listed, "x") == [*parts[:begin], merged, *parts[until + 1 :]]


def test_events_are_read_while_objects_are_merged(
    experiment: ObjectStoreExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(experiment, *([trial] for trial in TRIALS[:5]))
    real, merged = ArrowPath.names, []

    def names(path: ObjectPath) -> list[str]:
        listed = real(path)
        if path == ledger_of(experiment) and not merged:
            merged.append(1)
            monkeypatch.setattr(segments, "MERGE_AT", 2)
            append(experiment, [TRIALS[5]])
        return listed

    monkeypatch.setattr(ArrowPath, "names", names)
    assert experiment.events() == [FIRST, *TRIALS[:6]]
