"""Work buffers that are used again.

A layer's activations are tens of megabytes that live for one step. Memory that is fetched from the
operating system and given back at every step has to be zeroed by it page by page, which took 11 to
17 % of a training step.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

KEPT = 32
"""How many free buffers are kept; a stack of layers uses four a layer."""


class BufferPool:
    """Flat tensors on the CPU, lent and given back. Safe to use from several threads.

    Invariant: a buffer is in the pool or lent, never both, and nobody but the ``Room`` that
    borrowed it holds a view of it when it comes back.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._free: list[Tensor] = []
        self._lock = threading.Lock()

    def borrow(self, count: int, dtype: torch.dtype) -> Tensor:
        """Lend a flat tensor of at least ``count`` values, whatever stands in them."""
        with self._lock:
            mine = [buffer for buffer in self._free if buffer.dtype == dtype]
            fitting = [buffer for buffer in mine if buffer.numel() >= count]
            if fitting:
                chosen = min(fitting, key=Tensor.numel)
                self._drop(chosen)
                return chosen
            if mine:
                # Batches differ in length: so the pool comes to hold the longest ones' buffers.
                self._drop(max(mine, key=Tensor.numel))
        with torch.inference_mode(False):
            return torch.empty(count, dtype=dtype)

    def give_back(self, buffers: Sequence[Tensor]) -> None:
        """Take buffers back; beyond ``KEPT``, memory is freed."""
        with self._lock:
            self._free.extend(buffers)
            del self._free[:-KEPT]

    def free_bytes(self) -> int:
        """The bytes that wait for their next use."""
        with self._lock:
            return sum(buffer.nbytes for buffer in self._free)

    def _drop(self, chosen: Tensor) -> None:
        self._free = [buffer for buffer in self._free if buffer is not chosen]


POOL = BufferPool()
"""The process's own: layers of all models share it."""


class BorrowedBuffers:
    """The buffers of one use: gives them back when it is closed or forgotten."""

    def __init__(self, dtype: torch.dtype, pool: BufferPool = POOL) -> None:
        """Start with nothing borrowed.

        Args:
            dtype: of all buffers.
            pool: where they come from.
        """
        self._dtype, self._pool = dtype, pool
        self._lent: list[Tensor] = []

    def take(self, *shape: int) -> Tensor:
        """Borrow a contiguous tensor of this shape, whatever stands in it."""
        count = 1
        for size in shape:
            count *= size
        flat = self._pool.borrow(count, self._dtype)
        self._lent.append(flat)
        return flat[:count].view(shape)

    def close(self) -> None:
        """Give everything back; what was taken must not be used any more."""
        lent, self._lent = self._lent, []
        self._pool.give_back(lent)

    def __del__(self) -> None:
        """Give back what a graph that was thrown away had borrowed."""
        self.close()
