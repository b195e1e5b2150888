"""One recurrent layer over a padded batch, forward and backward written by hand.

Shapes: T time, S step (= T), B batch, I input features, H hidden, D directions (1 or 2),
P rows of an input projection (a multiple of H), R rows of a recurrent product.

Activations are *feature-major*, ``(..., H, B)``: the rows of one gate are then one contiguous
block, so that a step of the loop is a handful of long vector operations.

How both directions share a product: direction 1 is fed the time-flipped input, so that step ``s``
stands at time ``s`` in direction 0 and at ``T - 1 - s`` in direction 1, and every step is one
batched product over D.

How padding is kept out without a mask in the loop: in direction 0 the padding comes last, and
nothing reads what is computed there. In direction 1 it comes first, where the state is still zero;
there one block of the projection is overwritten with a value that holds the state at exactly zero
(an update gate that is shut, for instance). Such a step adds exactly nothing to any gradient.

How the bias is added: the state carries one more row that is 1 (0 where direction 1 holds its
state), so the recurrent weights carry the bias as one more column and no extra pass is needed.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SHUT = 1e4
"""A logit whose sigmoid is exactly 1 (and exactly 0 when negated) in float32 and float64."""


class Hold(NamedTuple):
    """What keeps a zero state at zero: ``value`` written over one block of the projection."""

    block: int
    value: float


class StepLoop(Protocol):
    """The recurrence of one cell, without its input projection.

    Invariants: ``forward`` reads ``hidden[:, 0]`` and the last row of every step, fills the other
    rows of ``hidden[:, 1:]`` and changes nothing else; ``backward`` changes none of its arguments.
    Implementations keep no state, so one object serves every layer and thread.
    """

    blocks: int
    """P / H: blocks of rows in the input projection."""
    hold: Hold
    """How padding before the first token leaves the state at zero."""
    unbounded: bool
    """Whether states may grow beyond every bound where nothing is read."""

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Run all steps.

        Args:
            projected: (D, S, P, B), the input projection in step order.
            hidden: (D, S + 1, H + 1, B), to be filled from step 1 on.
            weights: recurrent weights, each (D, R, H + 1), the bias as last column.

        Returns:
            What ``backward`` needs.
        """
        ...

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run all steps back.

        Args:
            grad: (D, S, H, B), the gradient of each step's output.
            hidden: as ``forward`` left it.
            saved: what ``forward`` returned.
            weights: as given to ``forward``.

        Returns:
            The gradients of ``projected`` (D, S, P, B) and of each weight (D, R, H + 1).
        """
        ...


def outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """Sum over steps of ``left @ right.T``: a weight's gradient in one call a direction.

    Args:
        left: (D, S, R, B).
        right: (D, S, K, B).

    Returns:
        (D, R, K).
    """
    total = left.new_zeros(left.shape[0], left.shape[2], right.shape[2])
    for direction in range(left.shape[0]):
        total[direction].addbmm_(left[direction], right[direction].transpose(1, 2))
    return total


def run_layer(
    loop: StepLoop,
    inputs: Tensor,
    real: Tensor | None,
    input_weight: Tensor,
    input_bias: Tensor | None,
    weights: tuple[Tensor, ...],
) -> Tensor:
    """Run one recurrent layer, in one or both directions, from a zero state.

    Args:
        loop: the cell's recurrence.
        inputs: (T, I, B); a transposed view of (T, B, I) is as good.
        real: (T, 1, B) bool, False at padding (which comes last); None if nothing is padded.
        input_weight: (D, P, I).
        input_bias: (D, Q), added to the first Q <= P rows of the projection, or None.
        weights: recurrent weights of the loop, each (D, R, H + 1).

    Returns:
        (T, D * H, B): the states in time order. Values at padding mean nothing. Treat the result
        as read-only: it may share memory with what the backward pass needs.
    """
    output: Tensor = _RecurrentLayer.apply(  # type: ignore[no-untyped-call]
        loop, inputs, real, input_weight, input_bias, *weights
    )
    return output


class _RecurrentLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        loop: StepLoop,
        inputs: Tensor,
        real: Tensor | None,
        input_weight: Tensor,
        input_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        padding = None if real is None else ~real.flip(0)  # (S, 1, B) in the steps of direction 1
        projected = _project(inputs, input_weight, input_bias)
        size = projected.shape[2] // loop.blocks
        if padding is not None and len(projected) == 2:
            rows = slice(loop.hold.block * size, (loop.hold.block + 1) * size)
            projected[1, :, rows].masked_fill_(padding, loop.hold.value)
        hidden = _zero_state(projected, size, padding)
        saved = loop.forward(projected, hidden, weights)
        if real is not None and loop.unbounded:
            # Infinity times a gradient of zero isn't zero.
            hidden[0, 1:, :size].masked_fill_(~real, 0)
        ctx.loop, ctx.padding, ctx.counts = loop, padding, (len(weights), input_bias)
        ctx.save_for_backward(inputs, input_weight, hidden, *weights, *saved)
        return _time_order(hidden[:, 1:, :size])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weight, hidden, *rest = ctx.saved_tensors
        count, input_bias = ctx.counts
        weights, saved = tuple(rest[:count]), tuple(rest[count:])
        grad = _step_order(grad_output, len(hidden))
        grad_projected, grad_weights = ctx.loop.backward(grad, hidden, saved, weights)
        if ctx.padding is not None and len(hidden) == 2 and ctx.loop.hold.value == 0:
            # A tanh cell is held by its value, not by a gate: its slope there is 1, not 0.
            grad_projected[1].masked_fill_(ctx.padding, 0)
        grad_input_weight = torch.stack(
            [
                torch.addbmm(weight.new_zeros(()), part, steps.transpose(1, 2), beta=0)
                for weight, part, steps in zip(
                    input_weight, grad_projected, _both_ways(inputs, len(hidden)), strict=True
                )
            ]
        )
        grad_bias = None
        if input_bias is not None:
            grad_bias = grad_projected[:, :, : input_bias.shape[1]].sum((1, 3))
        grad_inputs = None
        if ctx.needs_input_grad[1]:
            grad_inputs = _project_back(grad_projected, input_weight, batch_major=_is_view(inputs))
        return None, grad_inputs, None, grad_input_weight, grad_bias, *grad_weights


def _is_view(inputs: Tensor) -> bool:
    """Whether (T, I, B) is a transposed view of memory that lies as (T, B, I)."""
    return inputs.stride(1) == 1 and inputs.stride(2) != 1


def _flip_time(inputs: Tensor) -> Tensor:
    """The same values with time backwards, in the same memory layout."""
    if _is_view(inputs):
        return inputs.transpose(1, 2).flip(0).transpose(1, 2)
    return inputs.flip(0)


def _both_ways(inputs: Tensor, directions: int) -> list[Tensor]:
    return [inputs] if directions == 1 else [inputs, _flip_time(inputs)]


def _project(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """All steps' input products at once: (T, I, B) -> (D, S, P, B)."""
    steps, _, batch = inputs.shape
    directions, rows, columns = weight.shape
    projected = inputs.new_empty(directions, steps, rows, batch)
    for direction, ordered in enumerate(_both_ways(inputs, directions)):
        shared = weight[direction].expand(steps, rows, columns)
        torch.bmm(shared, ordered, out=projected[direction])
    if bias is not None:
        projected[:, :, : bias.shape[1]] += bias[:, None, :, None]
    return projected


