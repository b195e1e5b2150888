"""`StepLoop` implementations of cells that PyTorch does not have: GRU with reset before, and MGU.

Shapes: D directions, S step, H hidden, B batch, K steps of a chunk, R rows of a recurrent product.
See `loop_layer` for the memory layout and `standard_loops` for the structure of the backward pass.

In both cells a gated state is the input of a second recurrent product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from celltune.models.layers.base import LayerWeights, LoopWeights, PaddingInput
from celltune.models.layers.loop_layer import SATURATING_LOGIT, outer_sum
from celltune.models.layers.standard_loops import (
    arrange_one_product,
    chunks_back,
    transposed_state_part,
)


def _arrange_two_products(weights: Sequence[LayerWeights]) -> LoopWeights:
    """Arrange weights for two products per step: the last gate reads the gated state."""
    rows, size = weights[0].weight_hh.shape
    arranged = arrange_one_product(weights, range(rows // size))
    (recurrent,) = arranged.recurrent
    return arranged._replace(recurrent=tuple(torch.split(recurrent, [rows - size, size], dim=1)))


def _empty_gated_states(hidden: Tensor) -> Tensor:
    """Return a tensor for the gated states (D, S, H + 1, B), with the bias row of `hidden`."""
    gated = torch.empty_like(hidden[:, :-1], memory_format=torch.contiguous_format)
    gated[:, :, -1] = hidden[:, :-1, -1]
    return gated


class GruResetBeforeLoop:
    """The recurrence of `GruResetBeforeCell`.

    Blocks r, z, n and recurrent weights with rows (r, z) and n. Saves r and z, the gated states,
    and n.
    """

    blocks = 3
    padding_input = PaddingInput(1, SATURATING_LOGIT)
    unbounded = False

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`."""
        return _arrange_two_products(weights)

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """See `StepLoop.forward`."""
        gate_weight, new_weight = weights
        directions, steps, rows, batch = projected.shape
        size = rows // 3
        gates = projected.new_empty(steps, directions, 2 * size, batch)
        news = projected.new_empty(steps, directions, size, batch)
        gated = _empty_gated_states(hidden)
        previous, states = hidden.unbind(1), hidden[:, :, :size].unbind(1)
        gate_inputs = projected[:, :, : 2 * size].unbind(1)
        new_inputs = projected[:, :, 2 * size :].unbind(1)
        gated_rows, gated_states = gated.unbind(1), gated[:, :, :size].unbind(1)
        gate, n = gates.unbind(0), news.unbind(0)
        r, z = (part.unbind(0) for part in gates.chunk(2, dim=2))
        for s in range(steps):
            torch.baddbmm(gate_inputs[s], gate_weight, previous[s], out=gate[s]).sigmoid_()
            torch.mul(r[s], states[s], out=gated_states[s])
            torch.baddbmm(new_inputs[s], new_weight, gated_rows[s], out=n[s]).tanh_()
            torch.lerp(n[s], states[s], z[s], out=states[s + 1])
        return gates, gated, news

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `StepLoop.backward`."""
        gates, gated, news = saved
        directions, steps, size, batch = grad.shape
        gate_back, new_back = (transposed_state_part(weight) for weight in weights)
        blocks = grad.new_empty(directions, steps, 3, size, batch)
        result = blocks.view(directions, steps, 3 * size, batch)
        by_state = blocks[:, :, 1:].unbind(1)  # z, n
        for_gates = result[:, :, : 2 * size].unbind(1)
        reset, new = result[:, :, :size].unbind(1), result[:, :, 2 * size :].unbind(1)
        r, z = (part.unbind(0) for part in gates.chunk(2, dim=2))
        grads = grad.unbind(1)
        carry = grads[-1]
        inner = grad.new_empty(directions, size, batch)
        for start, stop in chunks_back(steps, directions * size * batch):
            factors, reset_factors = self._factors(
                gates[start:stop], news[start:stop], hidden[:, start:stop, :size].transpose(0, 1)
            )
            for s in range(stop - 1, start - 1, -1):
                torch.mul(carry.unsqueeze(1), factors[s - start], out=by_state[s])
                torch.bmm(new_back, new[s], out=inner)
                torch.mul(inner, reset_factors[s - start], out=reset[s])
                if s:
                    before = torch.baddbmm(grads[s - 1], gate_back, for_gates[s])
                    carry = before.addcmul_(inner, r[s]).addcmul_(carry, z[s])
        gate_grad = outer_sum(result[:, :, : 2 * size], hidden[:, :-1])
        return result, (gate_grad, outer_sum(result[:, :, 2 * size :], gated))

    @staticmethod
    def _factors(
        gates: Tensor, n: Tensor, h: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return, for each step, factors for z and n by h' (D, 2, H, B), r by r h (D, H, B)."""
        r, z = gates.chunk(2, dim=2)
        factors = n.new_empty(*n.shape[:2], 2, *n.shape[2:])  # (K, D, 2, H, B)
        by_z, by_n = factors.unbind(2)
        torch.sub(h, n, out=by_z).mul_(z).addcmul_(by_z, z, value=-1)
        torch.addcmul(n.new_ones(()), n, n, value=-1, out=by_n)
        by_n.addcmul_(by_n, z, value=-1)
        by_r = torch.addcmul(r, r, r, value=-1).mul_(h)
        return factors.unbind(0), by_r.unbind(0)


