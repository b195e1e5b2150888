"""The search strategies that `benchmarks/regret.py` compares."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Dimension, Space
from celltune.search.ledger.events import Event, ExperimentCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.packing import PackShape
from celltune.search.types import EpochReport


class Random:
    """Random search without early stopping."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        sampler = optuna.samplers.RandomSampler(seed=seed)
        self._study = optuna.create_study(sampler=sampler)

    def propose(self, number: int) -> Mapping[str, Any]:  # noqa: ARG002
        return self._space.suggest(self._study.ask())

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:  # noqa: ARG002
        return True


class Stock:
    """Ray's OptunaSearch and ASHAScheduler with default settings, called as by Ray Tune."""

    def __init__(self, space: Space, seed: int, epochs: int) -> None:
        self._search = OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed))
        searched = {name: _domain(dimension) for name, dimension in space.searched.items()}
        self._search.set_search_properties("valid_accuracy", "max", {**space.fixed, **searched})
        self._asha = AsyncHyperBandScheduler(max_t=epochs)
        self._asha.set_search_properties("valid_accuracy", "max")
        self._fixed = space.fixed

    def propose(self, number: int) -> Mapping[str, Any]:
        self._asha.on_trial_add(None, SimpleNamespace(trial_id=str(number)))
        return {**self._fixed, **(self._search.suggest(str(number)) or {})}

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:
        trial = SimpleNamespace(trial_id=str(number))
        result = {**metrics, "training_iteration": epoch}
        if self._asha.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            self._search.on_trial_result(str(number), result)
            return True
        self._asha.on_trial_complete(None, trial, result)
        self._search.on_trial_complete(str(number), result)
        return False


def _domain(dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return tune.choice(list(dimension.values))
    if dimension.integer:
        low, high = int(dimension.low), int(dimension.high) + 1  # Ray's bound is exclusive
        return tune.lograndint(low, high) if dimension.log else tune.randint(low, high)
    return (
        tune.loguniform(dimension.low, dimension.high)
        if dimension.log
        else tune.uniform(dimension.low, dimension.high)
    )


class DiscardedLedger:
    """Ledger file of a search that is never resumed."""

    where = "memory"

    def open(self) -> list[Event]:
        return []

    def write(self, first: int, count: int, data: bytes) -> None:
        """Discard the data; the ledger keeps its events in memory."""

    def close(self) -> None:
        """Do nothing."""


class Celltune:
    """celltune's controller with a ledger in memory."""

    def __init__(self, config: SearchConfig, trials_per_worker: int = 1) -> None:
        ledger = Ledger(DiscardedLedger())
        ledger.append(ExperimentCreated(at=0.0, fingerprint="curves"))
        self._controller = SearchController(
            config, ledger, clock=lambda: 0.0, trials_per_worker=trials_per_worker
        )

    def next(self, shape: PackShape | None) -> tuple[int, Mapping[str, Any]] | None:
        assignment = self._controller.next(shape)
        return None if assignment is None else (assignment.number, assignment.params)

    def propose(self, number: int) -> Mapping[str, Any]:
        assignment = self._controller.next()
        if assignment is None or assignment.number != number:
            raise RuntimeError(f"The controller assigned {assignment} instead of trial {number}.")
        return assignment.params

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:
        return self._controller.report(number, [EpochReport(epoch, metrics, None)])


def interval(
    ours: np.ndarray, theirs: np.ndarray, generator: np.random.Generator, draws: int = 10_000
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the ratio of two means of independent samples."""
    one, other = (
        side[generator.integers(0, len(side), (draws, len(side)))].mean(axis=1)
        for side in (ours, theirs)
    )
    low, high = np.quantile(one / other, [0.025, 0.975])
    return float(low), float(high)
