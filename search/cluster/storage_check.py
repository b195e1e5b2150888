"""Whether every node of a cluster sees the storage, asked before anything starts.

A storage on the head's own disk would lose each checkpoint that a trial on another node writes,
and say nothing. So the driver writes a probe there, and a task on each other node must read it and
write an answer that the driver can read. On a cluster of one node a folder isn't probed. An object
store is, from every node: it wants keys, and those of the driver aren't its workers'.
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

SECONDS = 60.0
"""How long a node may take to answer."""

Ask = Callable[[Sequence[str], Storage, str, str], Mapping[str, str]]
"""Lets nodes (by id) look for a probe; gives what is wrong with each one's view, or nothing."""


def check_storage_shared(storage: Storage) -> None:
    """Refuse a storage that a node of the joined cluster doesn't see or can't write.

    Args:
        storage: where experiments are; it need not exist.

    Raises:
        ResourceError: with the nodes, and what mends it.
        ExperimentError: the storage can't be written from here.
    """
    # A worker beside the driver shares its disk, but not its environment with the store's keys.
    here = ray.get_runtime_context().get_node_id() if storage.local_folder else None
    asked = {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here
    }
    if asked:
        probe(storage, asked, _ask)


def probe(storage: Storage, nodes: Mapping[str, str], ask: Ask) -> None:
    """Write a probe, let nodes look for it, and look for their answers.

    Args:
        storage: where experiments are.
        nodes: what they are called, by id.
        ask: carries the question to the nodes.

    Raises:
        ResourceError: see `check_storage_shared`.
        ExperimentError: the same.
    """
    name, secret = f".probe-{secrets.token_hex(8)}", secrets.token_hex(16)
    written = [name, *(_answer(name, node) for node in nodes)]
    with ExitStack() as stack:
        with _writing(storage):
            stack.enter_context(storage.temporarily_created())
        for file in written:
            stack.callback(_remove, storage, file)
        with _writing(storage):
            storage.file(name).write_bytes(secret.encode())
        wrong = dict(ask(list(nodes), storage, name, secret))
        for node in nodes:
            if node not in wrong and not _holds(storage, _answer(name, node), secret):
                wrong[node] = "what it wrote there isn't seen here"
    if wrong:
        raise _refusal(storage, {nodes[node]: reason for node, reason in wrong.items()})


def look(storage: Storage, name: str, secret: str, node: str) -> str:
    """On a node: find the probe and write an answer; gives what is wrong, or nothing."""
    try:
        if storage.file(name).read_bytes().decode(errors="replace") != secret:
            return "it sees another folder there"
        storage.file(_answer(name, node)).write_bytes(secret.encode())
    except FileNotFoundError:
        return "it doesn't see the storage"
    except OSError as error:
        return f"it can't use the storage: {error.strerror}"
    return ""


def _ask(nodes: Sequence[str], storage: Storage, name: str, secret: str) -> Mapping[str, str]:
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage, name, secret, node
        ): node
        for node in nodes
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS)
    wrong = {asked[each]: f"it didn't answer within {SECONDS:.0f} s" for each in late}
    for each in done:
        if reason := _reason(each):
            wrong[asked[each]] = reason
    return wrong


def _reason(task: Any) -> str:
    try:
        return str(ray.get(task))
    except ray.exceptions.RayError as error:
        return f"it can't be asked: {str(error).strip().splitlines()[-1]}"


def _answer(name: str, node: str) -> str:
    return f"{name}-{node}"


@contextmanager
def _writing(storage: Storage) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"The storage {storage} can't be written: {error.strerror}. Set `storage` to "
            "another folder or URI."
        ) from error


def _holds(storage: Storage, name: str, content: str) -> bool:
    try:
        return storage.file(name).read_bytes() == content.encode()
    except OSError:
        return False


def _remove(storage: Storage, name: str) -> None:
    try:
        storage.file(name).unlink()
    except OSError:
        return  # It isn't there; or it stays, and harms nobody.


def _refusal(storage: Storage, wrong: Mapping[str, str]) -> ResourceError:
    told = "; ".join(f"{host}: {reason}" for host, reason in sorted(wrong.items()))
    return ResourceError(
        f"Not every node of the cluster can use the storage {storage}, where trials keep their "
        f"checkpoints ({told}). Set `storage` to one that all nodes see: s3://bucket/path, "
        "with credentials on every node, or a folder on a file system that they share, under the "
        "same path."
    )
