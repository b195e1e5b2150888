from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from celltune.search.cluster import storage_check as shared_storage
from celltune.search.cluster.storage_check import look, probe
from celltune.search.errors import ExperimentError, ResourceError
from celltune.search.storage.base import Storage
from celltune.search.storage.local import LocalStorage

NODES = {"n1": "left", "n2": "right"}


def asking(views: Mapping[str, Storage]) -> shared_storage.Ask:
    """Let each node look into a folder of its own in place of the storage."""

    def ask(nodes: Sequence[str], storage: Storage, name: str, secret: str) -> Mapping[str, str]:
        answers = {node: look(views.get(node, storage), name, secret, node) for node in nodes}
        return {node: answer for node, answer in answers.items() if answer}

    return ask


def test_a_storage_that_all_see_passes_and_nothing_is_left(tmp_path: Path) -> None:
    probe(LocalStorage(tmp_path), NODES, asking({}))
    assert list(tmp_path.iterdir()) == []


def test_a_node_with_a_disk_of_its_own_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    storage = tmp_path / "storage"
    storage.mkdir()
    with pytest.raises(
        ResourceError,
        match=rf"use the storage {storage}, .*\(right: it doesn't see the storage\).*s3://bucket",
    ):
        probe(LocalStorage(storage), NODES, asking({"n2": LocalStorage(tmp_path / "own")}))
    assert list(storage.iterdir()) == []


def test_a_node_that_can_not_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def refuse(path: Path, content: bytes) -> int:
        if path.name.endswith("n1"):
            raise OSError(30, "Read-only file system")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ResourceError, match="left: it can't use the storage: Read-only"):
        probe(LocalStorage(tmp_path), NODES, asking({}))


def test_a_node_that_sees_or_writes_something_else_is_named(tmp_path: Path) -> None:
    def forging(
        nodes: Sequence[str], storage: Storage, name: str, secret: str
    ) -> Mapping[str, str]:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / name).write_text("another")
        answer = look(LocalStorage(tmp_path / "own"), name, secret, "n1")
        (tmp_path / "own" / name).write_text(secret)
        assert look(LocalStorage(tmp_path / "own"), name, secret, "n2") == ""
        return {"n1": answer}

    with pytest.raises(
        ResourceError,
        match="left: it sees another folder there; right: what it wrote there isn't seen here",
    ):
        probe(LocalStorage(tmp_path), NODES, forging)


def test_a_storage_that_can_not_be_written_from_here_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for storage in (tmp_path / "file", tmp_path / "file" / "storage"):
        with pytest.raises(ExperimentError, match=r"can't be written: .* `storage`"):
            probe(LocalStorage(storage), NODES, asking({}))


def test_a_refused_storage_that_was_not_there_is_not_there_afterwards(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(ResourceError, match="left: it doesn't see the storage"):
        probe(LocalStorage(tmp_path / "new"), NODES, asking({"n1": LocalStorage(tmp_path / "own")}))
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_one_node_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_storage.ray, "nodes", lambda: [{"Alive": True, "NodeID": "x"}])
    monkeypatch.setattr(
        shared_storage.ray,
        "get_runtime_context",
        type("Context", (), {"get_node_id": lambda self: "x"}),
    )
    shared_storage.check_storage_shared(LocalStorage(tmp_path / "none"))
