"""Asynchronous successive halving (ASHA), the default early-stopping rule.

Source: L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in the
stopping variant of Ray Tune's `AsyncHyperBandScheduler` with one bracket: a trial that reaches a
rung continues if its value is at least the (1 - 1/reduction_factor) quantile of the values of the
trials that reached this rung before. A test compares the decisions with those of Ray Tune.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from celltune.search.objective import sign
from celltune.search.tuning.base import EarlyStoppingRule, EarlyStoppingSettings


class AshaSettings(EarlyStoppingSettings):
    """Settings of ASHA."""

    title: ClassVar[str] = "ASHA"

    grace_period: int = Field(1, ge=1)
    """Number of epochs that every trial is trained for; the first rung."""
    reduction_factor: float = Field(3.0, gt=1, le=100)
    """About one in this many trials continues at each rung; each rung has this many times the
    epochs of the one before it."""

    def check_budget(self, max_epochs: int) -> None:
        """Check that the first rung can be reached."""
        if self.grace_period > max_epochs:
            raise ValueError(
                f"early_stopping.grace_period is {self.grace_period}, above budget.max_epochs, "
                f"which is {max_epochs}. Set it to at most {max_epochs}."
            )

    def describe(self) -> str:
        """Return the settings in a few words."""
        return (
            f"{super().describe()} from epoch {self.grace_period} with factor "
            f"{self.reduction_factor:g}"
        )


@dataclass(frozen=True)
class Rung:
    """A rung: the best values of the trials that reached its epoch."""

    epoch: int
    values: dict[int, float]
    """The best value of each trial up to `epoch`, by trial number; larger is better."""


class Asha(EarlyStoppingRule):
    """Asynchronous successive halving, by each trial's best value so far.

    The best value is used because a trial is ranked by its best epoch: a model that has begun to
    overfit is not worse for it.
    """

    Settings = AshaSettings

    def __init__(self, settings: AshaSettings, max_epochs: int) -> None:
        """Create empty rungs below `max_epochs`."""
        self._metric = settings.by
        self._sign = sign(settings.by)
        self._reduction_factor = settings.reduction_factor
        self._best: dict[int, float] = {}
        self._rungs: list[Rung] = []
        milestone = float(settings.grace_period)
        while math.ceil(milestone) < max_epochs:
            # A factor below 2 can round to the same epoch twice.
            if not self._rungs or self._rungs[-1].epoch < math.ceil(milestone):
                self._rungs.append(Rung(math.ceil(milestone), {}))
            milestone *= settings.reduction_factor

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are compared."""
        return tuple(rung.epoch for rung in self._rungs)

    def take(self, trial: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Record the metrics of an epoch; return False if the trial is to be pruned."""
        value = self._sign * metrics[self._metric]
        best = self._best[trial] = max(value, self._best.get(trial, value))
        for rung in self._rungs:
            if rung.epoch == epoch and trial not in rung.values:
                earlier = list(rung.values.values())
                rung.values[trial] = best
                return self._passes(best, earlier)
        return True

    def may_extend(self, trial: int) -> bool:
        """Return whether a trial passes its last rung when compared with all trials there."""
        reached = next((r.values for r in reversed(self._rungs) if trial in r.values), None)
        return reached is None or self._passes(reached[trial], list(reached.values()))

    def _passes(self, value: float, others: list[float]) -> bool:
        if not others:
            return True
        import numpy as np

        return value >= float(np.percentile(others, (1 - 1 / self._reduction_factor) * 100))
