"""Packed trials: which trials may share a worker, and what the sampler is asked for.

Packed trials have one shape, `models.config.pack_shape`, and may differ in the other
hyperparameters. A worker starts with a trial of any shape and then asks the controller for more of
this shape. All rules here are pure functions of the config and the state of the search, so a
resumed search decides like an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping

from celltune.models.config import PackShape, pack_shape
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Space, model_and_training
from celltune.search.errors import ConfigError
from celltune.search.extensions import SAMPLERS
from celltune.search.ledger.state import ExperimentState
from celltune.search.types import ParameterValue

__all__ = [
    "PackShape",
    "ShapeIndex",
    "check_sampler_packs",
    "given_values",
    "sampler_packs",
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


class ShapeIndex:
    """The shapes of the trials of a search, each computed once."""

    def __init__(self, state: ExperimentState) -> None:
        """Create an index of the trials of `state`, including those created later."""
        self._state = state
        self._shapes: list[PackShape] = []

    def shape(self, number: int) -> PackShape:
        """Return the shape of a trial."""
        for trial in self._state.trials[len(self._shapes) : number + 1]:
            self._shapes.append(shape_of(trial.params))
        return self._shapes[number]


def sampler_packs(config: SearchConfig) -> bool:
    """Return whether the sampler of a config can propose trials of a given shape."""
    return bool(SAMPLERS.load(config.sampler.name).proposes_given)


def check_sampler_packs(config: SearchConfig) -> None:
    """Check that the sampler of a config can propose trials of a given shape.

    Raises:
        ConfigError: it cannot.
    """
    if not sampler_packs(config):
        raise ConfigError(
            f"sampler.name is '{config.sampler.name}', a sampler that cannot propose trials of a "
            "given shape, which packed trials need. Set resources.trials_per_worker to 1, or use "
            "the sampler tpe."
        )
