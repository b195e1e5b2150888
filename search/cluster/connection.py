"""Connection to a Ray cluster, and how many trials the cluster can run."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import ray

from celltune.data_prep.cache import ray_store
from celltune.errors import CelltuneError
from celltune.search.cluster.ray_internals import (
    autoscaler_node_groups,
    few_processes,
    isolated_job_config,
    private_temp_dir,
    protect_token,
    sigterm_handler_kept,
    worker_environment,
)
from celltune.search.cluster.shared_ray import SHARED
from celltune.search.config.problems import shown
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError
from celltune.search.wording import counted, listed

CONNECT_SECONDS = 5.0
_CONNECTED = threading.Lock()
"""Held by the one thread of this process that uses Ray."""

Amounts = Mapping[str, float]
"""Amount of each resource by Ray's name of it: CPU, GPU, memory (bytes)."""

_KEYS = {
    "CPU": "resources.cpus_per_trial",
    "GPU": "resources.gpus_per_trial",
    "memory": "resources.memory_per_trial_gb",
}


@contextmanager
def connected(address: str | None = None, preloaded: Sequence[str] = ()) -> Iterator[bool]:
    """Connect to a Ray cluster: the current connection, the cluster at `address`, or a local one.

    At the end, a cluster that was started here is stopped and a connection that was made here is
    closed. An earlier connection stays open, and so does a local cluster that the searches of this
    process share (see `shared_ray`).

    Args:
        address: address of a running cluster; `None` starts a local one.
        preloaded: modules that the processes of a local cluster import when they start.

    Yields:
        Whether this process started the cluster here, so that it ends with the process.

    Raises:
        ResourceError: no cluster answers at the address, or another thread of this process is
            connected by this function.
    """
    with _one_thread():
        is_users_own = ray.is_initialized() and not _is_shared()
        with nullcontext() if is_users_own else _own_connection(address, preloaded):
            yield not is_users_own and address is None


@contextmanager
def _one_thread() -> Iterator[None]:
    # A process has one connection. The thread that ends first would close that of the other.
    if not _CONNECTED.acquire(blocking=False):
        raise ResourceError(
            "Another search, evaluation or data command is using Ray in this process. Wait until "
            "it ends, or run this one in a process of its own."
        )
    try:
        yield
    finally:
        _CONNECTED.release()


def stop_shared() -> None:
    """Stop the shared local cluster, if it runs.

    Raises:
        ResourceError: another thread of this process is using it.
    """
    with _one_thread():
        _stop_shared()


def _stop_shared() -> None:
    if _is_shared():
        ray.shutdown()
    SHARED.forget()


def _is_shared() -> bool:
    """Return whether the connection is to the shared cluster, and not one that the user made."""
    return SHARED.cluster is not None and ray.is_initialized() and SHARED.cluster == _cluster()


def _cluster() -> str:
    """Return what identifies the cluster and the connection of this process."""
    context = ray.get_runtime_context()
    return f"{context.gcs_address} {context.get_job_id()}"


@contextmanager
def _own_connection(address: str | None, preloaded: Sequence[str]) -> Iterator[None]:
    if not (address is None and _is_shared() and SHARED.has_current_environment()):
        _stop_shared()
        _connect(address, preloaded)
    remains = False
    try:
        yield
        remains = True
    except CelltuneError:
        remains = True
        raise
    finally:
        # After other errors and a second Ctrl-C, actors of the search may still run.
        if remains and SHARED.wanted and address is None:
            SHARED.keep(_cluster())
        else:
            ray.shutdown()
            SHARED.forget()


def _connect(address: str | None, preloaded: Sequence[str]) -> None:
    _check_reachable(address)
    try:
        with (
            worker_environment(preloaded),
            sigterm_handler_kept(),
            nullcontext() if address else few_processes(),
        ):
            ray.init(
                address=address or "local",
                namespace=ray_store.NAMESPACE,
                job_config=isolated_job_config(),
                logging_level=logging.ERROR,
                log_to_driver=False,
                **({} if address else _local_options()),
            )
            protect_token()
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error
    except BaseException:
        # After Ctrl-C, threads of a half-started Ray would crash the process at its exit.
        ray.shutdown()
        raise


def _local_options() -> dict[str, object]:
    """Return the options of a cluster that is started here.

    Raises:
        OSError: the folder for its files is not private or cannot be created.
    """
    protect_token()
    return {"include_dashboard": False, "_temp_dir": private_temp_dir()}


