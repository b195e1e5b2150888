"""A recurrent layer over a padded batch, with a hand-written backward pass (`StepLoop`).

Shapes: T time, S step (= T), B batch, I input features, H hidden, D directions (1 or 2),
P rows of an input projection (a multiple of H), R rows of a recurrent product, N networks that run
side by side (1 for a single network). A loop sees N * D rows: row `n * D + d` is direction `d` of
network `n`.

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

from celltune.models.layers.base import LoopWeights, StepLoop, skips_steps

SATURATING_LOGIT = 1e4
"""A logit whose sigmoid is exactly 1 (0 if negated) in float32 and float64."""

MOST_PARTS, SHORTEST_PART = 64, 128
"""Limits for splitting the inner axis of a product, see `long_product`."""
MOST_SPLIT_PRODUCTS = 8
"""More products than this keep a GPU busy without being split."""


def outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum over steps of `left @ right.T`, the gradient of a weight.

    Args:
        left: (D, S, R, B).
        right: (D, S, K, B).

    Returns:
        (D, R, K).
    """
    if one_product_is_faster(left):
        rows = left.transpose(1, 2).flatten(2)  # (D, R, S * B)
        columns = right.transpose(2, 3).flatten(1, 2)  # (D, S * B, K)
        return long_product(rows, columns)
    total = left.new_zeros(left.shape[0], left.shape[2], right.shape[2])
    for direction in range(left.shape[0]):
        total[direction].addbmm_(left[direction], right[direction].transpose(1, 2))
    return total


