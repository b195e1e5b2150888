"""How many trials a worker trains at the same time."""

from __future__ import annotations

from celltune.models.config import ModelConfig
from celltune.models.packed.choice import packing_is_faster
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Range, Space
from celltune.search.tuning.packing import sampler_packs

AUTOMATIC_TRIALS = 8
"""Trials of a worker if the config does not say how many, and packed trials are faster."""


def trials_per_worker(config: SearchConfig) -> int:
    """Return the number of trials that a worker trains at the same time.

    If `resources.trials_per_worker` is None, it is 1 on a GPU, because packed trials were not
    measured there. On the CPU it is above 1 if packed trials are faster for every shape in the
    space and the sampler can propose them.

    Args:
        config: the experiment's config.
    """
    requested = config.resources.trials_per_worker
    if requested is not None:
        return requested
    on_gpu = config.resources.gpus_per_trial > 0
    if on_gpu or not sampler_packs(config) or not _always_faster(config.space):
        return 1
    return min(AUTOMATIC_TRIALS, config.resources.concurrent_trials or AUTOMATIC_TRIALS)


def _always_faster(space: Space) -> bool:
    """Return whether packing is faster on the CPU for all shapes of a space."""
    size = _largest_hidden_size(space)
    return all(
        packing_is_faster(ModelConfig(cell=cell, hidden_size=size), "cpu") for cell in _cells(space)
    )


def _cells(space: Space) -> tuple[str, ...]:
    dimension = space.searched.get("cell")
    values = dimension.values if isinstance(dimension, Choice) else (space.fixed["cell"],)
    return tuple(str(value) for value in values)


def _largest_hidden_size(space: Space) -> int:
    dimension = space.searched.get("hidden_size")
    if isinstance(dimension, Range):
        return int(dimension.high)
    default = ModelConfig.model_fields["hidden_size"].default
    values = dimension.values if dimension else (space.fixed.get("hidden_size", default),)
    return max(value for value in values if isinstance(value, int))
