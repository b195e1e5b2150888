"""What is checked about GPUs before a run, with GPUs that this machine does not have."""

from __future__ import annotations

import re
from typing import Any

import pytest
import ray

from celltune.models.errors import TrialError
from celltune.models.training import devices as torch_devices
from celltune.models.training.devices import Gpu, TorchDevices
from celltune.models.training.memory import MemoryEstimator, TrainingMemory
from celltune.search.cluster import gpu_checks
from celltune.search.cluster.gpu_checks import (
    GpuNode,
    check_devices,
    check_gpu_memory,
    check_own_torch,
    describe_devices,
    find_gpu_nodes,
    unused_gpus,
)
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError
from tests.models.random_data import make_data, make_split
from tests.search.simulated_search import make_config

T4 = Gpu("Tesla T4", (7, 5), 16_000_000_000)
A10G = Gpu("NVIDIA A10G", (8, 6), 24_000_000_000)
QUARTER = Resources(gpus_per_trial=0.25)


def make_node(*gpus: Gpu, name: str = "a", cpus: int = 8) -> GpuNode:
    amounts = {"CPU": float(cpus), "GPU": float(max(1, len(gpus)))}
    return GpuNode(name, amounts, TorchDevices("2.13.0+cu130", "13.0", gpus))


def reject(*arguments: Any, check: Any = check_devices, **options: Any) -> str:
    with pytest.raises(ResourceError) as raised:
        check(*arguments, **options)
    return str(raised.value)


def test_the_torch_of_the_machine_is_checked_before_a_local_cluster_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_devices, "build_problem", lambda place: f"torch {place} is old. Do x")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert reject(QUARTER, check=check_own_torch) == (
        "resources.gpus_per_trial is 0.25, but torch on this machine is old. Do x, or set "
        "resources.gpus_per_trial to 0 to train on the CPU."
    )
    check_own_torch(Resources())
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    check_own_torch(QUARTER)


def test_a_build_without_cuda_and_a_missing_driver_are_rejected() -> None:
    cpu_build = TorchDevices("2.13.0+cpu", None)
    nodes = [GpuNode(name, {"CPU": 1, "GPU": 1}, cpu_build) for name in ("a", "b")]
    assert reject(nodes, QUARTER, ["float32"]) == (
        "resources.gpus_per_trial is 0.25, but torch 2.13.0+cpu on the nodes a and b is a build "
        "without CUDA. Install a CUDA build of torch (use the selector on the PyTorch website), or "
        "set resources.gpus_per_trial to 0 to train on the CPU."
    )
    assert reject([make_node(A10G), make_node(name="b")], QUARTER, ["float32"]) == (
        "resources.gpus_per_trial is 0.25, but torch 2.13.0+cu130 on the node b finds no usable "
        "GPU: the NVIDIA driver is missing or too old for CUDA 13.0. Install a newer driver, or a "
        "build of torch for an older CUDA (use the selector on the PyTorch website), or set "
        "resources.gpus_per_trial to 0 to train on the CPU."
    )


def test_a_gpu_that_lacks_a_precision_is_rejected() -> None:
    nodes = [make_node(A10G), make_node(T4, A10G, name="b")]
    check_devices(nodes, QUARTER, ["float32", "float16"])
    assert reject(nodes, QUARTER, ["float32", "bfloat16"]) == (
        "The GPU of the node b, Tesla T4, has compute capability 7.5, but bfloat16 needs 8.0. Set "
        "space.precision to float32 or float16."
    )
    check_devices([], QUARTER, ["bfloat16"])


