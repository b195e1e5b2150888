"""Base classes of samplers and early-stopping rules: the extension points of a search's decisions.

Both are replayable: a resumed search builds new objects, replays the ledger, and then makes the
same decisions as an uninterrupted one. So a decision may depend on the constructor's arguments and
on the calls made so far, in their order, but not on a clock, the global random state, files or the
environment. The controller calls them from a single thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from celltune.search.config.schema import SearchConfig
from celltune.search.config.settings import EarlyStoppingSettings, SamplerSettings
from celltune.search.config.space import Space
from celltune.search.extensions import EARLY_STOPPING, SAMPLERS
from celltune.search.ledger.events import PriorTrial
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import Metric, ParameterValue

__all__ = [
    "EarlyStoppingRule",
    "EarlyStoppingSettings",
    "Sampler",
    "SamplerSettings",
    "SearchProblem",
    "make_rule",
    "make_sampler",
]


@dataclass(frozen=True)
class SearchProblem:
    """The optimization problem of a search."""

    space: Space
    metric: Metric
    """The metric that `Sampler.report` receives; `search.objective.sign` gives its direction."""
    seed: int
    """The experiment's seed."""
    prior: tuple[PriorTrial, ...] = ()
    """Trials of an earlier search (a warm start). All of their values are within `space`."""


class Sampler(ABC):
    """Proposes the hyperparameters of trials.

    Contract:
        - A proposal is a pure function of the search problem, the settings, the trial number and
          the calls so far. Seed a generator with (seed, trial number) for each proposal.
        - A new sampler that replays the state of a search proposes the same as the sampler that
          received the events of this search as calls.
        - Proposed values are within the space; call `Space.suggest` to obtain all active
          hyperparameters, including the fixed ones.
        - Trials run concurrently: `propose` may be called while earlier trials are unfinished.
          A finished trial may continue later (more epochs); then the search is replayed first.
        - Packed trials (several in one worker) and the `first_trials` of a config need
          `propose_given`; its values count as any other proposal. The state of a search does not
          contain by which method a trial was proposed.
        - A search that does not repeat configurations needs `withdraw` and `propose_given`; with
          other samplers it may repeat some.
        - A first trial outside of the space is reported as failed right after its proposal, and
          replayed as failed, with those of its values that are within the space.
    """

    Settings: ClassVar[type[SamplerSettings]] = SamplerSettings
    """Model of the keys of `sampler` in a config."""

    @abstractmethod
    def __init__(self, problem: SearchProblem, settings: Any) -> None:
        """Create a sampler that has seen no trials.

        Args:
            problem: the optimization problem.
            settings: an instance of `Settings`.
        """

    @abstractmethod
    def replay(self, state: ExperimentState) -> None:
        """Restore the sampler from the state of a search; called once, before any other method."""

    @abstractmethod
    def propose(self, number: int) -> dict[str, ParameterValue]:
        """Return the hyperparameters of a new trial.

        Args:
            number: the trial's number: 0, 1, 2, ... in the order of the calls, which also counts
                the calls of `propose_given`.
        """

    def propose_given(
        self, number: int, given: Mapping[str, ParameterValue]
    ) -> dict[str, ParameterValue]:
        """Return the hyperparameters of a new trial, some of which have given values.

        Packed trials and first trials need it, so a sampler that does not define it cannot be used
        for them.

        Args:
            number: the trial's number.
            given: values of hyperparameters, for `Space.suggest`. Those of first trials may be
                outside of the space. Those that are inactive in the proposal are ignored.

        Raises:
            NotImplementedError: the sampler does not implement this.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot propose trials with given values.")

    @classmethod
    def proposes_given(cls) -> bool:
        """Return whether the sampler defines `propose_given`."""
        return cls.propose_given is not Sampler.propose_given

    def withdraw(self, number: int) -> None:
        """Forget the last proposal, because an earlier trial has the same hyperparameters.

        The next call proposes the trial with this number again, and should give other values. After
        some attempts it is a call of `propose_given` with all of them. Nothing else may depend on
        withdrawn proposals, which the state of a search does not contain.

        Args:
            number: the number of the last proposal.

        Raises:
            NotImplementedError: the sampler does not implement this.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot withdraw proposals.")

    @classmethod
    def withdraws(cls) -> bool:
        """Return whether the sampler defines `withdraw` and `propose_given`, which it needs."""
        return cls.withdraw is not Sampler.withdraw and cls.proposes_given()

    def report(self, number: int, epoch: int, value: float) -> None:  # noqa: B027 (optional)
        """Receive the metric of an unfinished trial after an epoch; ignored by default.

        Args:
            number: the trial's number.
            epoch: epochs trained so far, from 1, without gaps.
            value: the value of the problem's metric.
        """

    def finish(self, trial: TrialRecord) -> None:  # noqa: B027 (optional)
        """Receive a trial that was completed, pruned or failed; ignored by default."""


class EarlyStoppingRule(ABC):
    """Decides after each epoch whether a trial continues.

    Contract:
        - A decision is a pure function of the constructor's arguments and of the calls of `take`
          so far, in their order.
        - `take` is called once for each epoch of each trial, with the epochs of a trial in order
          and those of different trials interleaved. It is also called after the last epoch of
          a trial, and for all epochs in the ledger when a search is resumed, but not for the wide
          part alone, which is not trained.
    """

    Settings: ClassVar[type[EarlyStoppingSettings]] = EarlyStoppingSettings
    """Model of the keys of `early_stopping` in a config."""

    @abstractmethod
    def __init__(self, settings: Any, max_epochs: int) -> None:
        """Create a rule that has seen no trials.

        Args:
            settings: an instance of `Settings`.
            max_epochs: the maximum number of epochs of a trial (budget.max_epochs).
        """

    @abstractmethod
    def take(self, trial: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Receive the metrics of a trial after an epoch.

        Args:
            trial: the trial's number.
            epoch: epochs trained so far, from 1.
            metrics: all metrics of the epoch, including `settings.by`.

        Returns:
            True if the trial continues, False if it is pruned.
        """

    @property
    def rungs(self) -> tuple[int, ...] | None:
        """Epochs after which trials are compared, in ascending order; None: after every epoch."""
        return None

    def may_extend(self, trial: int) -> bool:  # noqa: ARG002
        """Return whether a completed trial continues when budget.max_epochs is increased."""
        return True


def make_sampler(config: SearchConfig, prior: tuple[PriorTrial, ...] = ()) -> Sampler:
    """Create the sampler that a config selects.

    Args:
        config: the experiment's config.
        prior: trials of an earlier search.
    """
    sampler: type[Sampler] = SAMPLERS.load(config.sampler.name)
    problem = SearchProblem(config.space, config.metric, config.seed, prior)
    return sampler(problem, config.sampler)


def make_rule(config: SearchConfig) -> EarlyStoppingRule | None:
    """Create the early-stopping rule that a config selects; None without early stopping."""
    if config.early_stopping is None:
        return None
    rule: type[EarlyStoppingRule] = EARLY_STOPPING.load(config.early_stopping.rule)
    return rule(config.early_stopping, config.budget.max_epochs)
