"""A process that dies while it deletes an experiment leaves the experiment or nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import Event, ExperimentCreated, TrialCreated
from celltune.search.storage import lease
from celltune.search.storage.base import Experiment
from celltune.search.storage.local import LocalExperiment, LocalStorage
from celltune.search.storage.locate import new_experiment
from celltune.search.storage.object_path import ObjectPath
from celltune.search.storage.object_store import DELETED, ObjectStorage
from tests.search.simulated_search import make_config

EVENTS: list[Event] = [
    ExperimentCreated(at=1.0, fingerprint="f"),
    TrialCreated(at=1.0, number=0, params={}, max_epochs=1),
]
FILES = [(("trials", str(n), "epoch-1", "state.json"), b"{}") for n in range(1)]


class Killed(BaseException):
    """The process died."""


class Fuse:
    """Lets a number of changes happen; then the process is dead."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def burn(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if self.left <= 0:
            raise Killed
        self.left -= 1


def deaths(delete: Callable[[int], bool]) -> int:
    """Delete with ever more changes before the death; return how many a deletion takes."""
    changes = 0
    while not delete(changes):
        changes += 1
    return changes


def survived(experiment: Experiment) -> bool:
    """Return whether an experiment is complete; check that nothing is listed otherwise."""
    if experiment.is_complete():
        assert experiment.storage.names() == [experiment.name]
        assert experiment.events() == EVENTS
        assert sum(file.parts[0] == "trials" for file in experiment.files()) == len(FILES)
        return True
    assert experiment.storage.names() == []
    return False


def test_a_folder_is_complete_or_not_listed(tmp_path: Path) -> None:
    outcomes = set()

    def delete(changes: int) -> bool:
        storage = LocalStorage(tmp_path / str(changes))
        experiment = new_experiment("demo", storage)
        experiment.create(make_config(), *EVENTS, files=FILES)
        fuse = Fuse(changes)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("rename", "unlink", "rmdir"):
                patch.setattr(os, name, burning(fuse, getattr(os, name)))
            try:
                experiment.delete()
                done = True
            except Killed:
                done = False
        outcomes.add(survived(experiment))
        assert storage.finish_deletions() == (not done and not experiment.is_complete())
        assert sorted(os.listdir(storage.folder)) == (  # noqa: PTH208
            ["demo"] if experiment.is_complete() else []
        )
        if not experiment.is_complete():
            new_experiment("demo", storage).create(make_config(), *EVENTS)
        return done

    assert deaths(delete) > 6
    assert outcomes == {True, False}


def burning(fuse: Fuse, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        fuse.burn()
        return function(*args, **options)

    return call


@dataclass(frozen=True)
class MemoryPath(ObjectPath):
    """An object store in memory."""

    key: str
    objects: dict[str, bytes] = field(compare=False)
    fuse: list[Fuse] = field(compare=False)

    def __str__(self) -> str:
        return f"memory://{self.key}"

    def __truediv__(self, name: str) -> MemoryPath:
        return MemoryPath(f"{self.key}/{name}", self.objects, self.fuse)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        if self.key not in self.objects:
            raise FileNotFoundError(2, "No such object", self.key)
        return self.objects[self.key]

    def write_bytes(self, content: bytes) -> None:
        self.fuse[0].burn()
        self.objects[self.key] = content

    def names(self) -> list[str]:
        keys = [key for key in list(self.objects) if key.startswith(f"{self.key}/")]
        return sorted({key[len(self.key) + 1 :].partition("/")[0] for key in keys})

    def is_file(self) -> bool:
        return self.key in self.objects

    def unlink(self) -> None:
        self.fuse[0].burn()
        if self.objects.pop(self.key, None) is None:
            raise FileNotFoundError(2, "No such object", self.key)

    def remove_all(self) -> None:
        keys = [key for key in list(self.objects) if key.startswith(f"{self.key}/")]
        if not keys:
            raise FileNotFoundError(2, "No such object", self.key)
        for key in keys:
            self.fuse[0].burn()
            del self.objects[key]


class MemoryStorage(ObjectStorage):
    @classmethod
    def open(cls, address: str) -> MemoryStorage:
        return cls(MemoryPath(address, {}, [Fuse(10**6)]))


def test_objects_are_complete_or_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.03)
    outcomes = set()

    def delete(changes: int) -> bool:
        storage = MemoryStorage.open("store")
        root = storage.root
        assert isinstance(root, MemoryPath)
        experiment = storage.experiment("demo")
        experiment.create(make_config(), *EVENTS, files=FILES)
        root.fuse[0] = Fuse(changes)
        try:
            experiment.delete()
            done = True
        except Killed:
            done = False
        root.fuse[0] = Fuse(10**6)
        # The lease of a dead process is free.
        for key in [key for key in root.objects if "/lock/" in key]:
            del root.objects[key]
        complete = survived(experiment)
        outcomes.add(complete)
        if done:
            assert root.objects == {}
        marked = f"store/demo/ledger/{DELETED}" in root.objects
        assert marked != complete or done or not root.objects
        if complete:
            return done
        if changes % 2:
            assert storage.finish_deletions() == marked
            assert root.objects == {}
        experiment.create(make_config(), *EVENTS[:1])
        assert experiment.events() == EVENTS[:1]
        assert [file.parts for file in experiment.files() if file.parts[0] == "trials"] == []
        return done

    assert deaths(delete) > 6
    assert outcomes == {True, False}


def test_a_creation_over_an_interrupted_deletion_keeps_other_experiments_below_it() -> None:
    storage = MemoryStorage.open("store")
    inner = (storage / "demo").experiment("inner")
    inner.create(make_config(), *EVENTS)
    storage.experiment("demo").create(make_config(), *EVENTS)
    assert inner.events() == EVENTS


def test_the_size_of_objects_is_that_of_their_content() -> None:
    storage = MemoryStorage.open("store")
    experiment = storage.experiment("demo")
    experiment.create(make_config(), *EVENTS, files=FILES)
    sizes = {file.parts: file.size for file in experiment.files()}
    assert sizes["trials", "0", "epoch-1", "state.json"] == 2


def test_links_are_removed_and_their_targets_stay(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("x")
    experiment = LocalExperiment(tmp_path / "storage" / "demo")
    experiment.create(make_config(), *EVENTS)
    (experiment.path / "trials").symlink_to(target)
    assert {file.parts[0] for file in experiment.files()} == {"experiment.yaml", "ledger.jsonl"}
    experiment.delete()
    assert (target / "file").read_text() == "x"
    assert not experiment.path.exists()


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    experiment = LocalExperiment(tmp_path / "demo")
    experiment.create(make_config(), *EVENTS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(ExperimentError, match=r"demo cannot be removed: Permission denied\. C"):
            experiment.delete()
    assert experiment.events() == EVENTS
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(ExperimentError, match="'demo' is deleted, but not all of its"):
            experiment.delete()
        assert LocalStorage(tmp_path).finish_deletions() == 0
    assert LocalStorage(tmp_path).names() == []
    assert LocalStorage(tmp_path).finish_deletions() == 1


def test_a_backend_without_deletion_says_so(tmp_path: Path) -> None:
    experiment = LocalExperiment(tmp_path / "demo")
    with pytest.raises(ExperimentError, match=r"demo cannot be removed: the backend of this stora"):
        Experiment.delete(experiment)
    with pytest.raises(ExperimentError, match=r"demo cannot be listed: the backend of this stora"):
        Experiment.files(experiment)
