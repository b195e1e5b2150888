"""Checks, before a run starts, that the GPUs of a cluster can train the trials.

The driver's machine may have no GPU and another torch than the nodes, so a task on each node that
can run trials describes its torch and its GPUs. A node that an autoscaler has not started yet
cannot be asked: there, the trainer checks torch and precision again (`models.training.devices`),
and the memory is not checked.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.errors import TrialError
from celltune.search.cluster.connection import Amounts, node_kinds, trials_per_node
from celltune.search.config.gpu_shares import gpu_share
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError
from celltune.search.tuning.trial import trial_configs
from celltune.search.types import ParameterValue
from celltune.search.wording import counted, describe_params, distinguishing_params, listed

if TYPE_CHECKING:
    from celltune.models.training.devices import Gpu, TorchDevices
    from celltune.models.training.memory import TrainingMemory

QUERY_SECONDS = 120.0
"""Time limit for the answer of a node; importing torch from a network file system takes long."""
_SIZES = ("embedding_size", "batch_size", "optimizer")
"""Hyperparameters of the largest model that a message names in addition to the architecture."""


@dataclass(frozen=True)
class GpuNode:
    """A running node whose GPUs train trials."""

    name: str
    amounts: Amounts
    """Resources of the node, in Ray's names."""
    devices: TorchDevices


def check_own_torch(resources: Resources) -> None:
    """Check the torch of this machine, before a local cluster is started on it.

    Raises:
        ResourceError: trials need a GPU, and torch was built without CUDA.
    """
    if resources.gpus_per_trial == 0 or ray.is_initialized():
        return
    # Importing torch takes seconds.
    from celltune.models.training.devices import build_problem

    if problem := build_problem("on this machine"):
        raise _unusable(resources, problem)


def find_gpu_nodes(resources: Resources) -> list[GpuNode]:
    """Return the running nodes of the connected cluster on which a trial with a GPU fits.

    Raises:
        ResourceError: a node does not answer.
    """
    if resources.gpus_per_trial == 0:
        return []
    nodes = [
        node
        for node in ray.nodes()
        if node["Alive"] and trials_per_node(node["Resources"], resources) > 0
    ]
    # The process ends after the task, which frees the GPU memory that CUDA takes.
    task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(describe_devices)
    answers = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    ]
    if answers:
        ray.wait(answers, num_returns=len(answers), timeout=QUERY_SECONDS)
    return [
        GpuNode(node["NodeManagerHostname"], node["Resources"], _result(node, answer))
        for node, answer in zip(nodes, answers, strict=True)
    ]


def describe_devices() -> TorchDevices:
    """Describe torch and all GPUs of the node; runs in a worker process of its own."""
    from celltune.models.training.devices import inspect_torch

    # Before Ray 2.51, a task without GPUs saw none.
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]
    return inspect_torch()


def _result(node: Mapping[str, Any], answer: Any) -> TorchDevices:
    try:
        devices: TorchDevices = ray.get(answer, timeout=0)
    except ray.exceptions.GetTimeoutError:
        reason = f"it did not answer within {QUERY_SECONDS:.0f} s"
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
    else:
        return devices
    raise ResourceError(
        f"The node {node['NodeManagerHostname']} cannot say which GPUs torch can use there: "
        f"{reason}. Check that celltune and torch work on the node, or remove it from the cluster."
    )


def check_devices(
    nodes: Sequence[GpuNode], resources: Resources, precisions: Collection[str]
) -> None:
    """Check that torch can use the GPUs of all nodes, and that they are new enough.

    Args:
        nodes: the nodes that run trials.
        resources: the resources of a trial.
        precisions: all values that space.precision may have.

    Raises:
        ResourceError: torch cannot train on the GPUs of a node.
    """
    if not nodes:
        return
    from celltune.models.training.devices import cuda_problem, precision_problem

    for devices in dict.fromkeys(node.devices for node in nodes):
        alike = [node.name for node in nodes if node.devices == devices]
        place = f"the {'nodes' if len(alike) > 1 else 'node'} {listed(alike)}"
        if problem := cuda_problem(devices, f"on {place}"):
            raise _unusable(resources, problem)
        for gpu in dict.fromkeys(devices.gpus):
            if problem := precision_problem(gpu, precisions, f"of {place}"):
                raise ResourceError(f"{problem}.")


