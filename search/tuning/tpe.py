"""Optuna's Tree-structured Parzen Estimator (TPE), the default sampler.

Source: J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011, in Optuna's
multivariate variant.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.tuning.base import Sampler, SamplerSettings, SearchProblem
from celltune.search.types import ParameterValue

if TYPE_CHECKING:
    import optuna


class TPESettings(SamplerSettings):
    """Settings of TPE."""

    startup_trials: int = Field(10, ge=1)
    """Number of trials with random hyperparameters before TPE is used; trials of a warm start and
    first_trials within the space count."""


class TPESampler(Sampler):
    """Optuna's TPE over a study that mirrors the ledger.

    A new Optuna sampler is created for each proposal, seeded by (experiment seed, trial number) and
    the number of withdrawn proposals of the trial, so that a proposal does not depend on how many
    proposals this process has made before.
    """

    Settings = TPESettings

    def __init__(self, problem: SearchProblem, settings: TPESettings) -> None:
        """Create a study that contains only the trials of a warm start."""
        # Optuna takes long to import, and every config refers to this module.
        from celltune.search.tuning.study_mirror import StudyMirror

        self._seed = problem.seed
        self._withdrawn = (0, 0)  # The number of a trial, and how many proposals were withdrawn.
        self._startup_trials = settings.startup_trials
        self._mirror = StudyMirror(
            problem.space, problem.metric, problem.prior, self._optuna_sampler
        )

    @property
    def study(self) -> optuna.Study:
        """The study."""
        return self._mirror.study

    def replay(self, state: ExperimentState) -> None:
        """Add the trials of a ledger to the study."""
        self._mirror.replay(state)

    def propose(self, number: int) -> dict[str, ParameterValue]:
        """Return the hyperparameters of a new trial, which is RUNNING in the study."""
        return self._mirror.ask(number)

    def propose_given(
        self, number: int, given: Mapping[str, ParameterValue]
    ) -> dict[str, ParameterValue]:
        """Return the hyperparameters of a new trial; TPE proposes those that are not given.

        The estimators of TPE are those of all trials in the dimensions that are not given: a value
        that was good with another shape is a candidate for this one, too.
        """
        return self._mirror.ask(number, given)

    def withdraw(self, number: int) -> None:
        """Forget the last proposal; the next one for this trial uses other random numbers."""
        self._mirror.withdraw(number)
        last, count = self._withdrawn
        self._withdrawn = (number, count + 1 if last == number else 1)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Add an intermediate value to a running trial."""
        self._mirror.report(number, epoch, value)

    def finish(self, trial: TrialRecord) -> None:
        """End a running trial."""
        self._mirror.finish(trial)

    def _optuna_sampler(self, number: int) -> optuna.samplers.TPESampler:
        import numpy as np
        import optuna

        last, withdrawn = self._withdrawn
        attempt = [withdrawn] if withdrawn and last == number else []
        seed = np.random.SeedSequence([self._seed, number, *attempt]).generate_state(1)[0]
        with warnings.catch_warnings():
            # `group` is experimental, but `multivariate` needs it for conditional hyperparameters.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=self._startup_trials,
                seed=int(seed),
            )
