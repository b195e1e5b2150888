"""One recurrent layer on the native loops: projections and weights' gradients by torch's products.

Shapes: T time, B batch (a multiple of 16 inside), I input features, H hidden, D directions (1, 2),
P rows of an input projection, R rows of a recurrent product.

As ``models.kernels``, but everything stands in time order: direction 1 walks backwards, so nothing
is flipped. Padding and the bias are dealt with in the same way. All that lives between forward
and backward lies in buffers that are used again (``models.buffers``); only the output is new.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from celltune.models.layers.buffers import BorrowedBuffers
from celltune.models.layers.loop_layer import Hold
from celltune.models.native import library as native


class NativeCell(NamedTuple):
    """What ``loops.cpp`` has to know about a cell."""

    code: int
    """Its place in the enum there."""
    blocks: int
    """P / H."""
    given: int
    """Blocks of gradients that come back: those of the projection, and for gru that of q."""
    gated: bool
    """Whether a second product takes a gated state."""
    saves: bool
    """Whether more than the activations has to be kept."""


NATIVE = {
    "rnn": NativeCell(0, 1, 1, gated=False, saves=False),
    "rnn_relu": NativeCell(1, 1, 1, gated=False, saves=False),
    "lstm": NativeCell(2, 4, 4, gated=False, saves=True),
    "gru": NativeCell(3, 3, 4, gated=False, saves=True),
    "gru_reset_before": NativeCell(4, 3, 3, gated=True, saves=True),
    "mgu": NativeCell(5, 2, 2, gated=True, saves=True),
}
"""By the name of the recurrence."""

_TENSORS = (
    "work", "hidden", "saved", "output", "weight", "second", "bias", "grad", "result", "bias_grad",
)  # fmt: skip
_NUMBERS = ("cell", "directions", "steps", "size", "batch", "panel", "threads")

_SUM_NUMBERS = (
    "steps", "rows", "columns", "width", "batch", "threads",
    "left_step", "right_step", "right_batch", "right_column",
)  # fmt: skip


class _Job(ctypes.Structure):
    """``Job`` of ``loops.cpp``, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _TENSORS),
    )


