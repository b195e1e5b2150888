"""A recurrent layer over a padded batch, with a hand-written backward pass (`StepLoop`).

Shapes: T time, S step (= T), B batch, I input features, H hidden, D directions (1 or 2),
P rows of an input projection (a multiple of H), R rows of a recurrent product.

Activations are feature-major, (..., H, B). The rows of one gate are one contiguous block, so a
step is a small number of long vector operations.

Directions: direction 1 reads the time-flipped input. Step `s` is time `s` in direction 0 and time
`T - 1 - s` in direction 1, and one batched product per step computes both directions.

Padding: in direction 0 padding comes last, and nothing reads the states that are computed there.
In direction 1 it comes first, while the state is still zero. There, one block of the projection is
overwritten with `StepLoop.padding_input`, which keeps the state at exactly zero (it closes an
update gate, for example). Such a step adds exactly zero to every gradient. No mask is needed in
the loop.

Bias: the state has an additional row that is 1 (0 while direction 1 reads padding), and the
recurrent weights contain the bias as an additional column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from celltune.models.layers.base import LoopWeights, StepLoop

SATURATING_LOGIT = 1e4
"""A logit whose sigmoid is exactly 1 (0 if negated) in float32 and float64."""


def outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum over steps of `left @ right.T`, the gradient of a weight.

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


def run_loop_layer(
    loop: StepLoop, inputs: Tensor, mask: Tensor | None, weights: LoopWeights
) -> Tensor:
    """Run one recurrent layer, in one or both directions, from a zero state.

    Args:
        loop: the recurrence of the cell.
        inputs: (T, I, B), contiguous or a transposed view of (T, B, I).
        mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: as arranged by `loop`.

    Returns:
        (T, D * H, B), the states in time order. Values at padding are unspecified. The result is
        read-only: it may share memory with tensors that the backward pass needs.
    """
    output: Tensor = _LoopLayer.apply(  # type: ignore[no-untyped-call]
        loop, inputs, mask, weights.input_weight, weights.input_bias, *weights.recurrent
    )
    return output


class _LoopLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        loop: StepLoop,
        inputs: Tensor,
        mask: Tensor | None,
        input_weight: Tensor,
        input_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        padding = None if mask is None else ~mask.flip(0)  # (S, 1, B), steps of direction 1
        projected = _project(inputs, input_weight, input_bias)
        size = projected.shape[2] // loop.blocks
        if padding is not None and len(projected) == 2:
            block, value = loop.padding_input
            rows = slice(block * size, (block + 1) * size)
            projected[1, :, rows].masked_fill_(padding, value)
        hidden = _zero_state(projected, size, padding)
        saved = loop.forward(projected, hidden, weights)
        if mask is not None and loop.unbounded:
            # States at padding may be infinite, and infinity times a zero gradient is NaN.
            hidden[0, 1:, :size].masked_fill_(~mask, 0)
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
        if ctx.padding is not None and len(hidden) == 2 and ctx.loop.padding_input.value == 0:
            # Without a gate, the slope of the activation at padding is 1 (tanh), not 0.
            grad_projected[1].masked_fill_(ctx.padding, 0)
        grad_input_weight = torch.stack(
            [
                torch.addbmm(weight.new_zeros(()), grad_steps, steps.transpose(1, 2), beta=0)
                for weight, grad_steps, steps in zip(
                    input_weight, grad_projected, _by_direction(inputs, len(hidden)), strict=True
                )
            ]
        )
        grad_bias = None
        if input_bias is not None:
            grad_bias = grad_projected[:, :, : input_bias.shape[1]].sum((1, 3))
        grad_inputs = None
        if ctx.needs_input_grad[1]:
            grad_inputs = _project_back(
                grad_projected, input_weight, batch_major=_is_batch_major(inputs)
            )
        return None, grad_inputs, None, grad_input_weight, grad_bias, *grad_weights


def _is_batch_major(inputs: Tensor) -> bool:
    """Return whether (T, I, B) is a transposed view of contiguous (T, B, I) memory."""
    return inputs.stride(1) == 1 and inputs.stride(2) != 1


def _flip_time(inputs: Tensor) -> Tensor:
    """Reverse the time axis and keep the memory layout."""
    if _is_batch_major(inputs):
        return inputs.transpose(1, 2).flip(0).transpose(1, 2)
    return inputs.flip(0)


def _by_direction(inputs: Tensor, directions: int) -> list[Tensor]:
    """Return the inputs of each direction in step order."""
    return [inputs] if directions == 1 else [inputs, _flip_time(inputs)]


def _project(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the input projection of all steps: (T, I, B) -> (D, S, P, B)."""
    steps, _, batch = inputs.shape
    directions, rows, columns = weight.shape
    projected = inputs.new_empty(directions, steps, rows, batch)
    for direction, ordered in enumerate(_by_direction(inputs, directions)):
        shared = weight[direction].expand(steps, rows, columns)
        torch.bmm(shared, ordered, out=projected[direction])
    if bias is not None:
        projected[:, :, : bias.shape[1]] += bias[:, None, :, None]
    return projected


def _project_back(grad_projected: Tensor, weight: Tensor, *, batch_major: bool) -> Tensor:
    """Compute the gradient of the inputs: (D, S, P, B) -> (T, I, B), in their memory layout."""
    steps = grad_projected.shape[1]
    total: Tensor | None = None
    for direction, grad in enumerate(grad_projected):
        shared = weight[direction].expand(steps, *weight.shape[1:])  # (S, P, I)
        if batch_major:
            result = torch.bmm(grad.transpose(1, 2), shared)  # (S, B, I)
        else:
            result = torch.bmm(shared.transpose(1, 2), grad)  # (S, I, B)
        total = result if total is None else total.add_(result.flip(0))
    if total is None:
        raise ValueError("A recurrent layer has 1 or 2 directions, not 0.")
    return total.transpose(1, 2) if batch_major else total


def _zero_state(projected: Tensor, size: int, padding: Tensor | None) -> Tensor:
    """Allocate all states (D, S + 1, H + 1, B) with a zero initial state and the bias row."""
    directions, steps, _, batch = projected.shape
    hidden = projected.new_empty(directions, steps + 1, size + 1, batch)
    hidden[:, 0] = 0
    hidden[:, :, size] = 1
    if padding is not None and directions == 2:
        hidden[1, :-1, size].masked_fill_(padding[:, 0], 0)
    return hidden


def _time_order(states: Tensor) -> Tensor:
    """Convert states (D, S, H, B) in step order to (T, D * H, B) in time order."""
    if len(states) == 1:
        return states[0]
    return torch.cat([states[0], states[1].flip(0)], dim=1)


def _step_order(grad: Tensor, directions: int) -> Tensor:
    """Convert gradients (T, D * H, B) in time order to (D, S, H, B) in step order."""
    if directions == 1:
        return grad.unsqueeze(0)
    forwards, backwards = grad.chunk(2, dim=1)
    return torch.stack([forwards, backwards.flip(0)])
