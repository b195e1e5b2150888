"""Simulation of searches on recorded learning curves, with several workers and a virtual clock.

A method proposes hyperparameters and gets the learning curve of the nearest recorded configuration
that its search has not used yet. The nearest configuration has the same categorical values (if none
is left: the fewest different ones) and the smallest Euclidean distance in the unit cube of the
ranges (logarithmic where the space is). A search thus never gets a curve twice, and every curve was
recorded for a neighbour of the proposal.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from celltune.search.config.space import Choice, Range, Space


@dataclass(frozen=True)
class Curve:
    """Recorded configuration; the lists have one item per epoch."""

    params: Mapping[str, Any]
    valid_accuracy: list[float]
    valid_loss: list[float]
    seconds: list[float]


class Method(Protocol):
    """A search strategy."""

    def propose(self, number: int) -> Mapping[str, Any]:
        """Return the hyperparameters of trial `number`."""

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:
        """Report an epoch (from 1); return whether the trial continues."""


def load_curves(path: Path) -> list[Curve]:
    fields = ("params", "valid_accuracy", "valid_loss", "seconds")
    recorded = json.loads(path.read_text())["curves"]
    return [Curve(*(curve[name] for name in fields)) for curve in recorded]


class Table:
    """Recorded configurations as points of a space."""

    def __init__(self, curves: list[Curve], space: Space) -> None:
        self.curves = curves
        self.epochs = len(curves[0].valid_accuracy)
        self._choices = {n: d for n, d in space.searched.items() if isinstance(d, Choice)}
        self._ranges = {n: d for n, d in space.searched.items() if isinstance(d, Range)}
        self._points = np.array([self._point(curve.params) for curve in curves])
        self._chosen = np.array([self._choice(curve.params) for curve in curves])

    def _point(self, params: Mapping[str, Any]) -> list[float]:
        return [_position(params[name], dimension) for name, dimension in self._ranges.items()]

    def _choice(self, params: Mapping[str, Any]) -> list[int]:
        return [choice.values.index(params[name]) for name, choice in self._choices.items()]

    def nearest(self, params: Mapping[str, Any], unused: list[int]) -> int:
        """Return the index of the configuration in `unused` that is nearest to `params`."""
        distances = np.linalg.norm(self._points[unused] - np.array(self._point(params)), axis=1)
        mismatches = (self._chosen[unused] != np.array(self._choice(params))).sum(axis=1)
        # One different choice weighs more than the largest possible distance.
        weight = 1 + math.sqrt(len(self._ranges))
        return unused[int((mismatches * weight + distances).argmin())]

    def best(self, count: int) -> float:
        """Return the mean of the best validation accuracies of the `count` best configurations."""
        return float(np.mean(sorted(max(c.valid_accuracy) for c in self.curves)[-count:]))


def _position(value: float, dimension: Range) -> float:
    """Return the position of a value in its range, from 0 to 1."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


@dataclass(frozen=True)
class Replay:
    """Result of a simulated search."""

    steps: list[tuple[float, float]]
    """(seconds, best validation accuracy so far) at each improvement."""
    trials: int
    epochs: int

    def time_to(self, target: float, budget: float) -> float:
        """Return the seconds until the best accuracy reaches `target`, at most `budget`."""
        return min(budget, next((time for time, best in self.steps if best >= target), budget))

    def best_at(self, seconds: float) -> float:
        """Return the best validation accuracy at a time; 0 before the first epoch."""
        return max((best for time, best in self.steps if time <= seconds), default=0.0)


def replay(method: Method, table: Table, *, workers: int, budget: float) -> Replay:
    """Simulate a search until its budget or the configurations are used up."""
    unused = list(range(len(table.curves)))
    epoch_ends: list[tuple[float, int, int, int]] = []  # (time, trial, configuration, epoch)
    steps: list[tuple[float, float]] = []
    trials = epochs = 0

    def start_trial(now: float) -> None:
        nonlocal trials
        if unused:
            index = table.nearest(method.propose(trials), unused)
            unused.remove(index)
            heapq.heappush(epoch_ends, (now + table.curves[index].seconds[0], trials, index, 1))
            trials += 1

    for _ in range(workers):
        start_trial(0.0)
    while epoch_ends and epoch_ends[0][0] <= budget:
        now, number, index, epoch = heapq.heappop(epoch_ends)
        curve, epochs = table.curves[index], epochs + 1
        accuracy = curve.valid_accuracy[epoch - 1]
        if not steps or accuracy > steps[-1][1]:
            steps.append((now, accuracy))
        metrics = {
            "valid_accuracy": accuracy,
            "valid_loss": curve.valid_loss[epoch - 1],
            "seconds": curve.seconds[epoch - 1],
        }
        if method.report(number, epoch, metrics) and epoch < table.epochs:
            heapq.heappush(epoch_ends, (now + curve.seconds[epoch], number, index, epoch + 1))
        else:
            start_trial(now)
    return Replay(steps, trials, epochs)
