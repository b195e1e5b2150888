"""Dropout of several trials, each with its own rate and its own random numbers.

Shapes: N trials; other axes as in the tensors that `layers.dropout` receives in a single run.

A trial draws exactly the numbers of its single run, in the same order. Only the draws are separate
calls; everything else is one operation for all trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from celltune.models.layers.dropout import draw, draws_for, threshold_and_scale

Shape = tuple[int, ...]


class PackedDropout:
    """Dropout at one place of N models."""

    def __init__(
        self,
        rates: Sequence[float],
        generators: Sequence[torch.Generator],
        device: torch.device,
        *,
        scaled: bool = True,
    ) -> None:
        """Store the settings of each trial.

        Args:
            rates: probability of a zero, in [0, 1).
            generators: on the device.
            device: the device of the values.
            scaled: whether the remaining values are scaled up.
        """
        self._rates, self._generators = tuple(rates), tuple(generators)
        settings = [threshold_and_scale(rate) for rate in rates]
        thresholds = [threshold for threshold, _ in settings]
        self._thresholds = torch.tensor(thresholds, dtype=torch.int16, device=device)
        self._scales = torch.tensor(
            [scale if scaled else 1.0 for _, scale in settings], device=device
        )

    @property
    def active(self) -> bool:
        """Whether any trial drops values."""
        return any(self._rates)

    def __call__(self, values: Tensor, shapes: Sequence[Shape]) -> Tensor:
        """Drop values whose positions are those of the single run, padded at the end of each axis.

        Args:
            values: (N, ...).
            shapes: the shape of each trial's values in its single run.

        Returns:
            A tensor like `values`. Values outside of `shapes` are unspecified.
        """
        if not self.active:
            return values
        padded = tuple(values.shape[1:])
        draws, levels = self._empty(values, padded)
        for trial, (shape, row) in enumerate(zip(shapes, draws, strict=True)):
            count = math.prod(shape)
            if not self._rates[trial] or not count:
                continue
            if shape[1:] == padded[1:]:
                draw(row[: draws_for(count)], self._generators[trial])
            else:
                own = torch.empty(draws_for(count), dtype=torch.int64, device=values.device)
                draw(own, self._generators[trial])
                target = levels[trial][tuple(map(slice, shape))]
                target.copy_(own.view(torch.int16)[:count].view(shape))
        return self._apply(values, levels)

    def _empty(self, values: Tensor, shape: Shape) -> tuple[Sequence[Tensor], Tensor]:
        """Return the memory of the draws: int64 rows, and the same as int16 (N, *shape)."""
        count = math.prod(shape)
        draws = torch.empty(
            (len(values), draws_for(count)), dtype=torch.int64, device=values.device
        )
        return draws.unbind(0), draws.view(torch.int16)[:, :count].view(len(values), *shape)

    def _apply(self, values: Tensor, levels: Tensor) -> Tensor:
        axes = (-1, *(1,) * (values.dim() - 1))
        kept = levels >= self._thresholds.view(axes)
        scales = self._scales.to(values.dtype).view(axes)
        return values * (kept * scales)
