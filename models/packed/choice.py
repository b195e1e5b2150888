"""Which trials can be computed as one batched model, and where this is faster.

torch is imported only when the answer depends on the cell, because the driver of a search asks.
"""

from __future__ import annotations

from celltune.models.config import ModelConfig
from celltune.models.extensions import CELLS

FASTER_UP_TO_HIDDEN = 32
"""On a CPU without native loops, packing is faster up to this size of a state (docs/models.md)."""


def runs_batched(model: ModelConfig, device: str) -> bool:
    """Return whether packed trials are computed as one model; otherwise they run one by one.

    The native loops of the CPU have no overhead that a larger batch could reduce, and cells that
    only define `step` run in autograd anyway.

    Args:
        model: the shape of the trials.
        device: a PyTorch device name.
    """
    from celltune.models.native import library as native

    cell = CELLS.load(model.cell).from_config(model)
    if cell.loop is None:
        return False
    return not (_is_cpu(device) and cell.native is not None and native.available())


def packing_is_faster(model: ModelConfig, device: str) -> bool:
    """Return whether packed trials take less time than the same trials one after the other.

    On a GPU a small network leaves most of the processor idle. On a CPU the measurements of
    `benchmarks/packed.py` decide.

    Args:
        model: the shape of the trials.
        device: a PyTorch device name.
    """
    if _is_cpu(device) and model.hidden_size > FASTER_UP_TO_HIDDEN:
        return False
    return runs_batched(model, device)


def _is_cpu(device: str) -> bool:
    return device.partition(":")[0] == "cpu"
