"""The strategies that `benchmarks/regret.py` compares, each behind the same two methods."""

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
from celltune.search.types import EpochReport


class Random:
    """Random search: every trial gets all its epochs."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        sampler = optuna.samplers.RandomSampler(seed=seed)
        self._study = optuna.create_study(sampler=sampler)

    def propose(self, number: int) -> Mapping[str, Any]:  # noqa: ARG002
        return self._space.suggest(self._study.ask())

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:  # noqa: ARG002
        return True


class Stock:
    """Ray's OptunaSearch and ASHAScheduler as they come, called as Ray Tune's loop calls them."""

    def __init__(self, space: Space, seed: int, epochs: int) -> None:
        self._search = OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed))
        searched = {name: _domain(kept) for name, kept in space.searched.items()}
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


def _domain(kept: Dimension) -> Any:
    if isinstance(kept, Choice):
        return tune.choice(list(kept.values))
    if kept.integer:
        low, high = int(kept.low), int(kept.high) + 1  # Ray's bound is exclusive
        return tune.lograndint(low, high) if kept.log else tune.randint(low, high)
    return tune.loguniform(kept.low, kept.high) if kept.log else tune.uniform(kept.low, kept.high)


class Nowhere:
    """Where the ledger of a search is kept that nobody resumes."""

    where = "memory"

    def open(self) -> list[Event]:
        return []

    def write(self, first: int, count: int, data: bytes) -> None:
        """Keep nothing beyond what the ledger holds itself."""

    def close(self) -> None:
        """There is nothing to close."""


class Celltune:
    """Our conductor itself, over a ledger in memory."""

    def __init__(self, config: SearchConfig) -> None:
        ledger = Ledger(Nowhere())
        ledger.append(ExperimentCreated(at=0.0, fingerprint="curves"))
        self._conductor = SearchController(config, ledger, clock=lambda: 0.0)

    def propose(self, number: int) -> Mapping[str, Any]:
        assignment = self._conductor.next()
        if assignment is None or assignment.number != number:
            raise RuntimeError(f"the conductor gave {assignment} as trial {number}")
        return assignment.params

    def report(self, number: int, epoch: int, metrics: dict[str, float]) -> bool:
        return self._conductor.report(number, [EpochReport(epoch, metrics, None)])


def interval(
    ours: np.ndarray, theirs: np.ndarray, generator: np.random.Generator, draws: int = 10_000
) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of two means, the seeds of each drawn by themselves."""
    one, other = (
        side[generator.integers(0, len(side), (draws, len(side)))].mean(axis=1)
        for side in (ours, theirs)
    )
    low, high = np.quantile(one / other, [0.025, 0.975])
    return float(low), float(high)
