"""Simulation of searches on recorded learning curves, with several workers and a virtual clock.

A method proposes hyperparameters and gets the learning curve of the nearest recorded configuration
that its search has not used yet. The nearest configuration has the same categorical values (if none
is left: the fewest different ones) and the smallest Euclidean distance in the unit cube of the
ranges (logarithmic where the space is). A search thus never gets a curve twice, and every curve was
recorded for a neighbour of the proposal.

Packed trials: the workers' throughput is divided equally among lanes. A lane trains up to
`per_lane` trials of one shape in lockstep: the epochs of its trials start and end together. With
equal throughput, an epoch of a lane takes the sum of the recorded seconds of its trials, divided by
the lane's share of the workers; a lane that is not full costs only what it trains. If `idle_slots`
cost time, it takes as long as if all slots were in use (by the mean of the recorded seconds of its
trials, as trials of one shape take the same time). An unpacked search with the same parallelism has
as many trials running as there are slots, each of them slower by the number of slots per worker.
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
from celltune.search.tuning.packing import PackShape, shape_of


@dataclass(frozen=True)
class Curve:
    """Recorded configuration; the lists have one item per epoch."""

    params: Mapping[str, Any]
    valid_accuracy: list[float]
    valid_loss: list[float]
    seconds: list[float]


class PackedMethod(Protocol):
    """A search strategy that packs trials."""

    def next(self, shape: PackShape | None) -> tuple[int, Mapping[str, Any]] | None:
        """Return the number and the hyperparameters of a new trial, of a shape if one is given."""

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:
        """Report an epoch (from 1); return whether the trial continues."""


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

    def same_choices(self, params: Mapping[str, Any], index: int) -> bool:
        """Return whether a configuration has the categorical values of `params`."""
        return list(self._chosen[index]) == self._choice(params)

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
    filled: float = 1.0
    """Share of the slots of lanes that trained a trial, over all epochs of lanes."""
    same_choices: int = 0
    """Number of trials whose recorded configuration has the categorical values proposed."""

    def time_to(self, target: float, budget: float) -> float:
        """Return the seconds until the best accuracy reaches `target`, at most `budget`."""
        return min(budget, next((time for time, best in self.steps if best >= target), budget))

    def best_at(self, seconds: float) -> float:
        """Return the best validation accuracy at a time; 0 before the first epoch."""
        return max((best for time, best in self.steps if time <= seconds), default=0.0)


def _metrics(curve: Curve, epoch: int) -> dict[str, float]:
    return {
        "valid_accuracy": curve.valid_accuracy[epoch - 1],
        "valid_loss": curve.valid_loss[epoch - 1],
        "seconds": curve.seconds[epoch - 1],
    }


def _reached(steps: list[tuple[float, float]], target: float) -> bool:
    return bool(steps) and steps[-1][1] >= target


def replay(
    method: Method,
    table: Table,
    *,
    workers: int,
    budget: float,
    slowness: float = 1.0,
    target: float = math.inf,
) -> Replay:
    """Simulate a search until its budget or the configurations are used up.

    Args:
        method: the strategy.
        table: the recorded configurations.
        workers: number of trials that run at the same time.
        budget: seconds on the virtual clock.
        slowness: factor by which an epoch takes longer than when it was recorded.
        target: accuracy at which the search ends.
    """
    unused = list(range(len(table.curves)))
    epoch_ends: list[tuple[float, int, int, int]] = []  # (time, trial, configuration, epoch)
    steps: list[tuple[float, float]] = []
    trials = epochs = same = 0

    def start_trial(now: float) -> None:
        nonlocal trials, same
        if unused:
            params = method.propose(trials)
            index = table.nearest(params, unused)
            same += table.same_choices(params, index)
            unused.remove(index)
            seconds = slowness * table.curves[index].seconds[0]
            heapq.heappush(epoch_ends, (now + seconds, trials, index, 1))
            trials += 1

    for _ in range(workers):
        start_trial(0.0)
    while epoch_ends and epoch_ends[0][0] <= budget and not _reached(steps, target):
        now, number, index, epoch = heapq.heappop(epoch_ends)
        curve, epochs = table.curves[index], epochs + 1
        accuracy = curve.valid_accuracy[epoch - 1]
        if not steps or accuracy > steps[-1][1]:
            steps.append((now, accuracy))
        if method.report(number, epoch, _metrics(curve, epoch)) and epoch < table.epochs:
            seconds = slowness * curve.seconds[epoch]
            heapq.heappush(epoch_ends, (now + seconds, number, index, epoch + 1))
        else:
            start_trial(now)
    return Replay(steps, trials, epochs, same_choices=same)


@dataclass(frozen=True)
class Lanes:
    """How a packed search shares the throughput of its workers."""

    count: int
    per_lane: int
    workers: int
    idle_slots: bool
    """Whether idle slots cost time."""

    def seconds(self, recorded: list[float]) -> float:
        """Return the seconds of an epoch of a lane whose trials took `recorded` seconds."""
        slots = self.per_lane if self.idle_slots else len(recorded)
        return slots * float(np.mean(recorded)) * self.count / self.workers


class _Lane:
    def __init__(self, method: PackedMethod, table: Table, unused: list[int]) -> None:
        self._method, self._table, self._unused = method, table, unused
        self._shape: PackShape | None = None
        self.trials: dict[int, tuple[Curve, int]] = {}
        """Curves and the epochs being trained, by the numbers of trials."""
        self.same_choices = 0

    def fill(self, slots: int) -> int:
        """Start trials while there are free slots; return how many."""
        before = len(self.trials)
        while len(self.trials) < slots and self._unused:
            started = self._method.next(self._shape if self.trials else None)
            if started is None:
                break
            number, params = started
            if not self.trials:
                self._shape = shape_of(params)
            index = self._table.nearest(params, self._unused)
            self.same_choices += self._table.same_choices(params, index)
            self._unused.remove(index)
            self.trials[number] = self._table.curves[index], 1
        return len(self.trials) - before

    def end_epoch(self) -> float:
        """Report the epoch of all trials; return the best accuracy."""
        results = {n: curve.valid_accuracy[epoch - 1] for n, (curve, epoch) in self.trials.items()}
        for number, (curve, epoch) in list(self.trials.items()):
            if self._method.report(number, epoch, _metrics(curve, epoch)):
                self.trials[number] = curve, epoch + 1
            else:
                del self.trials[number]
        return max(results.values())


def replay_packed(
    method: PackedMethod, table: Table, lanes: Lanes, *, budget: float, target: float
) -> Replay:
    """Simulate a packed search until it reaches the target or its budget is used up."""
    unused = list(range(len(table.curves)))
    running = [_Lane(method, table, unused) for _ in range(lanes.count)]
    epoch_ends: list[tuple[float, int]] = []  # (time, lane)
    steps: list[tuple[float, float]] = []
    trials = epochs = lane_epochs = 0

    def start_epoch(now: float, number: int) -> None:
        nonlocal trials
        lane = running[number]
        trials += lane.fill(lanes.per_lane)
        if lane.trials:
            recorded = [curve.seconds[epoch - 1] for curve, epoch in lane.trials.values()]
            heapq.heappush(epoch_ends, (now + lanes.seconds(recorded), number))

    for number in range(lanes.count):
        start_epoch(0.0, number)
    while epoch_ends and epoch_ends[0][0] <= budget and not _reached(steps, target):
        now, number = heapq.heappop(epoch_ends)
        epochs, lane_epochs = epochs + len(running[number].trials), lane_epochs + 1
        accuracy = running[number].end_epoch()
        if not steps or accuracy > steps[-1][1]:
            steps.append((now, accuracy))
        start_epoch(now, number)
    filled = epochs / max(1, lane_epochs * lanes.per_lane)
    return Replay(steps, trials, epochs, filled, sum(lane.same_choices for lane in running))
