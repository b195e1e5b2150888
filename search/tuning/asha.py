"""Asynchronous successive halving (ASHA) whose rungs can be rebuilt from a ledger.

Source: L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in the
stopping form of Ray Tune's `AsyncHyperBandScheduler` with one bracket: a trial that reaches a
rung goes on if its value is at least the (1 - 1/reduction_factor) quantile of the values that
reached this rung before. A test holds the two to the same decisions.

The decisions are a function of the order of the reports, and of nothing else: no clock, no random
generator, no cluster. Feeding a ledger's epochs through `record` gives the same rungs again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from celltune.search.config.schema import EarlyStopping, SearchConfig
from celltune.search.types import sign


@dataclass(frozen=True)
class Rung:
    """The values that trials had when they reached `epoch`."""

    epoch: int
    values: dict[int, float]


class SuccessiveHalving:
    """Decides after each epoch whether a trial goes on. Values: more is better."""

    def __init__(self, *, grace_period: int, reduction_factor: float, max_epochs: int) -> None:
        """Set up empty rungs.

        Args:
            grace_period: epochs that every trial gets; the first rung.
            reduction_factor: of the trials that reach a rung, about 1 in this many goes on.
            max_epochs: the budget of a trial.
        """
        self.reduction_factor = reduction_factor
        self.rungs: list[Rung] = []
        milestone = float(grace_period)
        while math.ceil(milestone) < max_epochs:
            if not self.rungs or self.rungs[-1].epoch < math.ceil(milestone):
                self.rungs.append(Rung(math.ceil(milestone), {}))
            milestone *= reduction_factor

    def record(self, number: int, epoch: int, value: float) -> bool:
        """Take in a trial's value after an epoch.

        Args:
            number: the trial.
            epoch: epochs trained so far, from 1.
            value: its metric now; more is better.

        Returns:
            True if the trial goes on, False if it stops here.
        """
        for rung in self.rungs:
            if rung.epoch == epoch and number not in rung.values:
                earlier = list(rung.values.values())
                rung.values[number] = value
                return self._stands(value, earlier)
        return True

    def would_pass(self, number: int) -> bool:
        """Whether a trial is among those that pass its last rung, by all that is known now."""
        values = next((r.values for r in reversed(self.rungs) if number in r.values), None)
        return values is None or self._stands(values[number], list(values.values()))

    def _stands(self, value: float, earlier: list[float]) -> bool:
        if not earlier:
            return True
        return value >= float(np.percentile(earlier, (1 - 1 / self.reduction_factor) * 100))


class Rungs:
    """Successive halving as a config asks for it, over the metrics that trials report."""

    def __init__(self, stopping: EarlyStopping, max_epochs: int) -> None:
        """Set up empty rungs."""
        self._by = stopping.by
        self._best: dict[int, float] = {}
        self._halving = SuccessiveHalving(
            grace_period=stopping.grace_period,
            reduction_factor=stopping.reduction_factor,
            max_epochs=max_epochs,
        )

    @property
    def epochs(self) -> list[int]:
        """After which of them trials are judged."""
        return [rung.epoch for rung in self._halving.rungs]

    def take(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take in a trial's epoch; says whether the trial goes on.

        A rung compares the best value of each trial until there: what decides in the end is a
        trial's best epoch too, and a model that begins to overfit isn't worse for it.
        """
        value = sign(self._by) * metrics[self._by]
        self._best[number] = max(value, self._best.get(number, value))
        return self._halving.record(number, epoch, self._best[number])

    def would_pass(self, number: int) -> bool:
        """Whether a trial is among those that pass its last rung, by all that is known now."""
        return self._halving.would_pass(number)


def make_rungs(config: SearchConfig) -> Rungs | None:
    """Set up the empty rungs that a config asks for; None without early stopping."""
    if config.early_stopping is None:
        return None
    return Rungs(config.early_stopping, config.budget.max_epochs)
