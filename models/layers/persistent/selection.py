"""Which layers run on persistent kernels.

The kernels need a GPU, Triton (part of PyTorch's CUDA packages) and a C compiler, which Triton uses
to build its launcher. Layers run on other implementations where one of them is missing, where the
weights do not fit on the chip, or with `CELLTUNE_PERSISTENT=0`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from celltune.models.layers.base import Cell, PersistentName, SpanLoop
from celltune.models.layers.persistent.fitting import Mode, padded_height, product_mode

if TYPE_CHECKING:
    from celltune.models.layers.persistent.launch import PersistentLoop

SWITCH = "CELLTUNE_PERSISTENT"
"""The environment variable that switches the kernels off."""

_enabled: ContextVar[bool] = ContextVar("celltune_persistent_enabled", default=True)
_log = logging.getLogger(__name__)


@contextmanager
def disabled() -> Iterator[None]:
    """Use no persistent kernels inside the context, for comparisons."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def persistent_loop(
    cell: Cell,
    hidden_size: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    spans: bool = False,
) -> SpanLoop | None:
    """Return a loop that runs each pass as one kernel, or None if a layer cannot.

    The first call for a size compiles the kernels and tries them on the device. The first failure
    of a process is logged as a warning, because others often have the same reason.

    Args:
        cell: the cell of the layer.
        hidden_size: H.
        dtype: the type of weights and states; only float32 is supported.
        device: where they are.
        spans: whether the loop will be given spans, for which other kernels are compiled.

    Raises:
        torch.OutOfMemoryError: the memory of the GPU is exhausted.
    """
    if cell.persistent is None or cell.loop is None or not _enabled.get():
        return None
    if device.type != "cuda" or dtype != torch.float32 or not is_available():
        return None
    from celltune.models.layers.persistent import launch

    index = torch.cuda.current_device() if device.index is None else device.index
    kernels, available = launch.KERNELS[cell.persistent], shared_memory(index)
    mode = product_mode(kernels, hidden_size, dtype, available)
    if mode is None:
        return None
    loop = launch.PersistentLoop(cell.loop, kernels, available)
    variant = _Variant(cell.persistent, padded_height(hidden_size), mode, spans)
    return loop if _runs(variant, index, loop) else None


def fits_on_chip(cell: Cell, hidden_size: int, memory: int) -> bool:
    """Return whether a layer has kernels for float32 and its weights fit on the chip of a GPU.

    Args:
        cell: the cell of the layer.
        hidden_size: H.
        memory: the shared memory in bytes that one program can use; 0: the kernels are not
            available on the machine of the GPU.
    """
    if cell.persistent is None or cell.loop is None:
        return False
    weights = _Weights(len(cell.gates), relu=cell.persistent == "rnn_relu")
    return product_mode(weights, hidden_size, torch.float32, memory) is not None


def is_available() -> bool:
    """Return whether this process may use the kernels: Triton works, and no one switched them off.

    It is not known yet whether Triton can compile them.
    """
    return os.environ.get(SWITCH) != "0" and triton_works()


@functools.lru_cache(maxsize=1)
def triton_works() -> bool:
    """Return whether Triton is installed and can be imported; if it cannot, log a warning."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        importlib.import_module("triton")
    except Exception as error:  # noqa: BLE001 (a broken installation raises errors of any type)
        _log.warning(
            "Triton is installed but cannot be imported, so training on a GPU is slower: %s",
            first_line(error),
        )
        return False
    return True


def first_line(error: BaseException) -> str:
    """Return the first line of the text of an exception, or its type if it has no text."""
    return str(error).strip().split("\n")[0] or type(error).__name__


@functools.lru_cache
def shared_memory(index: int) -> int:
    """Return the bytes of shared memory that one program can use."""
    properties = torch.cuda.get_device_properties(index)
    return int(getattr(properties, "shared_memory_per_block_optin", 48 * 1024))


@dataclass(frozen=True)
class _Weights:
    """`RecurrentWeights` of a cell."""

    gates: int
    relu: bool


@dataclass(frozen=True)
class _Variant:
    """What the compiled kernels depend on."""

    name: PersistentName
    height: int
    mode: Mode
    spans: bool


_tried: dict[tuple[_Variant, int], bool] = {}


def _runs(variant: _Variant, index: int, loop: PersistentLoop) -> bool:
    """Return whether both passes run on a GPU; each variant is tried once per process."""
    key = variant, index
    if key not in _tried:
        try:
            _try(loop, variant, torch.device("cuda", index))
        except torch.OutOfMemoryError:
            raise  # It says nothing about the kernels: other processes use the GPU, too.
        except Exception as error:  # noqa: BLE001 (compilers and drivers raise errors of any type)
            failed_before = False in _tried.values()
            _log.log(
                logging.INFO if failed_before else logging.WARNING,
                "The GPU kernels of the cell '%s' with %d hidden units cannot run here, so its "
                "layers are slower: %s",
                variant.name,
                variant.height,
                first_line(error),
            )
            _tried[key] = False
        else:
            _tried[key] = True
    return _tried[key]


def _try(loop: PersistentLoop, variant: _Variant, device: torch.device) -> None:
    """Run both passes on zeros."""
    size = variant.height
    with torch.inference_mode(False), torch.no_grad():
        spans = None
        if variant.spans:
            spans = torch.tensor([[0, 1]], dtype=torch.int32, device=device)
        hidden = torch.zeros(1, 2, size + 1, 16, device=device)
        projected = torch.zeros(1, 1, loop.blocks * size, 16, device=device)
        weights = loop.zero_weights(size, device)
        saved = loop.forward(projected, hidden, weights, spans)
        loop.backward(projected[:, :, :size], hidden, saved, weights, spans)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
