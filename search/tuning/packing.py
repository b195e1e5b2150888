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
from celltune.search.ledger.state import ExperimentState
from celltune.search.types import ParameterValue
from celltune.search.wording import counted

__all__ = [
    "PackShape",
    "ShapePlanner",
    "check_sampler_packs",
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
        self._known = {
            shape_of({**config.space.fixed, **trial.params})
            for trial in (state.prior.trials if state.prior else ())
        }
        self._possible = count_shapes(config.space)

    def shape(self, number: int) -> PackShape:
        """Return the shape of a trial."""
        self._update()
        return self._shapes[number]

    def given(self, shape: PackShape | None) -> dict[str, ParameterValue]:
        """Return the values that the sampler has to use for the next new trial.

        Args:
            shape: the shape that the trial must have; None for any shape.
        """
        space = self._config.space
        if shape is None and not self._knows_shapes():
            source = _RandomShape([self._config.seed, len(self._state.trials), 1])
            shape = shape_of(space.suggest(source))
        return {} if shape is None else given_values(space, shape)

    def continues(self, shape: PackShape) -> bool:
        """Return whether another trial of a shape should start while others of it are trained."""
        self._update()
        mine = [number for number, other in enumerate(self._shapes) if other == shape]
        if self._possible == 1 or len(mine) % self._group:
            return True
        best = self._state.ranked(self._config.metric)[:1]
        return self._knows_shapes() and any(t.number in mine[-self._group :] for t in best)

    def _knows_shapes(self) -> bool:
        self._update()
        return len(self._known) >= min(self.FIRST_SHAPES, self._possible)

    def _update(self) -> None:
        new = self._state.trials[len(self._shapes) :]
        shapes = [shape_of(trial.params) for trial in new]
        self._shapes.extend(shapes)
        self._known.update(shapes)


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


def check_sampler_packs(config: SearchConfig) -> None:
    """Check that the sampler of a config can propose trials of a given shape.

    Raises:
        ConfigError: it cannot.
    """
    if not SAMPLERS.load(config.sampler.name).proposes_given():
        raise ConfigError(
            f"sampler.name is '{config.sampler.name}', a sampler that cannot propose trials of a "
            "given shape, which packed trials need. Set resources.trials_per_worker to 1, or use "
            "the sampler tpe."
        )
