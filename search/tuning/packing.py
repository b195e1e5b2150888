"""Packed trials: which trials may share a worker, and what the sampler is asked for.

Packed trials have one shape, `models.config.pack_shape`, and may differ in the other
hyperparameters. A worker starts with a trial of any shape and then asks the controller for more of
this shape. All rules here are pure functions of the config and the state of the search, so a
resumed search decides like an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from celltune.models.config import PER_TRIAL, PackShape, pack_shape
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Space, model_and_training
from celltune.search.errors import ConfigError
from celltune.search.extensions import SAMPLERS
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.tuning.first_trials import is_withheld
from celltune.search.types import ParameterValue
from celltune.search.wording import counted

__all__ = [
    "PackShape",
    "ShapePlanner",
    "check_sampler",
    "count_shapes",
    "describe_packs",
    "given_values",
    "group_size",
    "shape_of",
]


def shape_of(params: Mapping[str, ParameterValue]) -> PackShape:
    """Return the shape of a trial: trials of equal shape can be trained together.

    Args:
        params: all active hyperparameters of the trial.
    """
    return pack_shape(*model_and_training(params))


def given_values(space: Space, shape: PackShape) -> dict[str, ParameterValue]:
    """Return the searched hyperparameters that a shape determines."""
    return {name: value for name, value in shape if name in space.searched}


SHAPES_OF_A_SMALL_SEARCH = 8
"""Number of shapes that a search should try, if its budget is too small for full groups."""


class ShapePlanner:
    """Decides which shapes the new trials of a packed search have.

    The first shapes are drawn at random, because the trials of one shape teach the sampler nothing
    about others. A shape gets trials in groups. The next group starts at once if the last one
    contains the best trial of the search; otherwise the worker ends its trials and starts with
    another shape. Decision 34 contains the measurements.
    """

    GROUP: ClassVar[int] = 16
    """Number of trials of a shape that start whatever their results are; see `group_size`."""
    FIRST_SHAPES: ClassVar[int] = 4
    """Number of different shapes before the sampler chooses shapes and before one is preferred."""

    def __init__(
        self, config: SearchConfig, state: ExperimentState, trials_per_worker: int = 1
    ) -> None:
        """Create a planner for the trials of `state`, including those created later.

        Args:
            config: the experiment's config.
            state: the state of the search.
            trials_per_worker: the maximum number of trials that a worker trains together.
        """
        self._config = config
        self._state = state
        self._group = group_size(config, trials_per_worker)
        self._shapes: list[PackShape] = []
        self._foreign: set[PackShape] = set()
        self._known = {
            shape_of({**config.space.fixed, **trial.params})
            for trial in (state.prior.trials if state.prior else ())
        }
        self._possible = count_shapes(config.space)

    def shape(self, number: int) -> PackShape:
        """Return the shape of a trial."""
        self._update()
        return self._shapes[number]

    def given(
        self, shape: PackShape | None, first: Mapping[str, ParameterValue] | None = None
    ) -> dict[str, ParameterValue]:
        """Return the values that the sampler has to use for the next new trial.

        Args:
            shape: the shape that the trial must have; None for any shape.
            first: the hyperparameters that the config gives to this trial (`first_trials`).
        """
        space = self._config.space
        if shape is None and first is None and not self._knows_shapes():
            source = _RandomShape([self._config.seed, len(self._state.trials), 1])
            shape = shape_of(space.suggest(source))
        return {**({} if shape is None else given_values(space, shape)), **(first or {})}

    def continues(
        self, shape: PackShape, first: Mapping[str, ParameterValue] | None = None
    ) -> bool:
        """Return whether another trial of a shape should start while others of it are trained.

        Args:
            shape: the shape of the trials.
            first: the hyperparameters that the config gives to the next trial (`first_trials`).
        """
        self._update()
        if shape in self._foreign:
            return False
        if first is not None:
            common = dict(shape)
            return all(common.get(name, value) == value for name, value in first.items())
        mine = [number for number, other in enumerate(self._shapes) if other == shape]
        if self._possible == 1 or len(mine) % self._group:
            return True
        ranked = self._state.ranked(self._config.metric)
        numbers = (trial.number for trial in ranked)
        best = next((n for n in numbers if self._shapes[n] not in self._foreign), None)
        return self._knows_shapes() and best in mine[-self._group :]

    def _knows_shapes(self) -> bool:
        self._update()
        return len(self._known) >= min(self.FIRST_SHAPES, self._possible)

    def _update(self) -> None:
        for trial in self._state.trials[len(self._shapes) :]:
            shape = shape_of(trial.params)
            self._shapes.append(shape)
            (self._foreign if self._is_foreign(trial) else self._known).add(shape)

    def _is_foreign(self, trial: TrialRecord) -> bool:
        """Return whether no proposal can have the shape of a trial: it is outside of the space."""
        if not is_withheld(self._config, trial):
            return False
        allows = self._config.space.allows
        outside = {name for name, value in trial.params.items() if not allows(name, value)}
        return not outside <= PER_TRIAL


def group_size(config: SearchConfig, trials_per_worker: int) -> int:
    """Return the number of trials of a shape that start whatever their results are.

    A group fills a worker. In a small search it is not larger, because then the search tries more
    shapes.

    Args:
        config: the experiment's config.
        trials_per_worker: the maximum number of trials that a worker trains together.
    """
    share = config.budget.trials // SHAPES_OF_A_SMALL_SEARCH
    return max(trials_per_worker, min(ShapePlanner.GROUP, share))


def describe_packs(config: SearchConfig) -> str:
    """Return how many shapes a packed search is going to try, as a sentence."""
    group = group_size(config, config.resources.trials_per_worker)
    possible = count_shapes(config.space)
    tried = min(possible, -(-config.budget.trials // group))
    text = (
        f"Packs: trials of one shape start in groups of {group}, so the search tries about "
        f"{tried:,} of {counted(possible, 'shape')} (docs/packs.md)."
    )
    if config.resources.gpus_per_trial == 0:
        text += " On a CPU, packs are not faster than one trial per worker."
    return text


def count_shapes(space: Space) -> int:
    """Return the number of shapes in a space."""
    searched = {n: d for n, d in space.searched.items() if n not in PER_TRIAL}
    return math.prod(
        len(d.values) if isinstance(d, Choice) else int((d.high - d.low) // (d.step or 1)) + 1
        for d in searched.values()
    )


@dataclass(frozen=True)
class _RandomShape:
    """Draws the values of a shape at random (see `space.ValueSource`)."""

    seed: list[int]

    def _draw(self, name: str) -> float:
        """Return a number in [0, 1) that depends on the seed and the hyperparameter only."""
        import numpy as np

        return float(np.random.default_rng([*self.seed, *name.encode()]).random())

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        return choices[int(self._draw(name) * len(choices))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return an integer from `low` to `high`."""
        if log:
            return min(high, int(low * ((high + 1) / low) ** self._draw(name)))
        return low + step * int(self._draw(name) * ((high - low) // step + 1))

    def suggest_float(
        self,
        name: str,  # noqa: ARG002
        low: float,
        high: float,  # noqa: ARG002
        *,
        step: float | None,  # noqa: ARG002
        log: bool,  # noqa: ARG002
    ) -> float:
        """Return `low`: a shape has no real numbers, so nothing has to be drawn."""
        return low


def check_sampler(config: SearchConfig) -> None:
    """Check that the sampler of a config can propose trials with given values, if it has to.

    Raises:
        ConfigError: it cannot.
    """
    if SAMPLERS.load(config.sampler.name).proposes_given():
        return
    if config.resources.trials_per_worker > 1:
        raise ConfigError(
            f"sampler.name is '{config.sampler.name}', a sampler that cannot propose trials of a "
            "given shape, which packed trials need. Set resources.trials_per_worker to 1, or use "
            "the sampler tpe."
        )
    if config.first_trials:
        raise ConfigError(
            f"sampler.name is '{config.sampler.name}', a sampler that cannot propose trials with "
            "given values, which first_trials need. Remove first_trials, or use the sampler tpe."
        )
