"""How a kernel stores its weights on the chip, and whether they fit. Does not import Triton.

The driver of a search asks for the GPUs of other machines, so it may lack Triton itself.

Shapes: H hidden.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import torch

from celltune.models.layers.tf32 import float32_products

Mode: TypeAlias = Literal["tf32", "float16", "tf32x3", "float16x3", "ieee"]
"""How products are computed: with 10 bits of mantissa (the first two), as a sum of three such
products with an error close to float32, or in the type of the values."""

WEIGHT_BYTES: dict[Mode, int] = {"tf32": 4, "float16": 2, "tf32x3": 8, "float16x3": 4}
"""Bytes on the chip per weight."""
MIN_HEIGHT = 16
"""The smallest tile of a matrix product on tensor cores."""
SHARED_HEIGHT = 64
"""From this height on, the weights of a gate are in shared memory and not in registers."""
WIDTH = 16
"""Columns of the batch per program. With 32, the values of a step do not fit into the registers."""


class RecurrentWeights(Protocol):
    """What the size of the recurrent weights of a cell depends on in addition to H."""

    @property
    def gates(self) -> int:
        """Recurrent weights of H rows."""

    @property
    def relu(self) -> bool:
        """Whether states are not bounded."""


def product_mode(
    weights: RecurrentWeights, size: int, dtype: torch.dtype, shared_memory: int
) -> Mode | None:
    """Return how to compute products: as PyTorch's settings for a GPU allow and memory permits.

    float16 needs half the memory of TF32, but has a smaller range: it is not used for the unbounded
    states of ReLU. In three products it is as accurate as TF32, because states of the other cells
    are below 1 and gradients are scaled, and faster where the weights are in shared memory.

    Args:
        weights: the recurrent weights of the cell.
        size: H.
        dtype: float32, or float64, which only the interpreter of Triton can process.
        shared_memory: bytes of shared memory that a program can use.

    Returns:
        The mode, or None if the weights do not fit.
    """
    if dtype != torch.float32:
        return "ieee"
    modes: tuple[Mode, ...] = ("tf32x3", "float16x3")
    if float32_products().matmul in ("tf32", True):
        modes = ("tf32", "float16")
    elif padded_height(size) >= SHARED_HEIGHT:
        modes = modes[::-1]
    if weights.relu:
        modes = tuple(mode for mode in modes if not mode.startswith("float16"))
    fitting = [mode for mode in modes if shared_bytes(weights, size, mode) <= shared_memory]
    return fitting[0] if fitting else None


def padded_height(size: int) -> int:
    """Return the rows of the tile of a gate with `size` hidden units: a power of two."""
    return max(MIN_HEIGHT, 1 << (size - 1).bit_length())


def shared_bytes(weights: RecurrentWeights, size: int, mode: Mode) -> int:
    """Return the shared memory of one program: the weights, and values that change their layout.

    Args:
        weights: the recurrent weights of the cell.
        size: H.
        mode: a key of `WEIGHT_BYTES`.
    """
    height = padded_height(size)
    return height * (WEIGHT_BYTES[mode] * weights.gates * height + 16 * WIDTH)
