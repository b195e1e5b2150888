from __future__ import annotations

import socket
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
    with pytest.raises(ResourceError, match="nodes have 4 CPUs and 1 GPUs, 0 CPUs"):
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
    message = "A worker of 16 trials needs 1 CPUs and 0 GPUs and 16 GB of memory"
    with pytest.raises(ResourceError, match=message):
        trial_slots(limited, 16)


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
