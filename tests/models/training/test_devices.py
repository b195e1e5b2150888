"""Why a device cannot train, for torch builds and GPUs that this machine does not have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import DeviceError
from celltune.models.training import devices
from celltune.models.training.devices import (
    Gpu,
    TorchDevices,
    build_problem,
    check_device,
    cuda_problem,
    inspect_torch,
    precision_problem,
)
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split

PASCAL = Gpu("Tesla P40", (6, 1), 24_000_000_000)
TURING = Gpu("Tesla T4", (7, 5), 16_000_000_000)
AMPERE = Gpu("NVIDIA A10G", (8, 6), 24_000_000_000)
CPU_BUILD = TorchDevices("2.13.0+cpu", None)
CUDA_BUILD = TorchDevices("2.13.0+cu130", "13.0")
WITH_GPU = TorchDevices("2.13.0+cu130", "13.0", (TURING,))


def see(monkeypatch: pytest.MonkeyPatch, found: TorchDevices) -> None:
    monkeypatch.setattr(devices, "inspect_torch", lambda: found)


def test_a_build_without_cuda_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (
        "torch 2.13.0+cpu on this machine is a build without CUDA. Install a CUDA build of torch "
        "(use the selector on the PyTorch website)"
    )
    assert cuda_problem(CPU_BUILD, "on this machine") == expected
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert build_problem("on this machine") == expected
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert build_problem("on this machine") is None


def test_a_missing_driver_is_explained() -> None:
    assert cuda_problem(CUDA_BUILD, "on the node a") == (
        "torch 2.13.0+cu130 on the node a finds no usable GPU: the NVIDIA driver is missing or too "
        "old for CUDA 13.0. Install a newer driver, or a build of torch for an older CUDA (use the "
        "selector on the PyTorch website)"
    )
    assert cuda_problem(WITH_GPU, "on the node a") is None


def test_precisions_need_a_compute_capability() -> None:
    every = ("float32", "tf32", "bfloat16", "float16")
    assert precision_problem(AMPERE, every, "of this machine") is None
    assert precision_problem(TURING, ("float32", "float16"), "of this machine") is None
    assert precision_problem(TURING, ("bfloat16", "float16"), "of this machine") == (
        "The GPU of this machine, Tesla T4, has compute capability 7.5, but bfloat16 needs 8.0. "
        "Set space.precision to float32 or float16"
    )
    assert precision_problem(PASCAL, every, "of the node a") == (
        "The GPU of the node a, Tesla P40, has compute capability 6.1, but tf32 needs 8.0 and "
        "bfloat16 needs 8.0 and float16 needs 7.0. Set space.precision to float32"
    )


def test_a_trainer_rejects_a_gpu_that_it_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, CPU_BUILD)
    split = make_split(8, 1)
    config = ModelConfig(cell="gru", hidden_size=2, embedding_size=2)
    with pytest.raises(DeviceError) as raised:
        Trainer(config, TrainingConfig(), make_data(split, split), seed=1, device="cuda")
    assert str(raised.value) == (
        "`device` is 'cuda', but torch 2.13.0+cpu on this machine is a build without CUDA. Install "
        "a CUDA build of torch (use the selector on the PyTorch website), or train on the CPU "
        "(resources.gpus_per_trial: 0)."
    )


def test_the_number_and_the_precision_of_a_gpu_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, WITH_GPU)
    check_device(torch.device("cuda"), "float16")
    with pytest.raises(DeviceError, match=r"'cuda:3', but this machine has only 'cuda:0'\."):
        check_device(torch.device("cuda:3"), "float32")
    with pytest.raises(DeviceError, match=r"bfloat16 needs 8\.0\. .* float32 or float16\.$"):
        check_device(torch.device("cuda:0"), "bfloat16")


def test_other_devices_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, CPU_BUILD)
    check_device(torch.device("cpu"), "bfloat16")
    check_device(torch.device("meta"), "bfloat16")


def test_the_installed_torch_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, major, minor, total_memory = "Tesla T4", 7, 5, 16_000_000_000

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setattr(devices, "shared_memory", lambda index: 65_536 + index)
    monkeypatch.setattr(devices, "is_available", lambda: True)
    assert inspect_torch() == TorchDevices(
        torch.__version__,
        "13.0",
        (replace(TURING, shared_memory=65_536), replace(TURING, shared_memory=65_537)),
    )
    monkeypatch.setattr(devices, "is_available", lambda: False)  # without Triton
    assert inspect_torch().gpus == (replace(TURING, shared_memory=0),) * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert inspect_torch().gpus == ()
