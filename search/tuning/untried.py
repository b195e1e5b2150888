"""Which configurations of a space a search has not tried yet.

A search does not repeat a configuration unless `budget.repeat` asks for it: with few of them, a
sampler would propose the best ones again and again, and each repetition costs a training. All
functions depend on the config and the state of the search only, so that a resumed search proposes
the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from celltune.search.config.configurations import (
    Configuration,
    Configurations,
    configuration_of,
    number_of,
)
from celltune.search.config.schema import SearchConfig
from celltune.search.extensions import SAMPLERS
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.base import Sampler
from celltune.search.types import ParameterValue
from celltune.search.wording import counted

ATTEMPTS = 8
"""Number of proposals of a sampler for one trial, before an untried configuration is drawn."""

_STREAM = 2
"""Distinguishes these random numbers from others with the same seed and trial number."""


class Untried:
    """The configurations that the trials of a search have not tried.

    Trials outside of the space, which only `first_trials` can be, do not count.
    """

    def __init__(self, config: SearchConfig, state: ExperimentState) -> None:
        """Follow the trials of `state`, including those created later."""
        self._config = config
        self._space = config.space
        self._state = state
        self._tried: set[Configuration] = set()
        self._seen = 0

    def left(self, given: Mapping[str, ParameterValue] | None = None) -> int:
        """Return the number of untried configurations; continuous ranges count as many.

        Args:
            given: counts only configurations with these values of hyperparameters.
        """
        self._update()
        fixed = {
            name: number_of(self._space.searched[name], value)
            for name, value in (given or {}).items()
            if name in self._space.searched
        }
        tried = sum(
            all(fixed.get(name, number) == number for name, number in each) for each in self._tried
        )
        return Configurations(self._space, given).total - tried

    def allows(self, given: Mapping[str, ParameterValue]) -> bool:
        """Return whether a new trial may have these values of hyperparameters."""
        return self._config.budget.repeat or self.left(given) > 0

    def propose(
        self, sampler: Sampler, number: int, given: Mapping[str, ParameterValue] | None
    ) -> dict[str, ParameterValue]:
        """Return the hyperparameters of a new trial; it repeats another one only if it has to.

        Args:
            sampler: proposes them. If it cannot withdraw proposals, it may repeat a configuration.
            number: the trial's number.
            given: values for `Sampler.propose_given`; None for `Sampler.propose`.
        """
        may_repeat = self._config.budget.repeat or not sampler.withdraws()
        for _ in range(ATTEMPTS):
            params = (
                sampler.propose(number) if given is None else sampler.propose_given(number, given)
            )
            if may_repeat or not self._repeats(params) or not self.left(given):
                return params
            sampler.withdraw(number)
        return sampler.propose_given(number, {**(given or {}), **self._draw(number, given)})

    def _repeats(self, params: Mapping[str, ParameterValue]) -> bool:
        self._update()
        return configuration_of(self._space, params) in self._tried

    def _draw(
        self, number: int, given: Mapping[str, ParameterValue] | None
    ) -> dict[str, ParameterValue]:
        """Draw an untried configuration at random; there is one."""
        import numpy as np

        configurations = Configurations(self._space, given)
        rng = np.random.default_rng([self._config.seed, number, _STREAM])
        first = int(rng.random() * configurations.total)
        while True:
            params = configurations.at(first % configurations.total)
            if not self._repeats(params):
                return params
            first += 1

    def _update(self) -> None:
        trials = self._state.trials
        for trial in trials[self._seen :]:
            configuration = configuration_of(self._space, trial.params)
            if configuration is not None:
                self._tried.add(configuration)
        self._seen = len(trials)


def planned_trials(config: SearchConfig, state: ExperimentState) -> int:
    """Return the number of trials that a search ends with, if nothing else ends it.

    It is `budget.trials`, unless the search will have tried every configuration before.
    """
    budget, started = config.budget.trials, len(state.trials)
    total = config.space.size
    if config.budget.repeat or total is None or total >= budget:
        return max(budget, started)
    outside = sum(
        any(not config.space.allows(name, value) for name, value in first.items())
        for first in config.first_trials[started:]
    )
    left = Untried(config, state).left() + outside
    return max(started, min(budget, started + left))


def all_tried(config: SearchConfig, state: ExperimentState) -> bool:
    """Return whether no trial is left that would not repeat a configuration."""
    if config.budget.repeat or len(state.trials) < len(config.first_trials):
        return False
    total = config.space.size
    # Counting is only needed if there are enough trials.
    return total is not None and total <= len(state.trials) and not Untried(config, state).left()


def describe_configurations(config: SearchConfig) -> str:
    """Return how many configurations a space has and whether trials repeat them, as a sentence.

    Returns:
        An empty text if a hyperparameter has a continuous range.
    """
    total, trials = config.space.size, config.budget.trials
    if total is None:
        return ""
    text = f"Space: {counted(total, 'configuration')}, {counted(trials, 'trial')}"
    planned = planned_trials(config, ExperimentState())
    if config.budget.repeat:
        return f"{text}; trials may repeat configurations with other seeds (budget.repeat)."
    if planned < trials:
        return (
            f"{text}: no configuration is repeated, so the search ends after "
            f"{counted(planned, 'trial')}. To repeat them with other seeds, set budget.repeat to "
            "true."
        )
    if not SAMPLERS.load(config.sampler.name).withdraws():
        return f"{text}; the sampler {config.sampler.name} may repeat some."
    return f"{text}; no configuration is repeated."