def _check_reachable(address: str | None) -> None:
    # Ray itself retries for minutes and then ends the process.
    if address is None or address in ("auto", "local"):
        return
    if "@" in address:
        raise ResourceError(
            "`address` contains a user name or password, which Ray does not use. Set it to 'auto' "
            "or host:port."
        )
    if address.startswith("ray://"):
        raise ResourceError(
            f"`address` is {shown(address)}, but a search cannot run over Ray Client. Start "
            "celltune on a node of the cluster, and set `address` to 'auto' or to host:port."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ResourceError(f"`address` is {shown(address)}. Set it to 'auto' or host:port.")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ResourceError:
    if address is None:
        return ResourceError(
            f"Ray cannot start on this machine: {str(error).rstrip('.')}. Check the machine's free "
            "memory and disk space, or set `address` to the address of a running cluster."
        )
    return ResourceError(
        f"Cannot connect to the Ray cluster at {shown(address)}: {str(error).rstrip('.')}. Check "
        "that 'ray status' works there, that this machine is a node of the cluster, and, if the "
        "cluster requires a token, that RAY_AUTH_MODE=token is set. Without `address` a local "
        "cluster is started."
    )


def trial_slots(resources: Resources, trials_per_worker: int = 1) -> int:
    """Return how many workers the connected cluster runs at the same time, once it is fully scaled.

    Args:
        resources: resources of a trial, or of a worker that trains several trials.
        trials_per_worker: number of trials that a worker trains at the same time.

    Raises:
        ResourceError: no node can run a single worker.
    """
    nodes = node_kinds()
    slots = sum(n * trials_per_node(node, resources, trials_per_worker) for node, n in nodes)
    if slots == 0:
        raise _too_small([node for node, _ in nodes], resources, trials_per_worker)
    limit = resources.concurrent_trials
    return slots if limit is None else min(slots, max(1, limit // trials_per_worker))


def trial_bundle(resources: Resources, trials_per_worker: int = 1) -> dict[str, float]:
    """Return the resources that one worker occupies, without those of which it needs none.

    The trials of a worker share its CPUs and GPUs, but each needs memory of its own.
    """
    needed = {
        "CPU": resources.cpus_per_trial,
        "GPU": resources.gpus_per_trial,
        "memory": int((resources.memory_per_trial_gb or 0) * trials_per_worker * 1e9),
    }
    return {name: amount for name, amount in needed.items() if amount > 0}


def trials_per_node(node: Amounts, resources: Resources, trials_per_worker: int = 1) -> int:
    """Return how many workers, of one or several trials, fit on a node with these resources."""
    bundle = trial_bundle(resources, trials_per_worker)
    return min(int(node.get(name, 0) / amount + 1e-9) for name, amount in bundle.items())


def _too_small(
    nodes: Sequence[Amounts], resources: Resources, trials_per_worker: int
) -> ResourceError:
    """Return the error that no node can run a worker; it names only what a worker needs."""
    bundle = trial_bundle(resources, trials_per_worker)
    worker = f"A worker of {trials_per_worker} trials" if trials_per_worker > 1 else "A trial"
    if "GPU" in bundle and not any(node.get("GPU") for node in nodes):
        return ResourceError(
            f"{worker} needs {counted(bundle['GPU'], 'GPU')} (resources.gpus_per_trial), but no "
            "node of the cluster has a GPU. Set resources.gpus_per_trial to 0 to train on CPUs, or "
            "set `address` to a cluster with GPUs."
        )
    # If each amount exists somewhere, the combination of all is what no node has.
    scarce = [name for name in bundle if all(node.get(name, 0) < bundle[name] for node in nodes)]
    keys = [_KEYS[name] for name in scarce or bundle]
    if "memory" in (scarce or bundle) and trials_per_worker > 1:
        keys.append("resources.trials_per_worker")
    offers = "; ".join(dict.fromkeys(_describe(node, bundle) for node in nodes))
    return ResourceError(
        f"{worker} needs {_describe(bundle, bundle)}, but no node of the cluster has that much. "
        f"Its nodes have: {offers}. Lower {listed(keys, 'or')}, or set `address` to a larger "
        "cluster."
    )


def _describe(amounts: Amounts, names: Iterable[str]) -> str:
    """Return amounts of the named resources: `4 CPUs and 1 GPU`."""
    texts = {
        "CPU": counted(amounts.get("CPU", 0.0), "CPU"),
        "GPU": counted(amounts.get("GPU", 0.0), "GPU"),
        "memory": f"{amounts.get('memory', 0) / 1e9:,.1f} GB of memory",
    }
    return listed([texts[name] for name in names])


def node_kinds() -> list[tuple[Amounts, int]]:
    """Return the kinds of nodes and their maximum count: running, or startable by an autoscaler."""
    running: list[tuple[Amounts, int]] = [
        (node["Resources"], 1) for node in ray.nodes() if node["Alive"]
    ]
    groups = autoscaler_node_groups()
    return [*groups, *_outside_groups(running, groups)] if groups else running


def _outside_groups(
    running: Sequence[tuple[Amounts, int]], groups: Sequence[tuple[Amounts, int]]
) -> list[tuple[Amounts, int]]:
    """Return the running nodes that no autoscaler group counts already."""
    kinds = [(group.get("CPU"), group.get("GPU")) for group, _ in groups]
    return [(node, n) for node, n in running if (node.get("CPU"), node.get("GPU")) not in kinds]
