"""`StepLoop` implementations of the cells that PyTorch also has: RNN, LSTM and GRU.

Shapes: D directions, S step, H hidden, B batch, K steps of a chunk, R rows of a recurrent product.
See `loop_layer` for the memory layout.

Every derivative of a step is the incoming gradient times a factor that does not depend on it. The
backward pass computes these factors for a chunk of steps in a few large operations. The loop that
remains is a linear recurrence of three or four calls per step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from celltune.models.layers.base import LayerWeights, LoopWeights, PaddingInput
from celltune.models.layers.loop_layer import SATURATING_LOGIT, outer_sum

CHUNK_ELEMENTS = 1 << 16
"""Values of one state array in a chunk, so that its factors fit in the L2 cache of a core."""


def chunks_back(steps: int, elements: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each chunk of steps, from the last chunk to the first.

    Args:
        steps: number of steps.
        elements: number of values in the state of one step (D * H * B).
    """
    size = max(1, CHUNK_ELEMENTS // max(1, elements))
    for stop in range(steps, 0, -size):
        yield max(0, stop - size), stop


def transposed_state_part(weight: Tensor) -> Tensor:
    """Return recurrent weights for the backward pass: (D, R, H + 1) -> (D, H, R), without bias."""
    return weight[:, :, :-1].transpose(1, 2).contiguous()


def join_directions(parameters: Sequence[Tensor], order: Sequence[int], size: int) -> Tensor:
    """Return a parameter of all directions, with its blocks of rows in another order.

    One operation for all directions: on a GPU, these copies take less time than to start them.

    Args:
        parameters: (G * H, ...) of each direction.
        order: the stored block of each block of the result.
        size: H.

    Returns:
        (D, G * H, ...).
    """
    if list(order) == sorted(order):
        return torch.stack(list(parameters))
    blocks = [torch.split(values, size) for values in parameters]
    joined = torch.cat([own[block] for own in blocks for block in order])
    return joined.reshape(len(blocks), *parameters[0].shape)


def arrange_one_product(weights: Sequence[LayerWeights], order: Sequence[int]) -> LoopWeights:
    """Arrange weights for one recurrent product per step, whose bias column adds both biases.

    Args:
        weights: weights of each direction.
        order: the stored block of each block of the loop.
    """
    size = weights[0].weight_hh.shape[1]
    input_weight = join_directions([own.weight_ih for own in weights], order, size)
    recurrent = join_directions([own.weight_hh for own in weights], order, size)
    bias = join_directions([own.bias_ih for own in weights], order, size)
    second = [own.bias_hh for own in weights if own.bias_hh is not None]
    if second:
        bias = bias + join_directions(second, order, size)
    return LoopWeights(input_weight, None, (torch.cat([recurrent, bias.unsqueeze(2)], dim=2),))


class RnnLoop:
    """The recurrence of `RnnCell`.

    One block and one recurrent weight. The backward pass needs only the states.
    """

    blocks = 1
    padding_input = PaddingInput(0, 0.0)

    def __init__(self, *, relu: bool = False) -> None:
        """Choose the activation function: tanh, or ReLU."""
        self.unbounded = relu

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`."""
        return arrange_one_product(weights, (0,))

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """See `StepLoop.forward`."""
        (weight,) = weights
        directions, steps, size, batch = projected.shape
        work = projected.new_empty(directions, size, batch)
        previous, states = hidden.unbind(1), hidden[:, 1:, :size].unbind(1)
        inputs = projected.unbind(1)
        for s in range(steps):
            torch.baddbmm(inputs[s], weight, previous[s], out=work)
            if self.unbounded:
                torch.clamp_min(work, 0, out=states[s])
            else:
                torch.tanh(work, out=states[s])
        return ()

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `StepLoop.backward`."""
        del saved
        directions, steps, size, batch = grad.shape
        back = transposed_state_part(weights[0])
        result = torch.empty_like(grad, memory_format=torch.contiguous_format)
        outputs, grads = result.unbind(1), grad.unbind(1)
        carry = grads[-1].contiguous()
        for start, stop in chunks_back(steps, directions * size * batch):
            states = hidden[:, start + 1 : stop + 1, :size]
            slopes = self._slopes(states).unbind(1)
            for s in range(stop - 1, start - 1, -1):
                torch.mul(carry, slopes[s - start], out=outputs[s])
                if s:
                    carry = torch.baddbmm(grads[s - 1], back, outputs[s])
        return result, (outer_sum(result, hidden[:, :-1]),)

    def _slopes(self, states: Tensor) -> Tensor:
        if self.unbounded:
            return (states > 0).to(states.dtype)
        return torch.addcmul(states.new_ones(()), states, states, value=-1)


class LstmLoop:
    """The recurrence of `LstmCell`.

    Blocks o, i, f, g and one recurrent weight with the same rows. Saves the gates, the cell states
    and their tanh.
    """

    blocks = 4
    padding_input = PaddingInput(1, -SATURATING_LOGIT)
    unbounded = False

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`."""
        return arrange_one_product(weights, (3, 0, 1, 2))

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """See `StepLoop.forward`."""
        (weight,) = weights
        directions, steps, rows, batch = projected.shape
        size = rows // 4
        gates = projected.new_empty(steps, directions, rows, batch)
        cells = projected.new_empty(steps + 1, directions, size, batch)
        cells[0] = 0
        curved = projected.new_empty(steps, directions, size, batch)
        previous, states = hidden.unbind(1), hidden[:, 1:, :size].unbind(1)
        inputs, outs, cell, curve = (
            projected.unbind(1),
            gates.unbind(0),
            cells.unbind(0),
            curved.unbind(0),
        )
        sigmoids = gates[:, :, : 3 * size].unbind(0)
        o, i, f, g = (part.unbind(0) for part in gates.chunk(4, dim=2))
        for s in range(steps):
            torch.baddbmm(inputs[s], weight, previous[s], out=outs[s])
            torch.sigmoid_(sigmoids[s])
            torch.tanh_(g[s])
            new = torch.mul(f[s], cell[s], out=cell[s + 1])
            new.addcmul_(i[s], g[s])
            torch.mul(o[s], torch.tanh(new, out=curve[s]), out=states[s])
        return gates, cells, curved

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `StepLoop.backward`."""
        gates, cells, curved = saved
        directions, steps, size, batch = grad.shape
        back = transposed_state_part(weights[0])
        # Blocks o, i, f, g, and the gradient of the previous cell state as a fifth.
        blocks = grad.new_empty(directions, steps, 5, size, batch)
        result = blocks.view(directions, steps, 5 * size, batch)
        recurrent = result[:, :, : 4 * size].unbind(1)
        output = result[:, :, :size].unbind(1)
        inner = blocks[:, :, 1:].unbind(1)
        passed = result[:, :, 4 * size :].unbind(1)
        grads = grad.unbind(1)
        carry = grads[-1]
        cell_carry = grad.new_zeros(directions, size, batch)
        total = grad.new_empty(directions, 1, size, batch)
        total_flat = total.squeeze(1)
        for start, stop in chunks_back(steps, directions * size * batch):
            by_output, by_state, by_cell = self._factors(
                gates[start:stop], cells[start:stop], curved[start:stop]
            )
            for s in range(stop - 1, start - 1, -1):
                torch.mul(carry, by_output[s - start], out=output[s])
                torch.addcmul(cell_carry, carry, by_state[s - start], out=total_flat)
                torch.mul(total, by_cell[s - start], out=inner[s])
                cell_carry = passed[s]
                if s:
                    carry = torch.baddbmm(grads[s - 1], back, recurrent[s])
        used = result[:, :, : 4 * size]
        return used, (outer_sum(used, hidden[:, :-1]),)

    @staticmethod
    def _factors(
        gates: Tensor, cells: Tensor, curved: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return, for each step, the factors of the gradients.

        Returns:
            For o and c' by h', each (D, H, B); for i, f, g and c by c', (D, 4, H, B).
        """
        one = gates.new_ones(())
        o, i, f, g = gates.chunk(4, dim=2)
        by_output = torch.addcmul(o, o, o, value=-1).mul_(curved)
        by_state = torch.addcmul(one, curved, curved, value=-1).mul_(o)
        by_cell = gates.new_empty(*cells.shape[:2], 4, *cells.shape[2:])  # (K, D, 4, H, B)
        torch.addcmul(i, i, i, value=-1, out=by_cell[:, :, 0]).mul_(g)
        torch.addcmul(f, f, f, value=-1, out=by_cell[:, :, 1]).mul_(cells)
        torch.addcmul(one, g, g, value=-1, out=by_cell[:, :, 2]).mul_(i)
        by_cell[:, :, 3] = f
        return by_output.unbind(0), by_state.unbind(0), by_cell.unbind(0)


class GruLoop:
    """The recurrence of `GruCell`, with `q = U_n h + b_hn`.

    Blocks n, r, z and one recurrent weight with rows r, z, q. Saves r and z, the recurrent product
    (which contains q), and n.
    """

    blocks = 3
    padding_input = PaddingInput(2, SATURATING_LOGIT)
    unbounded = False

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`. The bias b_in is outside of the product that r scales."""
        size = weights[0].weight_hh.shape[1]
        gate_biases, new_biases, biases = [], [], []
        for direction in weights:
            if direction.bias_hh is None:
                raise ValueError("A gru layer needs bias_hh and bias_ih; bias_hh is missing.")
            gate_bias, new_bias = torch.split(direction.bias_ih, [2 * size, size])
            gate_biases += [gate_bias, torch.zeros_like(new_bias)]
            new_biases.append(new_bias)
            biases.append(direction.bias_hh)
        input_weight = join_directions([own.weight_ih for own in weights], (2, 0, 1), size)
        recurrent = torch.stack([own.weight_hh for own in weights])
        bias = torch.stack(biases) + torch.cat(gate_biases).view(len(weights), -1)
        recurrent = torch.cat([recurrent, bias.unsqueeze(2)], dim=2)
        return LoopWeights(input_weight, torch.stack(new_biases), (recurrent,))

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """See `StepLoop.forward`."""
        (weight,) = weights
        directions, steps, rows, batch = projected.shape
        size = rows // 3
        products = projected.new_empty(steps, directions, rows, batch)
        gates = projected.new_empty(steps, directions, 2 * size, batch)
        news = projected.new_empty(steps, directions, size, batch)
        previous, states = hidden.unbind(1), hidden[:, :, :size].unbind(1)
        new_inputs = projected[:, :, :size].unbind(1)
        gate_inputs = projected[:, :, size:].unbind(1)
        product, gate, n = products.unbind(0), gates.unbind(0), news.unbind(0)
        gate_products = products[:, :, : 2 * size].unbind(0)
        q = products[:, :, 2 * size :].unbind(0)
        r, z = (part.unbind(0) for part in gates.chunk(2, dim=2))
        for s in range(steps):
            torch.bmm(weight, previous[s], out=product[s])
            torch.add(gate_inputs[s], gate_products[s], out=gate[s]).sigmoid_()
            torch.addcmul(new_inputs[s], r[s], q[s], out=n[s]).tanh_()
            torch.lerp(n[s], states[s], z[s], out=states[s + 1])
        return gates, products, news

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `StepLoop.backward`."""
        gates, products, news = saved
        directions, steps, size, batch = grad.shape
        back = transposed_state_part(weights[0])
        # Blocks n, r, z, q: the projection has the first three, the product the last three.
        blocks = grad.new_empty(directions, steps, 4, size, batch)
        result = blocks.view(directions, steps, 4 * size, batch)
        by_block = blocks.unbind(1)
        recurrent = result[:, :, size:].unbind(1)
        z = gates[:, :, size:].unbind(0)
        grads = grad.unbind(1)
        carry = grads[-1]
        for start, stop in chunks_back(steps, directions * size * batch):
            factors = self._factors(
                gates[start:stop],
                products[start:stop, :, 2 * size :],
                news[start:stop],
                hidden[:, start:stop, :size].transpose(0, 1),
            )
            for s in range(stop - 1, start - 1, -1):
                torch.mul(carry.unsqueeze(1), factors[s - start], out=by_block[s])
                if s:
                    before = torch.baddbmm(grads[s - 1], back, recurrent[s])
                    carry = before.addcmul_(carry, z[s])
        recurrent_grad = outer_sum(result[:, :, size:], hidden[:, :-1])
        return result[:, :, : 3 * size], (recurrent_grad,)

    @staticmethod
    def _factors(gates: Tensor, q: Tensor, n: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return, for each step, factors for n, r, z (before activation) and q, (D, 4, H, B)."""
        r, z = gates.chunk(2, dim=2)
        factors = n.new_empty(*n.shape[:2], 4, *n.shape[2:])  # (K, D, 4, H, B)
        by_n, by_r, by_z, by_q = factors.unbind(2)
        torch.addcmul(n.new_ones(()), n, n, value=-1, out=by_n)
        by_n.addcmul_(by_n, z, value=-1)
        torch.mul(by_n, r, out=by_q)
        torch.mul(by_q, q, out=by_r).addcmul_(by_r, r, value=-1)
        torch.sub(h, n, out=by_z).mul_(z).addcmul_(by_z, z, value=-1)
        return factors.unbind(0)
