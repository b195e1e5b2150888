from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from celltune.search.cluster import storage_check
from celltune.search.cluster.storage_check import probe, reply_to_probe
from celltune.search.errors import ExperimentError, ResourceError
from celltune.search.storage.base import Storage
from celltune.search.storage.local import LocalStorage

NODES = {"n1": "left", "n2": "right"}


def querying(views: Mapping[str, Storage]) -> storage_check.QueryNodes:
    """Return a query in which the nodes of `views` see these folders instead of the storage."""

    def query(nodes: Sequence[str], storage: Storage, name: str, secret: str) -> Mapping[str, str]:
        replies = {
            node: reply_to_probe(views.get(node, storage), name, secret, node) for node in nodes
        }
        return {node: reply for node, reply in replies.items() if reply}

    return query


def test_a_shared_storage_passes_and_stays_empty(tmp_path: Path) -> None:
    probe(LocalStorage(tmp_path), NODES, querying({}))
    assert list(tmp_path.iterdir()) == []


def test_a_node_with_its_own_disk_is_reported_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    storage = tmp_path / "storage"
    storage.mkdir()
    with pytest.raises(
        ResourceError,
        match=rf"the storage {storage}, .*\(right: it does not see the storage\).*s3://bucket",
    ):
        probe(LocalStorage(storage), NODES, querying({"n2": LocalStorage(tmp_path / "own")}))
    assert list(storage.iterdir()) == []


def test_a_node_that_cannot_write_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def refuse(path: Path, content: bytes) -> int:
        if path.name.endswith("n1"):
            raise OSError(30, "Read-only file system")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ResourceError, match="left: it cannot use the storage: Read-only"):
        probe(LocalStorage(tmp_path), NODES, querying({}))


def test_nodes_that_read_or_write_a_different_folder_are_reported(tmp_path: Path) -> None:
    def query(nodes: Sequence[str], storage: Storage, name: str, secret: str) -> Mapping[str, str]:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / name).write_text("another")
        reply = reply_to_probe(LocalStorage(tmp_path / "own"), name, secret, "n1")
        (tmp_path / "own" / name).write_text(secret)
        assert reply_to_probe(LocalStorage(tmp_path / "own"), name, secret, "n2") == ""
        return {"n1": reply}

    with pytest.raises(
        ResourceError,
        match="left: it sees a different folder there; right: the driver does not see",
    ):
        probe(LocalStorage(tmp_path), NODES, query)


def test_a_storage_that_the_driver_cannot_write_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for storage in (tmp_path / "file", tmp_path / "file" / "storage"):
        with pytest.raises(ExperimentError, match=r"Cannot write to the storage .* `storage`"):
            probe(LocalStorage(storage), NODES, querying({}))


def test_a_rejected_storage_that_did_not_exist_is_removed(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(ResourceError, match="left: it does not see the storage"):
        probe(
            LocalStorage(tmp_path / "new"), NODES, querying({"n1": LocalStorage(tmp_path / "own")})
        )
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_single_node_is_not_queried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_check.ray, "nodes", lambda: [{"Alive": True, "NodeID": "x"}])
    monkeypatch.setattr(
        storage_check.ray,
        "get_runtime_context",
        type("Context", (), {"get_node_id": lambda self: "x"}),
    )
    storage_check.check_storage_shared(LocalStorage(tmp_path / "none"))
