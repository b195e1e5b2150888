"""Optuna's TPE, told the truth. The only module of the search path that imports Optuna.

The study mirrors the ledger: trial numbers are the ledger's, every finished epoch is an
intermediate value, a trial that used its epochs is COMPLETE with its best value, one that ASHA
stopped is PRUNED, one that broke is FAIL, and only trials that still run are RUNNING.

A proposal depends on (experiment seed, trial number) and on what the study holds, so it is the
same whether or not the search was resumed in between.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from celltune.search.config.space import Choice, Dimension, Space
from celltune.search.ledger.events import PriorTrial
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import Metric, ParameterValue, sign

_STATES = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Give Optuna's form of a searched dimension."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.integer:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


class TPESampler:
    """Proposes parameters and keeps an Optuna study equal to the ledger."""

    def __init__(
        self,
        space: Space,
        *,
        metric: Metric,
        seed: int,
        startup_trials: int,
        prior: Sequence[PriorTrial] = (),
    ) -> None:
        """Set up a study that knows nothing but `prior`.

        Args:
            space: what is searched.
            metric: what decides.
            seed: the experiment's seed.
            startup_trials: trials drawn at random before TPE begins to model them; those of
                `prior` count.
            prior: what an earlier search learned. Its trials come first in the study, so that
                the ledger's trial 0 is the study's trial `len(prior)`.
        """
        self._first = len(prior)
        self._space = space
        self._metric = metric
        self._seed = seed
        self._startup_trials = startup_trials
        self._running: dict[int, optuna.Trial] = {}
        self.study = optuna.create_study(
            direction="maximize" if sign(metric) > 0 else "minimize", sampler=self._sampler(0)
        )
        self.study.add_trials([self._known(trial) for trial in prior])

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        with warnings.catch_warnings():
            # `group` is marked experimental; without it conditional parameters break multivariate.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=self._startup_trials,
                seed=int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0]),
            )

    def replay(self, state: ExperimentState) -> None:
        """Bring an empty study to what a ledger says; unfinished trials become RUNNING."""
        for trial in state.trials:
            if trial.status == "unfinished":
                self.study.enqueue_trial(self._searched(trial))
                self._space.suggest(self._ask(trial.number))
                for epoch in trial.epochs:
                    self.report(trial.number, epoch.epoch, epoch.metrics[self._metric])
            else:
                self.study.add_trial(self._frozen(trial))

    def propose(self, number: int) -> dict[str, ParameterValue]:
        """Propose the parameters of trial `number`, which is RUNNING from now on."""
        return self._space.suggest(self._ask(number))

    def report(self, number: int, epoch: int, value: float) -> None:
        """Tell the study the value of a running trial after an epoch."""
        self._running[number].report(value, epoch)

    def finish(self, trial: TrialRecord) -> None:
        """Tell the study how a running trial ended."""
        state = _STATES[trial.status]
        # Optuna gives a PRUNED trial its last intermediate value by itself, and refuses another.
        value = self._value(trial) if state == TrialState.COMPLETE else None
        self.study.tell(self._first + trial.number, value, state=state)
        del self._running[trial.number]

    def _ask(self, number: int) -> optuna.Trial:
        self.study.sampler = self._sampler(number)
        trial = self.study.ask()
        if trial.number != self._first + number:
            raise RuntimeError(
                f"the study is at trial {trial.number - self._first}, the ledger at {number}"
            )
        self._running[number] = trial
        return trial

    def _value(self, trial: TrialRecord) -> float | None:
        if trial.status == "completed":
            return trial.best_value(self._metric)
        if trial.status == "pruned":
            return trial.epochs[-1].metrics[self._metric]
        return None

    def _searched(self, trial: TrialRecord) -> dict[str, ParameterValue]:
        return {name: trial.params[name] for name in self._space.searched if name in trial.params}

    def _frozen(self, trial: TrialRecord) -> FrozenTrial:
        return self._ended(
            trial.status,
            self._value(trial),
            self._searched(trial),
            {epoch.epoch: epoch.metrics[self._metric] for epoch in trial.epochs},
        )

    def _known(self, trial: PriorTrial) -> FrozenTrial:
        last = trial.values[max(trial.values)]
        best = max(trial.values.values(), key=lambda value: sign(self._metric) * value)
        value = best if trial.status == "completed" else last
        return self._ended(trial.status, value, trial.params, trial.values)

    def _ended(
        self,
        status: str,
        value: float | None,
        params: Mapping[str, ParameterValue],
        values: Mapping[int, float],
    ) -> FrozenTrial:
        return create_trial(
            state=_STATES[status],
            value=value,
            params=dict(params),
            distributions={name: distribution(self._space.searched[name]) for name in params},
            intermediate_values=dict(values),
        )
