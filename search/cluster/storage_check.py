"""Check, before a run starts, that every node of the cluster can use the storage.

If the storage were a folder on the head's own disk, checkpoints written by other nodes would be
lost without an error. The driver therefore writes a probe file, and a task on each other node reads
it and writes a reply, which the driver reads. On a cluster with one node a folder needs no check.
An object store is checked from every node, because the driver and the workers can have different
credentials.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from celltune.search.errors import ExperimentError, ResourceError
from celltune.search.storage.base import Storage

REPLY_SECONDS = 60.0
"""Time limit for a node's reply."""

QueryNodes = Callable[[Sequence[str], Storage, str, str], Mapping[str, str]]
"""Runs `reply_to_probe` on nodes (ids); returns a problem for each node that has one."""


def check_storage_shared(storage: Storage) -> None:
    """Check that every node of the connected cluster can read and write the storage.

    Args:
        storage: the experiments' storage; it may not exist yet.

    Raises:
        ResourceError: a node cannot use the storage.
        ExperimentError: the driver cannot write to the storage.
    """
    # Workers on the driver's node share its disk, but not its environment with the credentials.
    own_node = ray.get_runtime_context().get_node_id() if storage.local_folder else None
    nodes = {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != own_node
    }
    if nodes:
        probe(storage, nodes, _query_nodes)


def probe(storage: Storage, nodes: Mapping[str, str], query_nodes: QueryNodes) -> None:
    """Write a probe, let the nodes reply, and check the replies.

    Args:
        storage: the experiments' storage.
        nodes: names of the nodes, by id.
        query_nodes: runs the check on the nodes.

    Raises:
        ResourceError: a node cannot use the storage.
        ExperimentError: the driver cannot write to the storage.
    """
    name, secret = f".probe-{secrets.token_hex(8)}", secrets.token_hex(16)
    files = [name, *(_reply_name(name, node) for node in nodes)]
    with ExitStack() as stack:
        with _write_errors(storage):
            stack.enter_context(storage.temporarily_created())
        for file in files:
            stack.callback(_remove, storage, file)
        with _write_errors(storage):
            storage.file(name).write_bytes(secret.encode())
        problems = dict(query_nodes(list(nodes), storage, name, secret))
        for node in nodes:
            if node not in problems and not _contains(storage, _reply_name(name, node), secret):
                problems[node] = "the driver does not see what it wrote there"
    if problems:
        raise _not_shared(storage, {nodes[node]: reason for node, reason in problems.items()})


def reply_to_probe(storage: Storage, name: str, secret: str, node: str) -> str:
    """Read the probe and write a reply, on a node; return the problem, or an empty string."""
    try:
        if storage.file(name).read_bytes().decode(errors="replace") != secret:
            return "it sees a different folder there"
        storage.file(_reply_name(name, node)).write_bytes(secret.encode())
    except FileNotFoundError:
        return "it does not see the storage"
    except OSError as error:
        return f"it cannot use the storage: {error.strerror}"
    return ""


def _query_nodes(
    nodes: Sequence[str], storage: Storage, name: str, secret: str
) -> Mapping[str, str]:
    task = ray.remote(num_cpus=0, max_retries=0)(reply_to_probe)
    node_of = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage, name, secret, node
        ): node
        for node in nodes
    }
    done, late = ray.wait(list(node_of), num_returns=len(node_of), timeout=REPLY_SECONDS)
    problems = {node_of[ref]: f"it did not reply within {REPLY_SECONDS:.0f} s" for ref in late}
    for ref in done:
        if reason := _result(ref):
            problems[node_of[ref]] = reason
    return problems


def _result(reference: Any) -> str:
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        return f"it cannot be queried: {str(error).strip().splitlines()[-1]}"


def _reply_name(name: str, node: str) -> str:
    return f"{name}-{node}"


@contextmanager
def _write_errors(storage: Storage) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"Cannot write to the storage {storage}: {error.strerror}. Set `storage` to "
            "another folder or URI."
        ) from error


def _contains(storage: Storage, name: str, content: str) -> bool:
    try:
        return storage.file(name).read_bytes() == content.encode()
    except OSError:
        return False


def _remove(storage: Storage, name: str) -> None:
    try:
        storage.file(name).unlink()
    except OSError:
        return  # It does not exist, or cannot be removed; a left-over probe is harmless.


def _not_shared(storage: Storage, problems: Mapping[str, str]) -> ResourceError:
    details = "; ".join(f"{host}: {reason}" for host, reason in sorted(problems.items()))
    return ResourceError(
        f"Trials write their checkpoints to the storage {storage}, but not every node of the "
        f"cluster can use it ({details}). Set `storage` to one "
        "that all nodes can use: s3://bucket/path with credentials "
        "on every node, or a folder on a shared file system with the same path on every node."
    )
