"""Joining a Ray cluster, and what it can give."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from celltune.data_prep.cache import ray_store as store
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError

CONNECT_SECONDS = 5.0


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Be joined to a Ray cluster: one joined already, the one at `address`, or a local one.

    A cluster that this started or joined is left at the end; one joined before stays.

    Raises:
        ResourceError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    try:
        ray.init(
            address=address or "local",
            namespace=store.NAMESPACE,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else {"include_dashboard": False}),
        )
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    # Ray itself tries for minutes, and then ends the process.
    if address is None or address in ("auto", "local"):
        return
    if address.startswith("ray://"):
        raise ResourceError(
            f"'{address}' is an address of Ray Client, over which a search can't run. Start "
            "celltune on a node of the cluster, with --address auto or host:port."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ResourceError(f"'{address}' is no address of a Ray cluster; it must be host:port.")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ResourceError:
    if address is None:
        return ResourceError(f"Ray can't start on this machine: {error}")
    return ResourceError(
        f"The Ray cluster at '{address}' can't be joined: {error}. Check that `ray status` answers "
        "there, that this machine is a node of it, and, if the cluster wants a token, that "
        "RAY_AUTH_MODE=token is set; without --address a local cluster is started."
    )


def trial_slots(resources: Resources) -> int:
    """Give how many trials can run side by side in the joined cluster, once it is fully scaled.

    Raises:
        ResourceError: no node can ever hold a single trial.
    """
    nodes = _nodes()
    slots = sum(count * _fitting(node, resources) for node, count in nodes)
    if slots == 0:
        largest = ", ".join(_told(node, resources) for node, _ in nodes)
        asked = _told(
            {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
            | trial_bundle(resources),
            resources,
        )
        raise ResourceError(
            f"A trial asks for {asked} (resources.cpus_per_trial, resources.gpus_per_trial, "
            "resources.memory_per_trial_gb), but no node of the cluster has that: there are nodes "
            f"with {largest}. Lower what a trial asks for, or join a larger cluster with --address."
        )
    return min(slots, resources.concurrent_trials or slots)


def _told(amounts: Mapping[str, float], resources: Resources) -> str:
    text = f"{amounts.get('CPU', 0):g} CPUs and {amounts.get('GPU', 0):g} GPUs"
    if resources.memory_per_trial_gb is None:
        return text
    return f"{text} and {amounts.get('memory', 0) / 1e9:.3g} GB of memory"


def trial_bundle(resources: Resources) -> dict[str, float]:
    """Give what one trial takes of a node, in Ray's names: CPU, GPU, and memory in bytes."""
    gigabytes = resources.memory_per_trial_gb or 0
    wanted = {
        "CPU": resources.cpus_per_trial,
        "GPU": resources.gpus_per_trial,
        "memory": int(gigabytes * 1e9),
    }
    return {kind: need for kind, need in wanted.items() if need > 0}


def _fitting(node: Mapping[str, float], resources: Resources) -> int:
    wanted = trial_bundle(resources)
    return min(int(node.get(kind, 0) / need + 1e-9) for kind, need in wanted.items())


def _nodes() -> list[tuple[Mapping[str, float], int]]:
    """Kinds of nodes with how many there can be: what is alive and what an autoscaler may add."""
    alive = [(node["Resources"], 1) for node in ray.nodes() if node["Alive"]]
    # The autoscaler's limits have no public reader; Ray Data and Ray Train read them here too.
    plan = ray._private.state.state.get_cluster_config()
    groups = [] if plan is None else plan.node_group_configs
    planned = [(dict(group.resources), group.max_count) for group in groups]
    return alive if not planned else [*planned, *_unplanned(alive, planned)]


def _unplanned(
    alive: list[tuple[Mapping[str, float], int]], planned: list[tuple[dict[str, float], int]]
) -> list[tuple[Mapping[str, float], int]]:
    known = [(node.get("CPU"), node.get("GPU")) for node, _ in planned]
    return [(node, n) for node, n in alive if (node.get("CPU"), node.get("GPU")) not in known]
