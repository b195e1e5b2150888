from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from celltune.search.cluster.connection import _fitting, connected, trial_slots
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "is an address of Ray Client, over which a search can't run"),
        ("head", "is no address of a Ray cluster; it must be host:port"),
        ("head:", "is no address of a Ray cluster"),
    ],
)
def test_what_is_no_address_is_told(address: str, message: str) -> None:
    with pytest.raises(ResourceError, match=message), connected(address):
        pass


@pytest.mark.usefixtures("_alone")
def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(ResourceError, match=f"cluster at '{address}' can't be joined: .*refused"),
        connected(address),
    ):
        pass


@pytest.mark.usefixtures("_alone")
def test_a_ray_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(ResourceError, match="Ray can't start on this machine: no room"),
        connected(),
    ):
        pass


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "fit"),
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
def test_how_many_trials_fit_a_node(
    node: dict[str, float], cpus: float, gpus: float, fit: int
) -> None:
    assert _fitting(node, Resources(cpus_per_trial=cpus, gpus_per_trial=gpus)) == fit


def test_nodes_that_an_autoscaler_may_add_count(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"Alive": True, "Resources": {"memory": 1e9}}
    dead = {"Alive": False, "Resources": {"CPU": 64.0}}
    group = SimpleNamespace(resources={"CPU": 4, "GPU": 1}, max_count=3)
    plan = SimpleNamespace(node_group_configs=[group])
    monkeypatch.setattr(ray, "nodes", lambda: [head, dead])
    monkeypatch.setattr(ray._private.state.state, "get_cluster_config", lambda: plan)
    shared = Resources(gpus_per_trial=0.5)
    assert trial_slots(shared) == 6
    assert trial_slots(Resources(gpus_per_trial=0.5, concurrent_trials=2)) == 2
    with pytest.raises(ResourceError, match="there are nodes with 4 CPUs and 1 GPUs, 0 CPUs"):
        trial_slots(Resources(cpus_per_trial=8))