class MguLoop:
    """The recurrence of `MguCell`.

    Blocks f, n and recurrent weights of f and of n. Saves f, the gated states, and n.
    """

    blocks = 2
    padding_input = PaddingInput(0, -SATURATING_LOGIT)
    unbounded = False

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`."""
        return _arrange_two_products(weights)

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """See `StepLoop.forward`."""
        gate_weight, new_weight = weights
        directions, steps, rows, batch = projected.shape
        size = rows // 2
        gates = projected.new_empty(steps, directions, size, batch)
        news = torch.empty_like(gates)
        gated = _empty_gated_states(hidden)
        previous, states = hidden.unbind(1), hidden[:, :, :size].unbind(1)
        gate_inputs, new_inputs = (part.unbind(1) for part in projected.chunk(2, dim=2))
        gated_rows, gated_states = gated.unbind(1), gated[:, :, :size].unbind(1)
        f, n = gates.unbind(0), news.unbind(0)
        for s in range(steps):
            torch.baddbmm(gate_inputs[s], gate_weight, previous[s], out=f[s]).sigmoid_()
            torch.mul(f[s], states[s], out=gated_states[s])
            torch.baddbmm(new_inputs[s], new_weight, gated_rows[s], out=n[s]).tanh_()
            torch.lerp(states[s], n[s], f[s], out=states[s + 1])
        return gates, gated, news

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `StepLoop.backward`."""
        gates, gated, news = saved
        directions, steps, size, batch = grad.shape
        gate_back, new_back = (transposed_state_part(weight) for weight in weights)
        blocks = grad.new_empty(directions, steps, 2, size, batch)
        result = blocks.view(directions, steps, 2 * size, batch)
        by_state = blocks.unbind(1)
        gate, new = (part.unbind(1) for part in result.chunk(2, dim=2))
        f, grads = gates.unbind(0), grad.unbind(1)
        carry = grads[-1]
        inner = grad.new_empty(directions, size, batch)
        for start, stop in chunks_back(steps, directions * size * batch):
            factors, gate_factors, remaining = self._factors(
                gates[start:stop], news[start:stop], hidden[:, start:stop, :size].transpose(0, 1)
            )
            for s in range(stop - 1, start - 1, -1):
                k = s - start
                torch.mul(carry.unsqueeze(1), factors[k], out=by_state[s])
                torch.bmm(new_back, new[s], out=inner)
                gate[s].addcmul_(inner, gate_factors[k])
                if s:
                    before = torch.baddbmm(grads[s - 1], gate_back, gate[s])
                    carry = before.addcmul_(inner, f[s]).addcmul_(carry, remaining[k])
        gate_grad = outer_sum(result[:, :, :size], hidden[:, :-1])
        return result, (gate_grad, outer_sum(result[:, :, size:], gated))

    @staticmethod
    def _factors(
        f: Tensor, n: Tensor, h: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return, for each step, factors for f and n by h' (D, 2, H, B), f by f h, and 1 - f."""
        one = f.new_ones(())
        slope = torch.addcmul(f, f, f, value=-1)
        factors = n.new_empty(*n.shape[:2], 2, *n.shape[2:])  # (K, D, 2, H, B)
        torch.sub(n, h, out=factors[:, :, 0]).mul_(slope)
        torch.addcmul(one, n, n, value=-1, out=factors[:, :, 1]).mul_(f)
        return factors.unbind(0), slope.mul_(h).unbind(0), torch.sub(one, f).unbind(0)
