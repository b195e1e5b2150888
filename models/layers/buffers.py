"""A pool of temporary buffers that are reused from step to step.

The activations of a layer take tens of megabytes for one training step. The operating system
clears memory page by page when it hands it out, which took 11 to 17 % of a training step.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_FREE_BUFFERS = 32
"""Free buffers that the pool retains. A stack of layers uses four per layer."""


class BufferPool:
    """Flat tensors on the CPU that can be borrowed and returned. Thread-safe.

    Invariant: a buffer is either free or borrowed. When it is returned, no views of it are in use.
    """

    def __init__(self) -> None:
        """Create an empty pool."""
        self._free: list[Tensor] = []
        self._lock = threading.Lock()

    def borrow(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return a flat tensor of at least `count` uninitialized values."""
        with self._lock:
            same_type = [buffer for buffer in self._free if buffer.dtype == dtype]
            large_enough = [buffer for buffer in same_type if buffer.numel() >= count]
            if large_enough:
                smallest = min(large_enough, key=Tensor.numel)
                self._remove(smallest)
                return smallest
            if same_type:
                # Drop the largest buffer, which the new one replaces: batches differ in length,
                # and the pool should converge to buffers for the longest.
                self._remove(max(same_type, key=Tensor.numel))
        with torch.inference_mode(False):
            return torch.empty(count, dtype=dtype)

    def give_back(self, buffers: Sequence[Tensor]) -> None:
        """Return buffers to the pool; those beyond `MAX_FREE_BUFFERS` are freed."""
        with self._lock:
            self._free.extend(buffers)
            del self._free[:-MAX_FREE_BUFFERS]

    def _remove(self, chosen: Tensor) -> None:
        self._free = [buffer for buffer in self._free if buffer is not chosen]


POOL = BufferPool()
"""The pool of this process, shared by the layers of all models."""


class BorrowedBuffers:
    """Buffers for one purpose, returned to the pool by `close` or when the object is deleted."""

    def __init__(self, dtype: torch.dtype, pool: BufferPool = POOL) -> None:
        """Start without buffers.

        Args:
            dtype: the type of all buffers.
            pool: the pool to borrow from.
        """
        self._dtype, self._pool = dtype, pool
        self._borrowed: list[Tensor] = []

    def borrow(self, *shape: int) -> Tensor:
        """Borrow a contiguous, uninitialized tensor of this shape."""
        count = 1
        for size in shape:
            count *= size
        flat = self._pool.borrow(count, self._dtype)
        self._borrowed.append(flat)
        return flat[:count].view(shape)

    def close(self) -> None:
        """Return all buffers to the pool. The tensors from `borrow` must not be used afterwards."""
        borrowed, self._borrowed = self._borrowed, []
        self._pool.give_back(borrowed)

    def __del__(self) -> None:
        """Return the buffers of an autograd graph that never ran its backward pass."""
        self.close()
