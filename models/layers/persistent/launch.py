"""`SpanLoop`s that run each pass as one kernel. Importing this module imports Triton.

Shapes: D leading axis (directions, or trials x directions), S steps, P rows of the projection,
R rows of a recurrent weight, H hidden, B batch.

Arguments of the kernels, each tensor followed by its strides: `x` the projection, `h` the states
and the factor of the bias, `v` the saved values, `g` the gradient of the states, `out` the gradient
of the projection; `w` and `u` the first and the second recurrent weight, with the stride of their
leading axis; `spans`, see `SpanLoop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from celltune.models.errors import TrialError
from celltune.models.layers.base import LayerWeights, LoopWeights, StepLoop
from celltune.models.layers.loop_layer import outer_sum
from celltune.models.layers.persistent import (
    gated_kernels,
    gru_kernels,
    lstm_kernels,
    rnn_kernels,
)
from celltune.models.layers.persistent.fitting import (
    MIN_HEIGHT,
    WIDTH,
    Mode,
    padded_height,
    product_mode,
)

H100_SHARED_BYTES = 227 * 1024
"""Shared memory that a program can use on an H100 or H200."""

ALIGNED = 4
"""Strides that are multiples of this allow loads of 16 bytes."""
MOST_VALUES = 2**31 - 1
"""Values of one index of the leading axis, whose addresses have 32 bits."""


@dataclass(frozen=True)
class Kernels:
    """The kernels of a cell and the layout of what they write."""

    forward: Any
    backward: Any
    gates: int
    """Recurrent weights of H rows."""
    saved_blocks: int
    """Blocks of H rows that the forward pass saves for each step."""
    gradient_blocks: int
    """Blocks of H rows in the result of the backward pass. The first ones are those of the
    projection."""
    products: tuple[slice, ...]
    """For each recurrent weight, its blocks in the result of the backward pass."""
    relu: bool = False


@dataclass(frozen=True)
class _Job:
    size: int
    mode: Mode
    relu: bool
    spans: Tensor | None


KERNELS = {
    "rnn_tanh": Kernels(rnn_kernels.forward, rnn_kernels.backward, 1, 0, 1, (slice(0, 1),)),
    "rnn_relu": Kernels(rnn_kernels.forward, rnn_kernels.backward, 1, 0, 1, (slice(0, 1),), True),
    "lstm": Kernels(lstm_kernels.forward, lstm_kernels.backward, 4, 5, 4, (slice(0, 4),)),
    "gru": Kernels(gru_kernels.forward, gru_kernels.backward, 3, 4, 4, (slice(1, 4),)),
    "gru_reset_before": Kernels(
        gated_kernels.gru_forward, gated_kernels.gru_backward, 3, 3, 3, (slice(0, 2), slice(2, 3))
    ),
    "mgu": Kernels(
        gated_kernels.mgu_forward, gated_kernels.mgu_backward, 2, 2, 2, (slice(0, 1), slice(1, 2))
    ),
}
"""For each name of `PersistentName`. The input of a second recurrent weight is the first saved
block times the state."""


class PersistentLoop:
    """A `SpanLoop` on the kernels of a cell. It computes the same as the cell's `loop`."""

    skips_steps: Literal[True] = True

    def __init__(
        self, loop: StepLoop, kernels: Kernels, shared_memory: int = H100_SHARED_BYTES
    ) -> None:
        """Combine a loop and its kernels.

        Args:
            loop: the recurrence on PyTorch operations, which arranges the weights.
            kernels: an entry of `KERNELS`.
            shared_memory: bytes of shared memory that a program can use.
        """
        self._loop, self._kernels, self._shared_memory = loop, kernels, shared_memory
        self.blocks, self.unbounded = loop.blocks, loop.unbounded
        self.padding_input = loop.padding_input

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`."""
        return self._loop.arrange(weights)

    def zero_weights(self, size: int, device: torch.device) -> tuple[Tensor, ...]:
        """Return recurrent weights of the right shapes, each (1, R, H + 1).

        Args:
            size: H.
            device: where to create them.
        """
        blocks = [product.stop - product.start for product in self._kernels.products]
        return tuple(torch.zeros(1, count * size, size + 1, device=device) for count in blocks)

    def forward(
        self,
        projected: Tensor,
        hidden: Tensor,
        weights: tuple[Tensor, ...],
        spans: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """See `SpanLoop.forward`.

        Raises:
            ValueError: the columns of `hidden` are not contiguous.
        """
        if hidden.shape[3] > 1 and hidden.stride(3) != 1:
            raise ValueError(
                "The states (D, S + 1, H + 1, B) of a persistent loop need a stride of 1 in their "
                f"last axis, not {hidden.stride(3)}. Allocate them with this axis innermost."
            )
        directions, steps, rows, batch = projected.shape
        size = rows // self.blocks
        saved = projected.new_empty(directions, steps, self._kernels.saved_blocks * size, batch)
        tensors = (_dense(projected), hidden, saved)
        _launch(self._kernels.forward, tensors, weights, self._job(size, projected.dtype, spans))
        return (saved,) if self._kernels.saved_blocks else ()

    def backward(
        self,
        grad: Tensor,
        hidden: Tensor,
        saved: tuple[Tensor, ...],
        weights: tuple[Tensor, ...],
        spans: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `SpanLoop.backward`."""
        kernels = self._kernels
        directions, steps, size, batch = grad.shape
        # In this order of memory, the weight gradients are matrix products without copies.
        memory = grad.new_empty(directions, kernels.gradient_blocks * size, steps, batch)
        result = memory.transpose(1, 2)
        values = saved[0] if saved else hidden
        job = self._job(size, grad.dtype, spans)
        _launch(kernels.backward, (_dense(grad), hidden, values, result), weights, job)
        factors = [hidden[:, :-1]]
        if len(kernels.products) == 2:
            factors.append(_gated_states(values[:, :, :size], hidden))
        weight_grads = tuple(
            outer_sum(result[:, :, blocks.start * size : blocks.stop * size], factor)
            for blocks, factor in zip(kernels.products, factors, strict=True)
        )
        return result[:, :, : self.blocks * size], weight_grads

    def _job(self, size: int, dtype: torch.dtype, spans: Tensor | None) -> _Job:
        mode = product_mode(self._kernels, size, dtype, self._shared_memory)
        if mode is None:
            raise ValueError(
                f"The recurrent weights for {size} hidden units do not fit into the "
                f"{self._shared_memory} bytes of shared memory of a GPU processor. Run the layer "
                "on another loop."
            )
        return _Job(size, mode, self._kernels.relu, spans)


def _gated_states(gates: Tensor, hidden: Tensor) -> Tensor:
    """Return the gated states with the bias row, (D, S, H + 1, B), in the layout of `outer_sum`."""
    directions, steps, size, batch = gates.shape
    memory = gates.new_empty(directions, size + 1, steps, batch)
    gated = memory.transpose(1, 2)
    torch.mul(gates, hidden[:, :-1, :size], out=gated[:, :, :size])
    gated[:, :, size] = hidden[:, :-1, size]
    return gated


def _dense(values: Tensor) -> Tensor:
    return values if values.stride(3) == 1 else values.contiguous()


def _weight(weight: Tensor) -> Tensor:
    """Return a weight (D, R, H + 1) whose rows follow each other."""
    _, rows, columns = weight.shape
    follows = weight.stride(2) == 1 and (rows == 1 or weight.stride(1) == columns)
    return weight if follows else weight.contiguous()


def _launch(
    kernel: Any,
    tensors: tuple[Tensor, ...],
    weights: tuple[Tensor, ...],
    job: _Job,
) -> None:
    """Run a kernel.

    Args:
        kernel: the kernel of a pass.
        tensors: each (D, steps, rows, B), in the order of the arguments of the kernel.
        weights: one or two recurrent weights.
        job: the other arguments.

    Raises:
        TrialError: the batch is too large.
    """
    first = tensors[0]
    directions, steps, _, batch = first.shape
    if first.numel() == 0:
        return
    _check_size(tensors)
    # The stride of an axis of length 1 is arbitrary.
    strides = [
        tuple(0 if values.shape[axis] == 1 else values.stride(axis) for axis in range(3))
        for values in tensors
    ]
    numbers = [batch, *(stride for group in strides for stride in group)]
    unit = ALIGNED if all(number % ALIGNED == 0 for number in numbers) else 1
    arguments: list[Any] = []
    for values, group in zip(tensors, strides, strict=True):
        arguments += [values, *(stride // unit for stride in group)]
    arranged = [_weight(weight) for weight in weights]
    for weight in (arranged[0], arranged[-1]):
        arguments += [weight, weight.stride(0)]
    height = padded_height(job.size)
    grid = (directions, -(-batch // WIDTH))
    with _on_device(first):
        kernel[grid](
            *arguments,
            first if job.spans is None else job.spans,
            steps,
            job.size,
            batch // unit,
            UNIT=unit,
            HEIGHT=height,
            WIDTH=WIDTH,
            MODE=job.mode,
            HAS_SPANS=job.spans is not None,
            RELU=job.relu,
            num_warps=height // MIN_HEIGHT,
            num_stages=1,
        )


def _check_size(tensors: tuple[Tensor, ...]) -> None:
    largest = max(tensors, key=Tensor.numel)
    values = largest.numel() // len(largest)
    if values > MOST_VALUES:
        _, steps, rows, batch = largest.shape
        raise TrialError(
            f"A batch of {batch} documents has {values:,} values in one direction of a recurrent "
            f"layer ({rows} rows, {steps} steps), but the GPU kernels can address only "
            f"{MOST_VALUES:,}. Decrease batch_size or max_tokens, or set batch_tokens."
        )


def _on_device(values: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(values.device) if values.is_cuda else nullcontext()
