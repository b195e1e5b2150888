"""A recurrent layer on the C++ loops; input projections and weight gradients are matrix products.

Shapes: T time, B batch (a multiple of 16 inside), I input features, H hidden, D directions (1, 2),
P rows of an input projection, R rows of a recurrent product.

Equivalent to `loop_layer`, but everything is in time order: direction 1 runs from the last step to
the first, so nothing is flipped. Padding and bias are handled in the same way. Tensors that live
from the forward to the backward pass are borrowed from a buffer pool (`buffers`); only the output
is newly allocated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from celltune.models.layers.base import LoopWeights, NativeCell, StepLoop
from celltune.models.layers.buffers import BorrowedBuffers
from celltune.models.native import library as native

_TENSORS = (
    "work", "hidden", "saved", "output", "weight", "second", "bias", "grad", "result", "bias_grad",
)  # fmt: skip
_NUMBERS = ("cell", "directions", "steps", "size", "batch", "panel", "threads")

_SUM_NUMBERS = (
    "steps", "rows", "columns", "width", "batch", "threads",
    "left_step", "right_step", "right_batch", "right_column",
)  # fmt: skip


class _Job(ctypes.Structure):
    """The struct `Job` of `loops.cpp`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _TENSORS),
    )


class _Sums(ctypes.Structure):
    """The struct `Sums` of `sums.cpp`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _SUM_NUMBERS),
        *((name, ctypes.c_void_p) for name in ("left", "right", "out")),
    )


def run_native_layer(
    cell: NativeCell, loop: StepLoop, inputs: Tensor, mask: Tensor | None, weights: LoopWeights
) -> Tensor:
    """Run one recurrent layer, in one or both directions, from a zero state.

    Args:
        cell: the C++ implementation of `loop`.
        loop: the recurrence of the cell.
        inputs: (T, I, B) on the CPU, contiguous or a transposed view of (T, B, I).
        mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: as arranged by `loop`.

    Returns:
        (T, D * H, B), the states in time order. Values at padding are unspecified.

    Raises:
        MemoryError: the temporary memory of the loops cannot be allocated.
    """
    batch = inputs.shape[2]
    missing = -batch % native.BATCH_MULTIPLE
    if missing:
        # The additional columns are zero, their states are dropped, and so their gradients are
        # zero. Unbounded states are masked like padding, because they may become infinite.
        inputs = functional.pad(inputs, (0, missing))
        if mask is None and loop.unbounded:
            mask = inputs.new_ones(len(inputs), 1, batch, dtype=torch.bool)
        if mask is not None:
            mask = functional.pad(mask, (0, missing), value=not loop.unbounded)
    states: Tensor = _NativeLayer.apply(  # type: ignore[no-untyped-call]
        _Kind(cell, loop, batch == 1),
        inputs,
        mask,
        weights.input_weight,
        weights.input_bias,
        *weights.recurrent,
    )
    return states[:, :, :batch] if missing else states


class _Kind(NamedTuple):
    """What the two passes of a layer have in common, except for tensors."""

    cell: NativeCell
    loop: StepLoop
    single: bool
    """True for a batch of one document, of which the other columns are zero."""


class _NativeLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kind: _Kind,
        inputs: Tensor,
        mask: Tensor | None,
        input_weight: Tensor,
        input_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        cell, loop, single = kind
        steps, _, batch = inputs.shape
        directions, rows, _ = input_weight.shape
        size = rows // loop.blocks
        padding = None if mask is None else ~mask
        buffers = BorrowedBuffers(inputs.dtype)
        work = buffers.borrow(directions, steps, rows, batch)
        for weight, projection in zip(input_weight, work, strict=True):
            if single:
                projection.zero_()[:, :, 0] = inputs[:, :, 0] @ weight.T
            else:
                torch.bmm(weight.expand(steps, *weight.shape), inputs, out=projection)
        if padding is not None and directions == 2:
            block, value = loop.padding_input
            work[1, :, block * size : (block + 1) * size].masked_fill_(padding, value)
        hidden = _zero_state(buffers, work, size, padding)
        # Like a state, a gated state is followed by a row of ones.
        saved_rows = size + cell.two_products
        saved = buffers.borrow(directions, steps, saved_rows, batch) if cell.saves_values else None
        output = inputs.new_empty(steps, directions * size, batch)
        tensors = {
            "work": work,
            "hidden": hidden,
            "saved": saved,
            "output": output,
            "bias": input_bias,
        }
        _run("forward", cell, size, {**tensors, **_weights(weights)})
        if padding is not None and loop.unbounded:
            # States at padding may be infinite, and infinity times a zero gradient is NaN.
            hidden[0, 1:, :size].masked_fill_(padding, 0)
            output[:, :size].masked_fill_(padding, 0)
        if any(ctx.needs_input_grad):
            ctx.kind, ctx.padding, ctx.buffers = kind, padding, buffers
            ctx.values = (work, hidden, saved)
            ctx.has_bias = input_bias is not None
            ctx.save_for_backward(inputs, input_weight, *weights)
        else:
            buffers.close()
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weight, *weights = ctx.saved_tensors
        work, hidden, saved = ctx.values
        (cell, loop, single), rows = ctx.kind, input_weight.shape[1]
        size = rows // loop.blocks
        directions, steps, _, batch = hidden.shape
        steps -= 1
        buffers = BorrowedBuffers(inputs.dtype)
        result = buffers.borrow(directions, steps, cell.gradient_blocks * size, batch)
        bias_grad = inputs.new_zeros(directions, size, batch) if ctx.has_bias else None
        back = [weight[:, :, :-1].transpose(1, 2).contiguous() for weight in weights]
        tensors = {"work": work, "hidden": hidden, "saved": saved, "result": result}
        grads = {"grad": grad_output.contiguous(), "bias_grad": bias_grad}
        _run("backward", cell, size, {**tensors, **grads, **_weights(back)})
        if ctx.padding is not None and directions == 2 and loop.padding_input.value == 0:
            # Without a gate, the slope of the activation at padding is 1 (tanh), not 0.
            result[1].masked_fill_(ctx.padding, 0)
        projected = result[:, :, :rows]
        sums = _outer_sums_of_one_document if single else _outer_sums
        grad_input_weight = sums(projected, [inputs] * directions)
        grad_inputs = _input_grad(projected, input_weight) if ctx.needs_input_grad[1] else None
        grad_weights = _recurrent_grads(cell, loop, result, hidden, saved, sums)
        grad_bias = None if bias_grad is None else bias_grad.sum(2)
        buffers.close()
        return None, grad_inputs, None, grad_input_weight, grad_bias, *grad_weights


def _weights(weights: list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(("weight", "second"), weights, strict=False))


def _zero_state(
    buffers: BorrowedBuffers, work: Tensor, size: int, padding: Tensor | None
) -> Tensor:
    """Borrow all states (D, T + 1, H + 1, B) with a zero initial state and the bias row."""
    directions, steps, _, batch = work.shape
    hidden = buffers.borrow(directions, steps + 1, size + 1, batch)
    hidden[0, 0] = 0
    hidden[-1, -1 if directions == 2 else 0] = 0
    hidden[:, :, size] = 1
    if padding is not None and directions == 2:
        hidden[1, 1:, size].masked_fill_(padding[:, 0], 0)
    return hidden


def _run(name: str, cell: NativeCell, size: int, tensors: dict[str, Tensor | None]) -> None:
    """Call the native function `name` ("forward" or "backward")."""
    hidden = tensors["hidden"]
    if hidden is None:
        raise ValueError(f"The native {name} pass needs 'hidden'; it is missing.")
    directions, steps, _, batch = hidden.shape
    threads = torch.get_num_threads()
    given = {key: value.contiguous() for key, value in tensors.items() if value is not None}
    job = _Job(
        cell.recurrence,
        directions,
        steps - 1,
        size,
        batch,
        _panel(directions, batch, threads),
        threads,
    )
    for key, value in given.items():
        setattr(job, key, value.data_ptr())
    if native.function(name, hidden.dtype)(ctypes.byref(job)) != 0:
        raise MemoryError(
            f"The {name} pass of a recurrent layer (hidden_size {size}, batch {batch}) cannot "
            "allocate its temporary memory. Reduce batch_size or hidden_size."
        )


def _panel(directions: int, batch: int, threads: int) -> int:
    """Return the columns of a panel: at most 64, and few enough that every thread gets a panel."""
    width = 4 * native.BATCH_MULTIPLE
    while width > native.BATCH_MULTIPLE and directions * -(-batch // width) < threads:
        width //= 2
    return width


def _outer_sums(left: Tensor, right: list[Tensor]) -> Tensor:
    """Return the sum over steps of `left @ right.T`: (D, T, R, B), D times (T, K, B) -> (D, R, K).

    With one thread, the batched product of PyTorch is as fast as the native function, and faster
    if K is not a multiple of 16. With more threads it synchronizes them after every step.
    """
    if torch.get_num_threads() == 1:
        zero = left.new_zeros(())
        pairs = zip(left, right, strict=True)
        return torch.stack([torch.addbmm(zero, a, b.transpose(1, 2), beta=0) for a, b in pairs])
    directions, _, rows, batch = left.shape
    columns = right[0].shape[1]
    width = -(-columns // native.BATCH_MULTIPLE) * native.BATCH_MULTIPLE
    total = left.new_zeros(directions, rows, width)
    for a, b, out in zip(left, right, total, strict=True):
        numbers = (len(a), rows, columns, width, batch, torch.get_num_threads())
        strides = (a.stride(0), b.stride(0), b.stride(2), b.stride(1))
        pointers = (a.data_ptr(), b.data_ptr(), out.data_ptr())
        job = _Sums(*numbers, *strides, *pointers)
        if native.function("sums", left.dtype)(ctypes.byref(job)) != 0:
            raise MemoryError(
                f"The gradient of a weight of {rows} x {columns} (batch {batch}) cannot allocate "
                "its temporary memory. Reduce batch_size or hidden_size."
            )
    return total[:, :, :columns]


def _outer_sums_of_one_document(left: Tensor, right: list[Tensor]) -> Tensor:
    """Return the same as `_outer_sums` if all columns but the first are zero.

    This is one product over all steps, because products of single columns are slow.
    """
    pairs = zip(left, right, strict=True)
    return torch.stack([a[:, :, 0].T @ b[:, :, 0] for a, b in pairs])


def _recurrent_grads(
    cell: NativeCell,
    loop: StepLoop,
    result: Tensor,
    hidden: Tensor,
    saved: Tensor | None,
    sums: Callable[[Tensor, list[Tensor]], Tensor],
) -> tuple[Tensor, ...]:
    """Return the gradients of the recurrent weights; `sums` adds products over the steps."""
    size = result.shape[2] // cell.gradient_blocks
    previous = [hidden[0, :-1], *hidden[1:, 1:]]
    if cell.two_products and saved is not None:
        gates, new = result[:, :, :-size], result[:, :, -size:]
        return sums(gates, previous), sums(new, list(saved))
    skipped = (cell.gradient_blocks - loop.blocks) * size
    return (sums(result[:, :, skipped:], previous),)


def _input_grad(projected: Tensor, weight: Tensor) -> Tensor:
    """Compute the gradient of the inputs, (T, I, B) as a view of contiguous (T, B, I)."""
    steps = projected.shape[1]
    weights = [direction.expand(steps, *direction.shape) for direction in weight]
    total = torch.bmm(projected[0].transpose(1, 2), weights[0])
    for grad, shared in zip(projected[1:], weights[1:], strict=True):
        total.baddbmm_(grad.transpose(1, 2), shared)
    return total.transpose(1, 2)
