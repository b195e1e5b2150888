from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from celltune.search.cluster import connection
from celltune.search.cluster.connection import connected, trial_slots, trials_per_node
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError


@pytest.fixture
def _not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.usefixtures("_not_connected")
@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "ray://head:10001",
            "`address` is 'ray://head:10001', but a search cannot run over Ray Client",
        ),
        ("head", "`address` is 'head'. Set it to 'auto' or host:port"),
        ("head:", "`address` is 'head:'. Set it to"),
    ],
)
def test_an_invalid_address_is_rejected(address: str, message: str) -> None:
    with pytest.raises(ResourceError, match=message), connected(address):
        pass


@pytest.mark.usefixtures("_not_connected")
def test_a_missing_cluster_is_reported_immediately() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(ResourceError, match=f"the Ray cluster at '{address}': .*refused"),
        connected(address),
    ):
        pass


@pytest.mark.usefixtures("_not_connected")
def test_a_local_ray_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(ResourceError, match="Ray cannot start on this machine: no memory"),
        connected(),
    ):
        pass


def test_a_second_thread_of_the_process_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    rejected: list[str] = []

    def connect() -> None:
        try:
            with connected():
                rejected.append("")
        except ResourceError as error:
            rejected.append(str(error))

    for _ in range(2):
        with connected():
            thread = threading.Thread(target=connect)
            thread.start()
            thread.join()
        connect()
    expected = "Another search, evaluation or data command is using Ray in this process. Wait until"
    assert [text[: len(expected)] for text in rejected] == [expected, ""] * 2


@pytest.mark.usefixtures("_not_connected")
def test_the_files_of_a_local_ray_are_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders: list[Path] = []
    monkeypatch.setattr(ray, "init", lambda **options: folders.append(Path(options["_temp_dir"])))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with connected():
        pass
    assert folders[0].is_relative_to(tmp_path)
    assert folders[0].parent.stat().st_mode & 0o777 == 0o700
    folders[0].parent.chmod(0o777)
    message = "Ray cannot start on this machine: .* has mode 0777: other users could have planted"
    with pytest.raises(ResourceError, match=message), connected():
        pass
    assert len(folders) == 1


@pytest.mark.usefixtures("_not_connected")
def test_workers_of_a_local_ray_inherit_no_empty_entry_of_the_import_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inherited = []
    monkeypatch.setattr(ray, "init", lambda **_: inherited.append(os.environ["PYTHONPATH"]))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("PYTHONPATH", ":/written")
    with connected():
        pass
    assert inherited == ["/written"]
    assert os.environ["PYTHONPATH"] == ":/written"


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "count"),
    [
        ({"CPU": 4.0}, 1, 0, 4),
        ({"CPU": 4.0}, 0.1, 0, 40),
        ({"CPU": 4.0}, 3, 0, 1),
        ({"CPU": 4.0}, 1, 0.5, 0),
        ({"CPU": 8.0, "GPU": 1.0}, 1, 0.25, 4),
        ({"CPU": 2.0, "GPU": 1.0}, 1, 0.25, 2),
        ({}, 1, 0, 0),
    ],
)
def test_trials_per_node(node: dict[str, float], cpus: float, gpus: float, count: int) -> None:
    assert trials_per_node(node, Resources(cpus_per_trial=cpus, gpus_per_trial=gpus)) == count


def test_trial_slots_count_nodes_that_an_autoscaler_may_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = {"Alive": True, "Resources": {"memory": 1e9}}
    dead = {"Alive": False, "Resources": {"CPU": 64.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [head, dead])
    groups = [({"CPU": 4, "GPU": 1}, 3)]
    monkeypatch.setattr(connection, "autoscaler_node_groups", lambda: groups)
    shared = Resources(gpus_per_trial=0.5)
    assert trial_slots(shared) == 6
    assert trial_slots(Resources(gpus_per_trial=0.5, concurrent_trials=2)) == 2
    with pytest.raises(ResourceError, match="Its nodes have: 4 CPUs; 0 CPUs"):
        trial_slots(Resources(cpus_per_trial=8))


def test_trials_of_a_worker_share_its_cpus_but_need_memory_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = {"Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}}
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    monkeypatch.setattr(connection, "autoscaler_node_groups", list)
    assert trial_slots(Resources(), 8) == 4
    limited = Resources(memory_per_trial_gb=1)
    assert trial_slots(limited, 4) == 2
    assert trial_slots(Resources(concurrent_trials=11), 4) == 2
    message = (
        r"A worker of 16 trials needs 1 CPU and 16\.0 GB of memory, but .* Lower "
        r"resources\.memory_per_trial_gb or resources\.trials_per_worker, or set"
    )
    with pytest.raises(ResourceError, match=message):
        trial_slots(limited, 16)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            {"gpus_per_trial": 4, "memory_per_trial_gb": 8},
            "A trial needs 1 CPU, 4 GPUs and 8.0 GB of memory, but no node of the cluster has that "
            "much. Its nodes have: 16 CPUs, 0 GPUs and 32.0 GB of memory; 4 CPUs, 2 GPUs and 64.0 "
            "GB of memory. Lower resources.gpus_per_trial, or set `address` to a larger cluster.",
        ),
        (
            {"memory_per_trial_gb": 5000},
            "A trial needs 1 CPU and 5,000.0 GB of memory, but no node of the cluster has that "
            "much. Its nodes have: 16 CPUs and 32.0 GB of memory; 4 CPUs and 64.0 GB of memory. "
            "Lower resources.memory_per_trial_gb, or set `address` to a larger cluster.",
        ),
        (
            {"cpus_per_trial": 8, "gpus_per_trial": 0.5},
            "A trial needs 8 CPUs and 0.5 GPUs, but no node of the cluster has that much. Its "
            "nodes have: 16 CPUs and 0 GPUs; 4 CPUs and 2 GPUs. Lower resources.cpus_per_trial or "
            "resources.gpus_per_trial, or set `address` to a larger cluster.",
        ),
    ],
)
def test_a_trial_that_fits_on_no_node_is_rejected(
    resources: dict[str, float], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_of(
        monkeypatch,
        {"CPU": 16.0, "memory": 32e9},
        {"CPU": 4.0, "GPU": 2.0, "memory": 64e9},
    )
    with pytest.raises(ResourceError) as raised:
        trial_slots(Resources(**resources))
    assert str(raised.value) == message


def test_a_cluster_without_gpus_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, {"CPU": 16.0})
    with pytest.raises(ResourceError) as raised:
        trial_slots(Resources(cpus_per_trial=32, gpus_per_trial=0.25))
    assert str(raised.value) == (
        "A trial needs 0.25 GPUs (resources.gpus_per_trial), but no node of the cluster has a GPU. "
        "Set resources.gpus_per_trial to 0 to train on CPUs, or set `address` to a cluster with "
        "GPUs."
    )


def cluster_of(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: alive)
    monkeypatch.setattr(connection, "autoscaler_node_groups", list)


@pytest.mark.usefixtures("_not_connected")
def test_an_interrupted_start_shuts_ray_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    calls: list[None] = []
    monkeypatch.setattr(ray, "init", interrupt)
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append(None))
    with pytest.raises(KeyboardInterrupt), connected():
        pass
    assert calls == [None]