@pytest.fixture
def _gigabyte_per_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the estimate of every model be 1 GB for each of its layers and trials."""

    def estimate(
        _: object, model: Any, training: object, *, trials: int, shared_memory: int
    ) -> TrainingMemory:
        del training, shared_memory
        if model.num_layers == 1:
            raise TrialError("too few layers")
        return TrainingMemory(activations=model.num_layers * trials * 10**9)

    monkeypatch.setattr(MemoryEstimator, "estimate", estimate)


def check_memory(*nodes: GpuNode, layers: int, trials: int = 1, **resources: Any) -> None:
    split = make_split(4, 1)
    models = [{"cell": "gru", "hidden_size": 64, "num_layers": n + 1} for n in range(layers)]
    check_gpu_memory(
        nodes,
        Resources(**resources),
        models,
        make_data(split, split),
        trials_per_worker=trials,
    )


@pytest.mark.usefixtures("_gigabyte_per_layer")
def test_workers_that_share_a_gpu_have_to_fit_into_its_memory() -> None:
    nodes = make_node(A10G, A10G), make_node(T4, name="b")
    check_memory(*nodes, layers=4, gpus_per_trial=0.25)
    text = reject(*nodes, layers=5, gpus_per_trial=0.25, check=check_memory)
    assert text == (
        "4 trials share a GPU (resources.gpus_per_trial is 0.25) and may need 20.0 GB of its "
        "memory, 5.0 GB each, for the largest model (gru 64x5), but the GPU of the node b, Tesla "
        "T4, has 16.0 GB. Set resources.gpus_per_trial to 0.3333 (3 workers per GPU), or lower "
        "space.hidden_size, space.num_layers, space.batch_size or data.max_tokens."
    )
    text = reject(*nodes, layers=17, gpus_per_trial=1, check=check_memory)
    assert text == (
        "A trial may need 17.0 GB of GPU memory for the largest model (gru 64x17), but the GPU of "
        "the node b, Tesla T4, has 16.0 GB. Lower space.hidden_size, space.num_layers, "
        "space.batch_size or data.max_tokens."
    )
    check_memory(layers=17, gpus_per_trial=1)


@pytest.mark.usefixtures("_gigabyte_per_layer")
def test_the_number_of_workers_on_a_gpu_is_that_of_the_node() -> None:
    check_memory(make_node(T4, cpus=3), layers=5, gpus_per_trial=0.25)
    check_memory(make_node(T4), layers=5, gpus_per_trial=0.25, concurrent_trials=3)
    check_memory(make_node(T4), layers=2, trials=5, gpus_per_trial=0.5, concurrent_trials=9)


@pytest.mark.usefixtures("_gigabyte_per_layer")
def test_a_worker_of_several_trials_needs_memory_for_each() -> None:
    text = reject(make_node(T4), layers=2, trials=5, gpus_per_trial=0.5, check=check_memory)
    assert text == (
        "2 workers of 5 trials share a GPU (resources.gpus_per_trial is 0.5) and may need 20.0 GB "
        "of its memory, 10.0 GB each, for the largest model (gru 64x2), but the GPU of the node a, "
        "Tesla T4, has 16.0 GB. Set resources.gpus_per_trial to 1 (1 worker per GPU), or lower "
        "resources.trials_per_worker, space.hidden_size, space.num_layers, space.batch_size or "
        "data.max_tokens."
    )
    with pytest.raises(ResourceError, match=r"^A worker of 9 trials may need 18\.0 GB of GPU"):
        check_memory(make_node(T4), layers=2, trials=9, gpus_per_trial=1)


def test_the_largest_model_of_a_space_is_estimated() -> None:
    space = make_config(
        space={
            "cell": ["gru", "mgu"],
            "hidden_size": {"low": 8, "high": 512},
            "readout": ["final", "last_two_layers"],
            "num_layers": 1,
        }
    ).space
    split = make_split(100, 1, longest=600)
    data = make_data(split, split)
    small = make_node(Gpu("small", (8, 0), 12 * 10**9))
    check_gpu_memory([small], Resources(gpus_per_trial=1), space.largest(), data)
    text = reject([small], QUARTER, space.largest(), data, check=check_gpu_memory)
    assert re.sub(r"\d+\.\d GB", "N GB", text) == (
        "4 trials share a GPU (resources.gpus_per_trial is 0.25) and may need N GB of its memory, "
        "N GB each, for the largest model (mgu 512x1), but the GPU of the node a, small, has N GB. "
        "Set resources.gpus_per_trial to 1 (1 worker per GPU), or lower space.hidden_size, "
        "space.batch_size or data.max_tokens, or remove mgu, whose CUDA graphs need N GB, from "
        "space.cell."
    )


def cluster_of(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    described = [
        {"Alive": True, "NodeID": str(n), "NodeManagerHostname": f"host{n}", "Resources": node}
        for n, node in enumerate(nodes)
    ]
    monkeypatch.setattr(ray, "nodes", lambda: described)
    monkeypatch.setattr("celltune.search.cluster.connection.autoscaler_node_groups", list)


def test_gpus_that_trials_do_not_use_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, {"CPU": 4, "GPU": 2}, {"CPU": 4})
    assert unused_gpus(Resources()) == (
        "Trials run on the CPU, because resources.gpus_per_trial is 0, but the cluster has 2 GPUs. "
        "To train on them, set resources.gpus_per_trial to 1, or to a fraction: with 0.25, four "
        "trials share a GPU."
    )
    assert unused_gpus(QUARTER) is None
    cluster_of(monkeypatch, {"CPU": 4})
    assert unused_gpus(Resources()) is None


class FakeTasks:
    """Replaces Ray: each task returns a result, or raises an error, by the index of its node."""

    def __init__(self, *results: Any) -> None:
        self._results = iter(results)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray, "remote", lambda **_: lambda _: self)
        monkeypatch.setattr(ray, "wait", lambda *_, **__: None)
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(gpu_checks, "NodeAffinitySchedulingStrategy", lambda *_, **__: None)

    def options(self, **_: Any) -> FakeTasks:
        return self

    def remote(self) -> Any:
        return next(self._results)

    def _get(self, result: Any, timeout: float) -> Any:
        assert timeout == 0
        if isinstance(result, Exception):
            raise result
        return result


def test_nodes_on_which_a_trial_fits_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    big, no_gpu, no_cpu = {"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0}, {"GPU": 1.0}
    cluster_of(monkeypatch, no_gpu, big, no_cpu, big)
    FakeTasks("first", "second").install(monkeypatch)
    assert find_gpu_nodes(QUARTER) == [
        GpuNode("host1", big, "first"),  # type: ignore[arg-type]
        GpuNode("host3", big, "second"),  # type: ignore[arg-type]
    ]
    assert find_gpu_nodes(Resources()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ray.exceptions.GetTimeoutError("late"), "it did not answer within 120 s"),
        (ray.exceptions.RayError("long\nNo module named 'celltune'"), "No module named 'celltune'"),
    ],
)
def test_a_node_that_does_not_answer_is_rejected(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_of(monkeypatch, {"CPU": 4.0, "GPU": 1.0})
    FakeTasks(error).install(monkeypatch)
    assert reject(QUARTER, check=find_gpu_nodes) == (
        f"The node host0 cannot say which GPUs torch can use there: {reason}. Check that celltune "
        "and torch work on the node, or remove it from the cluster."
    )


def test_a_task_without_gpus_sees_those_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = TorchDevices("2.13.0+cu130", "13.0", (T4,))
    monkeypatch.setattr(torch_devices, "inspect_torch", lambda: found)
    assert describe_devices() == found
    assert "CUDA_VISIBLE_DEVICES" not in gpu_checks.os.environ