def check_gpu_memory(
    nodes: Sequence[GpuNode],
    resources: Resources,
    models: Iterable[Mapping[str, ParameterValue]],
    data: PreparedData,
    *,
    trials_per_worker: int = 1,
) -> None:
    """Check that the workers that share a GPU fit into its memory, if all train the largest model.

    Args:
        nodes: the nodes that run trials; an empty list is not checked.
        resources: the resources of a worker.
        models: hyperparameters of trials, among them those of the largest model.
        data: training and validation split.
        trials_per_worker: number of trials that a worker trains at the same time.

    Raises:
        ResourceError: the memory of a GPU is too small.
    """
    if not nodes:
        return
    weakest = [min(node.devices.gpus, key=lambda gpu: gpu.memory) for node in nodes]
    candidates = tuple(models)
    largest_on = {gpu: _largest(candidates, data, trials_per_worker, gpu) for gpu in set(weakest)}
    for node, gpu in zip(nodes, weakest, strict=True):
        memory, largest = largest_on[gpu]
        workers = _workers_per_gpu(node.amounts, resources, trials_per_worker)
        if workers * memory.total > gpu.memory:
            demand = _demand(workers, memory, resources, trials_per_worker)
            advice = _advice(gpu.memory // memory.total, memory, largest, trials_per_worker)
            raise ResourceError(
                f"{demand} for the largest model ({_describe(largest)}), but the GPU of the node "
                f"{node.name}, {gpu.name}, has {_gigabytes(gpu.memory)}. {advice}"
            )


def unused_gpus(resources: Resources) -> str | None:
    """Return a message if the connected cluster has GPUs and trials do not use them."""
    count = sum(number * node.get("GPU", 0) for node, number in node_kinds())
    if resources.gpus_per_trial > 0 or count == 0:
        return None
    return (
        f"Trials run on the CPU, because resources.gpus_per_trial is 0, but the cluster has "
        f"{counted(count, 'GPU')}. To train on {'it' if count == 1 else 'them'}, set "
        "resources.gpus_per_trial to 1, or to a fraction: with 0.25, four trials share a GPU."
    )


def _unusable(resources: Resources, problem: str) -> ResourceError:
    return ResourceError(
        f"resources.gpus_per_trial is {resources.gpus_per_trial:g}, but {problem}, or set "
        "resources.gpus_per_trial to 0 to train on the CPU."
    )


def _largest(
    models: Iterable[Mapping[str, ParameterValue]], data: PreparedData, trials: int, gpu: Gpu
) -> tuple[TrainingMemory, Mapping[str, ParameterValue]]:
    """Return the memory of the largest model on a GPU, and its hyperparameters."""
    from celltune.models.training.memory import MemoryEstimator, TrainingMemory

    estimator = MemoryEstimator(data)
    largest: tuple[TrainingMemory, Mapping[str, ParameterValue]] = TrainingMemory(), {}
    for params in models:
        try:
            configs = trial_configs(params, data)
            memory = estimator.estimate(*configs, trials=trials, shared_memory=gpu.shared_memory)
        except TrialError:
            continue  # It fails before it uses the GPU.
        if memory.total > largest[0].total:
            largest = memory, params
    return largest


def _workers_per_gpu(node: Amounts, resources: Resources, trials_per_worker: int) -> int:
    """Return how many workers may share a GPU of a node."""
    limits = [
        max(1, int(1 / resources.gpus_per_trial + 1e-9)),
        trials_per_node(node, resources, trials_per_worker),
    ]
    if resources.concurrent_trials is not None:
        limits.append(max(1, resources.concurrent_trials // trials_per_worker))
    return min(limits)


def _demand(
    workers: int, memory: TrainingMemory, resources: Resources, trials_per_worker: int
) -> str:
    packed = f" of {trials_per_worker} trials" if trials_per_worker > 1 else ""
    if workers == 1:
        name = f"A worker{packed}" if packed else "A trial"
        return f"{name} may need {_gigabytes(memory.total)} of GPU memory"
    name = f"workers{packed}" if packed else "trials"
    return (
        f"{workers} {name} share a GPU (resources.gpus_per_trial is "
        f"{resources.gpus_per_trial:g}) and may need {_gigabytes(workers * memory.total)} of its "
        f"memory, {_gigabytes(memory.total)} each,"
    )


def _advice(
    fitting: int,
    memory: TrainingMemory,
    largest: Mapping[str, ParameterValue],
    trials_per_worker: int,
) -> str:
    """Return what to change; `fitting` is the number of workers that fit on the GPU."""
    keys = ["space.hidden_size", "space.num_layers", "space.batch_size", "data.max_tokens"]
    if trials_per_worker > 1:
        keys.insert(0, "resources.trials_per_worker")
    mostly_graphs = memory.graphs > memory.total / 2
    if mostly_graphs:
        keys.remove("space.num_layers")
    changes = [f"lower {listed(keys, 'or')}"]
    if fitting > 0:
        share = f"{gpu_share(fitting):g} ({counted(fitting, 'worker')} per GPU)"
        changes.insert(0, f"set resources.gpus_per_trial to {share}")
    if mostly_graphs and trials_per_worker == 1:
        changes.append(
            f"remove {largest['cell']}, whose CUDA graphs need {_gigabytes(memory.graphs)}, from "
            "space.cell"
        )
    text = ", or ".join(changes)
    return f"{text[0].upper()}{text[1:]}."


def _describe(params: Mapping[str, ParameterValue]) -> str:
    return describe_params(distinguishing_params(params, _SIZES))


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