def _project_back(grad_projected: Tensor, weight: Tensor, *, batch_major: bool) -> Tensor:
    """The inputs' gradient: (D, S, P, B) -> (T, I, B), laid out as the inputs were."""
    steps = grad_projected.shape[1]
    total: Tensor | None = None
    for direction, part in enumerate(grad_projected):
        shared = weight[direction].expand(steps, *weight.shape[1:])  # (S, P, I)
        if batch_major:
            one = torch.bmm(part.transpose(1, 2), shared)  # (S, B, I)
        else:
            one = torch.bmm(shared.transpose(1, 2), part)  # (S, I, B)
        total = one if total is None else total.add_(one.flip(0))
    if total is None:
        raise ValueError("A recurrent layer needs 1 or 2 directions, got 0.")
    return total.transpose(1, 2) if batch_major else total


def _zero_state(projected: Tensor, size: int, padding: Tensor | None) -> Tensor:
    """Room for all states (D, S + 1, H + 1, B): step 0 is zero, the last row carries the bias."""
    directions, steps, _, batch = projected.shape
    hidden = projected.new_empty(directions, steps + 1, size + 1, batch)
    hidden[:, 0] = 0
    hidden[:, :, size] = 1
    if padding is not None and directions == 2:
        hidden[1, :-1, size].masked_fill_(padding[:, 0], 0)
    return hidden


def _time_order(states: Tensor) -> Tensor:
    """(D, S, H, B) in step order -> (T, D * H, B) in time order."""
    if len(states) == 1:
        return states[0]
    return torch.cat([states[0], states[1].flip(0)], dim=1)


def _step_order(grad: Tensor, directions: int) -> Tensor:
    """(T, D * H, B) in time order -> (D, S, H, B) in step order."""
    if directions == 1:
        return grad.unsqueeze(0)
    ahead, back = grad.chunk(2, dim=1)
    return torch.stack([ahead, back.flip(0)])
