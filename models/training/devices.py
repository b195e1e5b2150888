"""What the installed torch can train on, and why a device cannot be used.

Each problem is text without a subject of its own, so that the trainer and a check of a cluster can
both name the place: "torch 2.13.0+cpu on the node a is a build without CUDA. Install ...".
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass

import torch

from celltune.models.config import Precision
from celltune.models.errors import DeviceError
from celltune.models.layers.persistent.selection import is_available, shared_memory

MINIMUM_CAPABILITY: dict[str, tuple[int, int]] = {
    "float32": (0, 0),
    "float16": (7, 0),
    "tf32": (8, 0),
    "bfloat16": (8, 0),
}
"""Compute capability from which a GPU has units for a precision (CUDA C++ Programming Guide,
"Compute Capabilities": tensor cores for float16 since 7.0, for the other two since 8.0)."""

_HERE = "on this machine"
_WEBSITE = "use the selector on the PyTorch website"


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use."""

    name: str
    capability: tuple[int, int]
    """Compute capability: major and minor number."""
    memory: int
    """Size of its memory in bytes."""
    shared_memory: int = 48 * 1024
    """Shared memory in bytes that a persistent kernel can use; 0: there are no such kernels."""


@dataclass(frozen=True)
class TorchDevices:
    """The installed torch and the GPUs that it can use."""

    version: str
    cuda: str | None
    """Version of CUDA (or ROCm) that torch was built for; None: it was built without."""
    gpus: tuple[Gpu, ...] = ()
    """Empty if there is no GPU, or if its driver cannot run this build."""


def inspect_torch() -> TorchDevices:
    """Describe the torch of this process. It initializes CUDA, which takes memory of each GPU."""
    cuda = torch.version.cuda or torch.version.hip
    with warnings.catch_warnings():
        # torch warns about a driver that is too old; `cuda_problem` says so in one sentence.
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return TorchDevices(torch.__version__, cuda, tuple(map(_inspect_gpu, range(count))))


def _inspect_gpu(index: int) -> Gpu:
    found = torch.cuda.get_device_properties(index)
    capability = (found.major, found.minor)
    on_chip = shared_memory(index) if is_available() else 0
    return Gpu(found.name, capability, found.total_memory, on_chip)


def build_problem(place: str) -> str | None:
    """Return why this process's torch cannot train on any GPU; None if it was built with CUDA.

    Args:
        place: see `cuda_problem`.
    """
    return _build_problem(torch.__version__, torch.version.cuda or torch.version.hip, place)


def cuda_problem(devices: TorchDevices, place: str) -> str | None:
    """Return why torch cannot train on a GPU, with the fix; None if it can.

    Args:
        devices: the torch of the place.
        place: such as "on this machine".
    """
    if problem := _build_problem(devices.version, devices.cuda, place):
        return problem
    if devices.gpus:
        return None
    return (
        f"torch {devices.version} {place} finds no usable GPU: the NVIDIA driver is missing or too "
        f"old for CUDA {devices.cuda}. Install a newer driver, or a build of torch for an older "
        f"CUDA ({_WEBSITE})"
    )


def _build_problem(version: str, cuda: str | None, place: str) -> str | None:
    if cuda is not None:
        return None
    return (
        f"torch {version} {place} is a build without CUDA. Install a CUDA build of torch "
        f"({_WEBSITE})"
    )


def precision_problem(gpu: Gpu, precisions: Collection[str], place: str) -> str | None:
    """Return why a GPU cannot compute in some precisions, with the fix; None if it can.

    Args:
        gpu: the GPU that trains.
        precisions: all values that space.precision may have.
        place: such as "of this machine".
    """
    needed = [(name, MINIMUM_CAPABILITY[name]) for name in precisions]
    missing = [f"{name} needs {_number(least)}" for name, least in needed if gpu.capability < least]
    if not missing:
        return None
    usable = [name for name, least in MINIMUM_CAPABILITY.items() if gpu.capability >= least]
    return (
        f"The GPU {place}, {gpu.name}, has compute capability {_number(gpu.capability)}, but "
        f"{' and '.join(missing)}. Set space.precision to {' or '.join(usable)}"
    )


def check_device(device: torch.device, precision: Precision) -> None:
    """Check that this process can train on a device. Devices other than CUDA are not checked.

    Args:
        device: the device that trains.
        precision: the precision of its products.

    Raises:
        DeviceError: torch cannot use the GPU, or the GPU cannot compute in the precision.
    """
    if device.type != "cuda":
        return
    devices = inspect_torch()
    if problem := cuda_problem(devices, _HERE):
        raise DeviceError(
            f"`device` is '{device}', but {problem}, or train on the CPU "
            "(resources.gpus_per_trial: 0)."
        )
    index = device.index or 0
    if index >= len(devices.gpus):
        names = ", ".join(f"'cuda:{number}'" for number in range(len(devices.gpus)))
        raise DeviceError(
            f"`device` is '{device}', but this machine has only {names}. Choose one of them."
        )
    if problem := precision_problem(devices.gpus[index], [precision], "of this machine"):
        raise DeviceError(f"{problem}.")


def _number(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
