"""Dropout with few random draws.

PyTorch draws one float per value, which takes longer than a small recurrent layer. Here, one
64-bit draw decides four values with 16 bits each, so the drop rate is exact to 1/65,536.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 1 << 16


def dropout(
    values: Tensor, rate: float, training: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Zero a fraction of the values and scale up the others (Srivastava et al. 2014).

    Args:
        values: any shape; not changed.
        rate: probability of a zero, in [0, 1).
        training: False returns `values` themselves.
        generator: on the device of `values`; None: the global generator of PyTorch.

    Returns:
        A tensor with the shape, memory layout and type of `values`.
    """
    if not training or rate == 0.0:
        return values
    return values * keep_mask(values, rate, generator).mul_(threshold_and_scale(rate)[1])


def keep_mask(values: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Return a tensor like `values` with a 0 for each value to drop, and a 1 for the others.

    Args:
        values: any shape; only shape, type and device are used.
        rate: probability of a zero, in [0, 1).
        generator: on the device of `values`; None: the global generator of PyTorch.
    """
    draws = torch.empty(draws_for(values.numel()), dtype=torch.int64, device=values.device)
    draw(draws, generator)
    kept = draws.view(torch.int16)[: values.numel()] >= threshold_and_scale(rate)[0]
    return kept.to(values.dtype).view(values.shape)


def draws_for(count: int) -> int:
    """Return the number of 64-bit draws that decide `count` values."""
    return -(-count // 4)


def draw(draws: Tensor, generator: torch.Generator | None) -> None:
    """Fill an int64 tensor with random bits."""
    draws.random_(-(1 << 63), None, generator=generator)


def threshold_and_scale(rate: float) -> tuple[int, float]:
    """Return the smallest level, a signed 16-bit number, that is not dropped, and its factor.

    Args:
        rate: probability of a zero, in [0, 1).
    """
    dropped_levels = min(LEVELS - 1, round(rate * LEVELS))
    return dropped_levels - LEVELS // 2, LEVELS / (LEVELS - dropped_levels)
