"""An Optuna study that mirrors a ledger.

Trial numbers are those of the ledger (after the trials of a warm start), every finished epoch is an
intermediate value, a completed trial is COMPLETE with its best value, a pruned one is PRUNED, a
failed one is FAIL, and an unfinished one is RUNNING. A withdrawn proposal is an additional FAIL,
which no Optuna sampler learns from; the numbers of later trials are higher by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from celltune.search.config.space import Choice, Dimension, Space
from celltune.search.ledger.events import PriorTrial
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.objective import sign
from celltune.search.types import Metric, ParameterValue

_STATES = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

_HIDDEN_VALUES = "tpe:relative_params"
"""Prefix of the attributes in which Optuna's TPE stores a running trial's proposal."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return the Optuna distribution of a searched hyperparameter."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.integer:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _partly_fixed(given: Mapping[str, ParameterValue], sampler: BaseSampler) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PartialFixedSampler(dict(given), sampler)


class StudyMirror:
    """Keeps an in-memory Optuna study equal to a ledger."""

    def __init__(
        self,
        space: Space,
        metric: Metric,
        prior: Sequence[PriorTrial] = (),
        sampler_of: Callable[[int], BaseSampler] = RandomSampler,
    ) -> None:
        """Create a study that contains only `prior`.

        Args:
            space: the search space.
            metric: the metric whose values the study holds.
            prior: trials of an earlier search. They come first, so the ledger's trial 0 is the
                study's trial `len(prior)`.
            sampler_of: creates the Optuna sampler that proposes the trial with a number.
        """
        self._sampler_of = sampler_of
        self._num_prior = len(prior)
        self._space = space
        self._metric = metric
        self._running: dict[int, optuna.Trial] = {}
        self._num_withdrawn = 0
        self._storage = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._storage,
            direction="maximize" if sign(metric) > 0 else "minimize",
            sampler=sampler_of(0),
        )
        self._study_id = self._storage.get_study_id_from_name(self.study.study_name)
        self.study.add_trials([self._frozen_prior(trial) for trial in prior])

    def replay(self, state: ExperimentState) -> None:
        """Add the trials of a ledger to a study that has none."""
        for trial in state.trials:
            if trial.status == "unfinished":
                self.study.enqueue_trial(self._inside(trial.params))
                self.ask(trial.number, self._outside(trial.params) or None)
                for epoch in trial.epochs:
                    self.report(trial.number, epoch.epoch, epoch.metrics[self._metric])
            else:
                self.study.add_trial(self._frozen_trial(trial))

    def ask(
        self, number: int, given: Mapping[str, ParameterValue] | None = None
    ) -> dict[str, ParameterValue]:
        """Start trial `number` with hyperparameters that its Optuna sampler proposes.

        Args:
            number: the trial's number.
            given: values that are not proposed. The study does not contain those outside of the
                space.
        """
        self.study.sampler = self._sampler_of(number)
        self._forget_hidden_values()
        if given is not None:
            self.study.sampler = _partly_fixed(self._inside(given), self.study.sampler)
        trial = self.study.ask()
        next_number = trial.number - self._num_prior - self._num_withdrawn
        if next_number != number:
            raise RuntimeError(f"The study is at trial {next_number}, the ledger at {number}.")
        self._running[number] = trial
        return self._space.suggest(trial, self._outside(given or {}))

    def withdraw(self, number: int) -> None:
        """End a running trial that the search does not use."""
        self.study.tell(self._running.pop(number), state=TrialState.FAIL)
        self._num_withdrawn += 1

    def report(self, number: int, epoch: int, value: float) -> None:
        """Add an intermediate value to a running trial."""
        self._running[number].report(value, epoch)

    def finish(self, trial: TrialRecord) -> None:
        """End a running trial with the status that the ledger records."""
        state = _STATES[trial.status]
        # Optuna gives a PRUNED trial its last intermediate value itself and rejects another one.
        value = self._value(trial) if state == TrialState.COMPLETE else None
        self.study.tell(self._running.pop(trial.number), value, state=state)

    def _forget_hidden_values(self) -> None:
        """Remove the values that TPE stores for inactive hyperparameters of running trials.

        They depend on the trials that had ended when the running one was proposed, so they cannot
        be restored from a ledger.
        """
        for trial in self._running.values():
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(
                self._study_id, trial.number
            )
            for key in list(self._storage.get_trial_system_attrs(trial_id)):
                if key.startswith(_HIDDEN_VALUES):
                    self._storage.set_trial_system_attr(trial_id, key, "")

    def _value(self, trial: TrialRecord) -> float | None:
        if trial.status == "completed":
            return trial.best_value(self._metric)
        if trial.status == "pruned":
            return trial.epochs[-1].metrics[self._metric]
        return None

    def _inside(self, params: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Return the values that the study can contain: searched ones within the space."""
        searched = [name for name in self._space.searched if name in params]
        return {name: params[name] for name in searched if self._space.allows(name, params[name])}

    def _outside(self, params: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Return the values that no point of the space has."""
        return {n: value for n, value in params.items() if not self._space.allows(n, value)}

    def _frozen_trial(self, trial: TrialRecord) -> FrozenTrial:
        return self._ended_trial(
            trial.status,
            self._value(trial),
            self._inside(trial.params),
            {epoch.epoch: epoch.metrics[self._metric] for epoch in trial.epochs},
        )

    def _frozen_prior(self, trial: PriorTrial) -> FrozenTrial:
        last = trial.values[max(trial.values)]
        best = max(trial.values.values(), key=lambda value: sign(self._metric) * value)
        value = best if trial.status == "completed" else last
        return self._ended_trial(trial.status, value, trial.params, trial.values)

    def _ended_trial(
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
