"""Plain loops over single reviews: what the kernels must agree with. No padding, no tricks.

Shapes: L words of one review, I input features, H hidden, D directions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _rnn(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.tanh(x + u @ h + b), c


def _rnn_relu(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.relu(x + u @ h + b), c


def _lstm(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (x + u @ h + b).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, h: Tensor, c: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (xr, xz, xn), (ur, uz, un) = x.chunk(3), (u @ h + b).chunk(3)
    r, z = (xr + ur).sigmoid(), (xz + uz).sigmoid()
    return (1 - z) * (xn + r * un).tanh() + z * h, c


def _gru_reset_before(
    x: Tensor, h: Tensor, c: Tensor, u: Tensor, _: Tensor
) -> tuple[Tensor, Tensor]:
    (xr, xz, xn), (ur, uz, un) = x.chunk(3), u.chunk(3)
    r, z = (xr + ur @ h).sigmoid(), (xz + uz @ h).sigmoid()
    return (1 - z) * (xn + un @ (r * h)).tanh() + z * h, c


def _mgu(x: Tensor, h: Tensor, c: Tensor, u: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    (xf, xn), (uf, un) = x.chunk(2), u.chunk(2)
    f = (xf + uf @ h).sigmoid()
    return (1 - f) * h + f * (xn + un @ (f * h)).tanh(), c


STEPS: dict[str, Step] = {
    "rnn": _rnn,
    "rnn_relu": _rnn_relu,
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_before": _gru_reset_before,
    "mgu": _mgu,
}


def plain_stack(
    cell: str, review: Tensor, weights: dict[str, Tensor], layers: int, suffixes: tuple[str, ...]
) -> Tensor:
    """All layers over one review: (L, I) -> (L, D * H)."""
    outputs = review
    for layer in range(layers):
        sides = []
        for suffix in suffixes:
            place = f"l{layer}{suffix}"
            recurrent = weights[f"weight_hh_{place}"]
            bias = weights.get(f"bias_hh_{place}", outputs.new_zeros(()))
            h = c = outputs.new_zeros(recurrent.shape[1])
            order = range(len(outputs)) if not suffix else range(len(outputs) - 1, -1, -1)
            states = {}
            for t in order:
                x = weights[f"weight_ih_{place}"] @ outputs[t] + weights[f"bias_ih_{place}"]
                h, c = STEPS[cell](x, h, c, recurrent, bias)
                states[t] = h
            sides.append(torch.stack([states[t] for t in range(len(outputs))]))
        outputs = torch.cat(sides, dim=1)
    return outputs