class _Sums(ctypes.Structure):
    """``Sums`` of ``sums.cpp``, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _SUM_NUMBERS),
        *((name, ctypes.c_void_p) for name in ("left", "right", "out")),
    )


def run_native_layer(
    cell: NativeCell,
    hold: Hold,
    inputs: Tensor,
    real: Tensor | None,
    input_weight: Tensor,
    input_bias: Tensor | None,
    weights: tuple[Tensor, ...],
) -> Tensor:
    """Run one recurrent layer, in one or both directions, from a zero state.

    Args:
        cell: which recurrence.
        hold: how padding before the first token leaves the state at zero.
        inputs: (T, I, B), on the CPU; a transposed view of (T, B, I) is as good.
        real: (T, 1, B) bool, False at padding (which comes last); None if nothing is padded.
        input_weight: (D, P, I).
        input_bias: (D, H), of the first block of the projection, or None.
        weights: recurrent weights, each (D, R, H + 1), the bias as last column.

    Returns:
        (T, D * H, B): the states in time order. Values at padding mean nothing.

    Raises:
        MemoryError: there is no room for a panel's scratch.
    """
    batch = inputs.shape[2]
    missing = -batch % native.COLUMNS
    if missing:
        # Columns of zeros: read as text, thrown away, and their gradients are zeros again.
        inputs = functional.pad(inputs, (0, missing))
        unbounded = cell == NATIVE["rnn_relu"]
        if real is None and unbounded:
            real = inputs.new_ones(len(inputs), 1, batch, dtype=torch.bool)
        real = None if real is None else functional.pad(real, (0, missing), value=not unbounded)
    states: Tensor = _NativeLayer.apply(  # type: ignore[no-untyped-call]
        cell, hold, inputs, real, input_weight, input_bias, *weights
    )
    return states[:, :, :batch] if missing else states


class _NativeLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: NativeCell,
        hold: Hold,
        inputs: Tensor,
        real: Tensor | None,
        input_weight: Tensor,
        input_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        steps, _, batch = inputs.shape
        directions, rows, _ = input_weight.shape
        size = rows // cell.blocks
        padding = None if real is None else ~real
        room = BorrowedBuffers(inputs.dtype)
        work = room.take(directions, steps, rows, batch)
        for weight, part in zip(input_weight, work, strict=True):
            torch.bmm(weight.expand(steps, *weight.shape), inputs, out=part)
        if padding is not None and directions == 2:
            held = slice(hold.block * size, (hold.block + 1) * size)
            work[1, :, held].masked_fill_(padding, hold.value)
        hidden = _zero_state(room, work, size, padding)
        # A gated state has the row of ones below it, as a state has.
        saved = room.take(directions, steps, size + cell.gated, batch) if cell.saves else None
        output = inputs.new_empty(steps, directions * size, batch)
        tensors = {
            "work": work,
            "hidden": hidden,
            "saved": saved,
            "output": output,
            "bias": input_bias,
        }
        _run("forward", cell, size, {**tensors, **_weights(weights)})
        if padding is not None and cell == NATIVE["rnn_relu"]:
            # Its states have no bound, and infinity times a gradient of zero isn't zero.
            hidden[0, 1:, :size].masked_fill_(padding, 0)
            output[:, :size].masked_fill_(padding, 0)
        if any(ctx.needs_input_grad):
            ctx.cell, ctx.hold, ctx.padding, ctx.room = cell, hold, padding, room
            ctx.buffers, ctx.count = (work, hidden, saved), len(weights)
            ctx.has_bias = input_bias is not None
            ctx.save_for_backward(inputs, input_weight, *weights)
        else:
            room.close()
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weight, *weights = ctx.saved_tensors
        work, hidden, saved = ctx.buffers
        cell, rows = ctx.cell, input_weight.shape[1]
        size = rows // cell.blocks
        directions, steps, _, batch = hidden.shape
        steps -= 1
        room = BorrowedBuffers(inputs.dtype)
        result = room.take(directions, steps, cell.given * size, batch)
        bias_grad = inputs.new_zeros(directions, size, batch) if ctx.has_bias else None
        back = [weight[:, :, :-1].transpose(1, 2).contiguous() for weight in weights]
        tensors = {"work": work, "hidden": hidden, "saved": saved, "result": result}
        grads = {"grad": grad_output.contiguous(), "bias_grad": bias_grad}
        _run("backward", cell, size, {**tensors, **grads, **_weights(back)})
        if ctx.padding is not None and directions == 2 and ctx.hold.value == 0:
            # A tanh cell is held by its value, not by a gate: its slope there is 1, not 0.
            result[1].masked_fill_(ctx.padding, 0)
        projected = result[:, :, :rows]
        grad_input_weight = _outer_sums(projected, [inputs] * directions)
        grad_inputs = _input_grad(projected, input_weight) if ctx.needs_input_grad[2] else None
        grad_weights = _recurrent_grads(cell, size, result, hidden, saved)
        grad_bias = None if bias_grad is None else bias_grad.sum(2)
        room.close()
        return None, None, grad_inputs, None, grad_input_weight, grad_bias, *grad_weights


def _weights(weights: list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(("weight", "second"), weights, strict=False))


def _zero_state(room: BorrowedBuffers, work: Tensor, size: int, padding: Tensor | None) -> Tensor:
    """Room for all states (D, T + 1, H + 1, B): zero at the start, ones in the bias row."""
    directions, steps, _, batch = work.shape
    hidden = room.take(directions, steps + 1, size + 1, batch)
    hidden[0, 0] = 0
    hidden[-1, -1 if directions == 2 else 0] = 0
    hidden[:, :, size] = 1
    if padding is not None and directions == 2:
        hidden[1, 1:, size].masked_fill_(padding[:, 0], 0)
    return hidden


def _run(name: str, cell: NativeCell, size: int, tensors: dict[str, Tensor | None]) -> None:
    hidden = tensors["hidden"]
    if hidden is None:
        raise ValueError(f"The native {name} pass needs its states; they are missing.")
    directions, steps, _, batch = hidden.shape
    threads = torch.get_num_threads()
    kept = {key: value.contiguous() for key, value in tensors.items() if value is not None}
    job = _Job(
        cell.code, directions, steps - 1, size, batch, _panel(directions, batch, threads), threads
    )
    for key, value in kept.items():
        setattr(job, key, value.data_ptr())
    if native.function(name, hidden.dtype)(ctypes.byref(job)) != 0:
        raise MemoryError(
            f"The {name} pass of a recurrent layer got no memory for its scratch "
            f"(hidden_size {size}, batch {batch}). Take a smaller batch_size or hidden_size."
        )


def _panel(directions: int, batch: int, threads: int) -> int:
    """Columns of a panel: up to 64, few enough that every thread has one."""
    width = 4 * native.COLUMNS
    while width > native.COLUMNS and directions * -(-batch // width) < threads:
        width //= 2
    return width


def _outer_sums(left: Tensor, right: list[Tensor]) -> Tensor:
    """Sum over steps of ``left @ right.T``: (D, T, R, B), D times (T, K, B) -> (D, R, K).

    One small product a step, as torch does it, is as good as ours in one thread, and better where
    K isn't a multiple of 16; but its threads meet after every step.
    """
    if torch.get_num_threads() == 1:
        zero = left.new_zeros(())
        pairs = zip(left, right, strict=True)
        return torch.stack([torch.addbmm(zero, a, b.transpose(1, 2), beta=0) for a, b in pairs])
    directions, _, rows, batch = left.shape
    columns = right[0].shape[1]
    width = -(-columns // native.COLUMNS) * native.COLUMNS
    total = left.new_zeros(directions, rows, width)
    for part, other, out in zip(left, right, total, strict=True):
        numbers = (len(part), rows, columns, width, batch, torch.get_num_threads())
        strides = (part.stride(0), other.stride(0), other.stride(2), other.stride(1))
        pointers = (part.data_ptr(), other.data_ptr(), out.data_ptr())
        job = _Sums(*numbers, *strides, *pointers)
        if native.function("sums", left.dtype)(ctypes.byref(job)) != 0:
            raise MemoryError(
                f"A weight's gradient of {rows} x {columns} got no memory for its scratch "
                f"(batch {batch}). Take a smaller batch_size or hidden_size."
            )
    return total[:, :, :columns]


def _recurrent_grads(
    cell: NativeCell, size: int, result: Tensor, hidden: Tensor, saved: Tensor | None
) -> tuple[Tensor, ...]:
    before = [hidden[0, :-1], *hidden[1:, 1:]]
    if cell.gated and saved is not None:
        gates, new = result[:, :, :-size], result[:, :, -size:]
        return _outer_sums(gates, before), _outer_sums(new, list(saved))
    skipped = (cell.given - cell.blocks) * size
    return (_outer_sums(result[:, :, skipped:], before),)


def _input_grad(projected: Tensor, weight: Tensor) -> Tensor:
    """(D, T, P, B) and (D, P, I) -> (T, I, B), laid out as (T, B, I)."""
    steps = projected.shape[1]
    shared = [part.expand(steps, *part.shape) for part in weight]
    total = torch.bmm(projected[0].transpose(1, 2), shared[0])
    for part, other in zip(projected[1:], shared[1:], strict=True):
        total.baddbmm_(part.transpose(1, 2), other)
    return total.transpose(1, 2)
