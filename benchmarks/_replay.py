"""Searches replayed over recorded learning curves, on a virtual clock with several workers.

A method proposes parameters; what it gets is the recorded configuration nearest to them that its
search hasn't had yet: the same values of every choice, and over the ranges the least Euclidean
distance in the unit cube (logarithmic where the space is). Where all with the same choices are used
up, it is one with the fewest other choices. So no method gets a curve twice, as no real search
trains twice what it trained before, and every method is told the true curve of a neighbour of what
it proposed.
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
    """One recorded configuration, an item an epoch."""

    params: Mapping[str, Any]
    valid_accuracy: list[float]
    valid_loss: list[float]
    seconds: list[float]


class Method(Protocol):
    """A search strategy."""

    def propose(self, number: int) -> Mapping[str, Any]:
        """Give the parameters of trial `number`."""

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:
        """Take in an epoch, from 1; says whether the trial goes on."""


def load_curves(path: Path) -> list[Curve]:
    fields = ("params", "valid_accuracy", "valid_loss", "seconds")
    recorded = json.loads(path.read_text())["curves"]
    return [Curve(*(curve[name] for name in fields)) for curve in recorded]


class Table:
    """The recorded configurations as points of a space."""

    def __init__(self, curves: list[Curve], space: Space) -> None:
        self.curves = curves
        self.epochs = len(curves[0].valid_accuracy)
        self._choices = {n: d for n, d in space.searched.items() if isinstance(d, Choice)}
        self._ranges = {n: d for n, d in space.searched.items() if isinstance(d, Range)}
        self._points = np.array([self._point(curve.params) for curve in curves])
        self._chosen = np.array([self._choice(curve.params) for curve in curves])

    def _point(self, params: Mapping[str, Any]) -> list[float]:
        return [_position(params[name], kept) for name, kept in self._ranges.items()]

    def _choice(self, params: Mapping[str, Any]) -> list[int]:
        return [kept.values.index(params[name]) for name, kept in self._choices.items()]

    def nearest(self, params: Mapping[str, Any], left: list[int]) -> int:
        """Give the index of the nearest of the configurations that are `left`."""
        apart = np.linalg.norm(self._points[left] - np.array(self._point(params)), axis=1)
        other = (self._chosen[left] != np.array(self._choice(params))).sum(axis=1)
        # A distance within the ranges never outweighs a choice.
        return left[int((other * (1 + math.sqrt(len(self._ranges))) + apart).argmin())]

    def best(self, count: int) -> float:
        """Give the mean of the best epochs of the best configurations."""
        return float(np.mean(sorted(max(c.valid_accuracy) for c in self.curves)[-count:]))


def _position(value: float, kept: Range) -> float:
    low, high = kept.low, kept.high
    if kept.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


@dataclass(frozen=True)
class Replay:
    """What a search came to on the virtual clock."""

    steps: list[tuple[float, float]]
    """(seconds, best validation accuracy so far), one each time that it rose."""
    trials: int
    epochs: int

    def time_to(self, target: float, budget: float) -> float:
        """Seconds until the best is at least `target`; `budget` if that wasn't within it."""
        return min(budget, next((at for at, best in self.steps if best >= target), budget))

    def best_at(self, seconds: float) -> float:
        """The best validation accuracy found until then; 0 before the first epoch."""
        return max((best for at, best in self.steps if at <= seconds), default=0.0)


def replay(method: Method, table: Table, *, workers: int, budget: float) -> Replay:
    """Run a search until its time is up or every configuration was tried."""
    left = list(range(len(table.curves)))
    waiting: list[tuple[float, int, int, int]] = []  # (when, trial, configuration, epoch)
    steps: list[tuple[float, float]] = []
    trials = epochs = 0

    def begin(now: float) -> None:
        nonlocal trials
        if left:
            index = table.nearest(method.propose(trials), left)
            left.remove(index)
            heapq.heappush(waiting, (now + table.curves[index].seconds[0], trials, index, 1))
            trials += 1

    for _ in range(workers):
        begin(0.0)
    while waiting and waiting[0][0] <= budget:
        now, number, index, epoch = heapq.heappop(waiting)
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
            heapq.heappush(waiting, (now + curve.seconds[epoch], number, index, epoch + 1))
        else:
            begin(now)
    return Replay(steps, trials, epochs)
