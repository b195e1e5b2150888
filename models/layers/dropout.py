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
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device)
    draws.random_(-(1 << 63), None, generator=generator)
    levels = draws.view(torch.int16)[: values.numel()]
    dropped_levels = min(LEVELS - 1, round(rate * LEVELS))
    factors = (levels >= dropped_levels - LEVELS // 2).to(values.dtype)
    factors.mul_(LEVELS / (LEVELS - dropped_levels))
    return values * factors.view(values.shape)
