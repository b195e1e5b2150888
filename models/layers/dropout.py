"""Dropout that draws little and from a generator of one's own.

torch draws one float a value, which costs more than a small recurrent layer does. Here one 64-bit
draw decides four values: 16 bits each, so a share is met to 1/65,536.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 1 << 16


def dropout(
    values: Tensor, share: float, training: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Zero a share of the values and scale the others so that the mean stays (Srivastava 2014).

    Args:
        values: any shape; left as they are.
        share: the probability of a zero, in [0, 1).
        training: False returns ``values`` themselves.
        generator: on the device of ``values``; torch's global one if None.

    Returns:
        Of the shape, memory layout and type of ``values``.
    """
    if not training or share == 0.0:
        return values
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device)
    draws.random_(-(1 << 63), None, generator=generator)
    levels = draws.view(torch.int16)[: values.numel()]
    dropped = min(LEVELS - 1, round(share * LEVELS))
    keep = (levels >= dropped - LEVELS // 2).to(values.dtype)
    keep.mul_(LEVELS / (LEVELS - dropped))
    return values * keep.view(values.shape)