def long_product(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right` for a long inner axis, the positions of a batch.

    A GPU computes a small result on few of its processors. If D is small, the inner axis is split,
    and the products of its parts are added.

    Args:
        left: (D, R, L).
        right: (D, L, K).

    Returns:
        (D, R, K).
    """
    parts = _parts(len(left), left.shape[2])
    if parts == 1:
        return torch.bmm(left, right)
    products = left.new_empty(len(left), parts, left.shape[1], right.shape[2])
    for rows, columns, out in zip(left, right, products, strict=True):
        own_rows = rows.unflatten(1, (parts, -1)).transpose(0, 1)
        torch.bmm(own_rows, columns.unflatten(0, (parts, -1)), out=out)
    return products.sum(1)


def _parts(count: int, length: int) -> int:
    """Return the number of equal parts of an inner axis of `count` products."""
    if count > MOST_SPLIT_PRODUCTS:
        return 1
    unit = 4 if length % 4 == 0 else 1  # Aligned parts can be loaded in blocks of 16 bytes.
    most = min(MOST_PARTS, length // SHORTEST_PART)
    return max((parts for parts in range(1, most + 1) if length // unit % parts == 0), default=1)


def one_product_is_faster(values: Tensor) -> bool:
    """Return whether a product over all steps is better computed as one large product.

    It may need a copy in another layout, but `addbmm` launches one kernel per step on a GPU.

    Args:
        values: an operand of the product.
    """
    return values.is_cuda


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
    masks = None if mask is None else mask.unsqueeze(0)
    return run_loop_layers(loop, inputs.unsqueeze(0), masks, weights).squeeze(0)


def run_loop_layers(
    loop: StepLoop, inputs: Tensor, mask: Tensor | None, weights: LoopWeights
) -> Tensor:
    """Run the same layer of N networks with weights of their own; see `run_loop_layer`.

    Args:
        loop: the recurrence of the cell.
        inputs: (N, T, I, B), contiguous or a transposed view of (N, T, B, I).
        mask: (N, T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: as arranged by `loop`, with N * D instead of D rows.

    Returns:
        (N, T, D * H, B).
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
        networks = len(inputs)
        padding = None if mask is None else ~mask.flip(1)  # (N, S, 1, B), steps of direction 1
        projected = _project(inputs, input_weight, input_bias)
        size = projected.shape[2] // loop.blocks
        directions = len(projected) // networks
        if padding is not None and directions == 2:
            block, value = loop.padding_input
            rows = slice(block * size, (block + 1) * size)
            projected[1::2, :, rows].masked_fill_(padding, value)
        hidden = _zero_state(projected, size, padding if directions == 2 else None)
        spans = _spans(loop, mask, directions)
        if skips_steps(loop):
            saved = loop.forward(projected, hidden, weights, spans)
        else:
            saved = loop.forward(projected, hidden, weights)
        if mask is not None and loop.unbounded:
            # States at padding may be infinite, and infinity times a zero gradient is NaN.
            hidden[::directions, 1:, :size].masked_fill_(~mask, 0)
        ctx.loop, ctx.padding, ctx.counts = loop, padding, (len(weights), input_bias)
        ctx.spans = spans
        ctx.save_for_backward(inputs, input_weight, hidden, *weights, *saved)
        return _time_order(hidden[:, 1:, :size], networks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weight, hidden, *rest = ctx.saved_tensors
        count, input_bias = ctx.counts
        weights, saved = tuple(rest[:count]), tuple(rest[count:])
        directions = len(hidden) // len(inputs)
        grad = _step_order(grad_output, directions)
        if skips_steps(ctx.loop):
            passed = ctx.loop.backward(grad, hidden, saved, weights, ctx.spans)
        else:
            passed = ctx.loop.backward(grad, hidden, saved, weights)
        grad_projected, grad_weights = passed
        if ctx.padding is not None and directions == 2 and ctx.loop.padding_input.value == 0:
            # Without a gate, the slope of the activation at padding is 1 (tanh), not 0.
            grad_projected[1::2].masked_fill_(ctx.padding, 0)
        grad_bias = None
        if input_bias is not None:
            grad_bias = grad_projected[:, :, : input_bias.shape[1]].sum((1, 3))
        compute = _grads_in_one_product if one_product_is_faster(inputs) else _grads_by_step
        grad_inputs, grad_input_weight = compute(
            grad_projected, inputs, input_weight, ctx.needs_input_grad[1]
        )
        return None, grad_inputs, None, grad_input_weight, grad_bias, *grad_weights


def _is_batch_major(inputs: Tensor) -> bool:
    """Return whether (N, T, I, B) is a transposed view of contiguous (N, T, B, I) memory."""
    return inputs.stride(2) == 1 and inputs.stride(3) != 1


def _flip_time(inputs: Tensor) -> Tensor:
    """Reverse the time axis and keep the memory layout."""
    if _is_batch_major(inputs):
        return inputs.transpose(2, 3).flip(1).transpose(2, 3)
    return inputs.flip(1)


def _by_direction(inputs: Tensor, directions: int) -> list[Tensor]:
    """Return the inputs of each direction in step order."""
    return [inputs] if directions == 1 else [inputs, _flip_time(inputs)]


def _project(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the input projection of all steps: (N, T, I, B) -> (N * D, S, P, B)."""
    networks, steps, _, batch = inputs.shape
    rows, size, columns = weight.shape
    directions = rows // networks
    if one_product_is_faster(inputs):
        projected = _project_in_one_product(inputs, weight)
    else:
        projected = inputs.new_empty(rows, steps, size, batch)
        for direction, ordered in enumerate(_by_direction(inputs, directions)):
            for network in range(networks):
                row = network * directions + direction
                shared = weight[row].expand(steps, size, columns)
                torch.bmm(shared, ordered[network], out=projected[row])
    if bias is not None:
        projected[:, :, : bias.shape[1]].add_(bias[:, None, :, None])
    return projected


def _project_in_one_product(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the projection without bias; the order of its memory is (N * D, P, S, B)."""
    networks, steps, _, batch = inputs.shape
    directions, tokens = len(weight) // networks, _features_of_tokens(inputs)
    rows = inputs.new_empty(*weight.shape[:2], steps * batch)
    torch.bmm(weight[::directions], tokens, out=rows[::directions])
    if directions == 2:
        tokens = tokens.reshape(networks, -1, steps, batch).flip(2).flatten(2)
        torch.bmm(weight[1::2], tokens, out=rows[1::2])
    return rows.view(*weight.shape[:2], steps, batch).transpose(1, 2)


def _features_of_tokens(values: Tensor) -> Tensor:
    """Convert (N, T, I, B) to (N, I, T * B), a view if the memory is batch-major."""
    return values.transpose(1, 2).reshape(len(values), values.shape[2], -1)


def _grads_by_step(
    grad_projected: Tensor, inputs: Tensor, weight: Tensor, needs_inputs: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of the inputs (N, T, I, B) and the input weights (N * D, P, I)."""
    directions = len(weight) // len(inputs)
    ordered = _by_direction(inputs, directions)
    grads = [
        torch.addbmm(
            weight.new_zeros(()),
            grad_projected[row],
            ordered[row % directions][row // directions].transpose(1, 2),
            beta=0,
        )
        for row in range(len(weight))
    ]
    if not needs_inputs:
        return None, torch.stack(grads)
    by_network = [
        _project_back(
            grad_projected[first : first + directions],
            weight[first : first + directions],
            batch_major=_is_batch_major(inputs),
        )
        for first in range(0, len(weight), directions)
    ]
    if len(by_network) == 1:
        return by_network[0].unsqueeze(0), torch.stack(grads)
    return torch.stack(by_network), torch.stack(grads)


def _grads_in_one_product(
    grad_projected: Tensor, inputs: Tensor, weight: Tensor, needs_inputs: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the same as `_grads_by_step`, with one batched product for all steps and networks."""
    networks, steps, _, batch = inputs.shape
    directions = len(weight) // networks
    tokens = _features_of_tokens(inputs).transpose(1, 2)  # (N, T * B, I)
    weight_grads, total = [], None
    for direction in range(directions):
        grad = grad_projected[direction::directions]
        by_token = _features_of_tokens(grad.flip(1) if direction else grad)  # (N, P, T * B)
        weight_grads.append(long_product(by_token, tokens))
        if needs_inputs:
            shared = weight[direction::directions]
            if total is None:
                total = torch.bmm(by_token.transpose(1, 2), shared)  # (N, T * B, I)
            else:
                total = torch.baddbmm(total, by_token.transpose(1, 2), shared)
    weight_grad = torch.stack(weight_grads, dim=1).flatten(0, 1)
    if total is None:
        return None, weight_grad
    return total.view(networks, steps, batch, -1).transpose(2, 3), weight_grad


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


def _spans(loop: StepLoop, mask: Tensor | None, directions: int) -> Tensor | None:
    """Return the steps of the longest document of each network for a `SpanLoop`, else None.

    Args:
        loop: the recurrence.
        mask: (N, T, 1, B) bool, False at padding, or None.
        directions: D.

    Returns:
        (N * D, 2) int32, first step and end. A single network needs all steps.
    """
    if mask is None or len(mask) == 1 or not skips_steps(loop):
        return None
    steps = mask.shape[1]
    longest = mask.any(3).sum(1, dtype=torch.int32)  # (N, 1)
    spans = torch.cat([torch.zeros_like(longest), longest], 1)
    if directions == 2:
        reversed_spans = torch.cat([steps - longest, torch.full_like(longest, steps)], 1)
        spans = torch.stack([spans, reversed_spans], 1).flatten(0, 1)
    return spans


def _zero_state(projected: Tensor, size: int, padding: Tensor | None) -> Tensor:
    """Allocate all states (N * D, S + 1, H + 1, B) with a zero initial state and the bias row.

    Args:
        projected: (N * D, S, P, B).
        size: H.
        padding: (N, S, 1, B) of direction 1; None if nothing is padded or there is no direction 1.
    """
    rows, steps, _, batch = projected.shape
    if one_product_is_faster(projected):
        # In this order of memory, `outer_sum` copies nothing.
        hidden = projected.new_empty(rows, size + 1, steps + 1, batch).transpose(1, 2)
    else:
        hidden = projected.new_empty(rows, steps + 1, size + 1, batch)
    hidden[:, 0].zero_()
    hidden[:, :, size].fill_(1)
    if padding is not None:
        hidden[1::2, :-1, size].masked_fill_(padding[:, :, 0], 0)
    return hidden


def _time_order(states: Tensor, networks: int) -> Tensor:
    """Convert states (N * D, S, H, B) in step order to (N, T, D * H, B) in time order."""
    if len(states) == networks:
        return states
    return torch.cat([states[::2], states[1::2].flip(1)], dim=2)


def _step_order(grad: Tensor, directions: int) -> Tensor:
    """Convert gradients (N, T, D * H, B) in time order to (N * D, S, H, B) in step order."""
    if directions == 1:
        return grad
    forwards, backwards = grad.chunk(2, dim=2)
    return torch.stack([forwards, backwards.flip(1)], dim=1).flatten(0, 1)
