"""From the states of a review to one vector for the output layer.

Shapes: T time, B batch, H hidden, D directions, F = D * H features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def final_state(states: Tensor, lengths: Tensor, hidden_size: int) -> Tensor:
    """Each direction's state after it has read the whole review.

    Args:
        states: (T, F, B).
        lengths: (B,), at least 1.
        hidden_size: H.

    Returns:
        (B, F): direction 0 at the last word, direction 1 at the first.
    """
    batch = torch.arange(states.shape[2], device=states.device)
    ahead = states[:, :hidden_size][lengths - 1, :, batch]  # (B, H)
    if states.shape[1] == hidden_size:
        return ahead
    return torch.cat([ahead, states[0, hidden_size:].t()], dim=1)


def mean_state(states: Tensor, lengths: Tensor, real: Tensor | None) -> Tensor:
    """The mean over a review's own words: (T, F, B) -> (B, F)."""
    kept = states if real is None else states.masked_fill(~real, 0)
    return (kept.sum(0) / lengths).t()


def max_state(states: Tensor, real: Tensor | None) -> Tensor:
    """The maximum over a review's own words, feature by feature: (T, F, B) -> (B, F).

    The gradient goes to the first of equal maxima.
    """
    kept = states if real is None else states.masked_fill(~real, -torch.inf)
    largest: Tensor = _MaxOverTime.apply(kept)  # type: ignore[no-untyped-call]
    return largest.t()


class _MaxOverTime(torch.autograd.Function):
    """``states.amax(0)`` whose way back touches only the winners."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        largest, where = states.max(dim=0)
        ctx.save_for_backward(where)
        ctx.shape = states.shape
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (where,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).scatter_(0, where.unsqueeze(0), grad.unsqueeze(0))
