"""Plain Python loops over time steps with autograd, for comparison with celltune's cells.

Shapes: T time steps, B batch size, I input features, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from celltune.models.layers.stack import RecurrentStack

State = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], State]


def _rnn(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor | None) -> State:
    return torch.tanh(x + linear(h, u, b)), c


def _lstm(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor | None) -> State:
    i, f, g, o = (x + linear(h, u, b)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor | None) -> State:
    (xr, xz, xn), (ur, uz, un) = x.chunk(3, 1), linear(h, u, b).chunk(3, 1)
    r, z = (xr + ur).sigmoid(), (xz + uz).sigmoid()
    return (1 - z) * (xn + r * un).tanh() + z * h, c


def _gru_reset_before(x: Tensor, h: Tensor, c: Tensor, u: Tensor, _: Tensor | None) -> State:
    (xr, xz, xn), (ur, uz, un) = x.chunk(3, 1), u.chunk(3)
    r, z = (xr + linear(h, ur)).sigmoid(), (xz + linear(h, uz)).sigmoid()
    return (1 - z) * (xn + linear(r * h, un)).tanh() + z * h, c


def _mgu(x: Tensor, h: Tensor, c: Tensor, u: Tensor, _: Tensor | None) -> State:
    (xf, xn), (uf, un) = x.chunk(2, 1), u.chunk(2)
    f = (xf + linear(h, uf)).sigmoid()
    return (1 - f) * h + f * (xn + linear(f * h, un)).tanh(), c


STEPS: dict[str, Step] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_before": _gru_reset_before,
    "mgu": _mgu,
}


def plain_layer(cell: str, stack: RecurrentStack) -> Callable[[Tensor], Tensor]:
    """Return a function (T, B, I) -> (T, B, H) that runs the weights of the first layer."""
    weights = dict(stack.named_parameters())
    wide, tall = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bias_ih, bias_hh = weights["bias_ih_l0"], weights.get("bias_hh_l0")

    def run(inputs: Tensor) -> Tensor:
        h = c = inputs.new_zeros(inputs.shape[1], tall.shape[1])
        states = []
        for x in inputs:
            h, c = STEPS[cell](linear(x, wide, bias_ih), h, c, tall, bias_hh)
            states.append(h)
        return torch.stack(states)

    return run
