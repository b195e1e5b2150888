"""How many trials a worker trains at the same time."""

from __future__ import annotations

from celltune.search.config.schema import SearchConfig


def trials_per_worker(config: SearchConfig) -> int:
    """Return the number of trials that a worker trains at the same time.

    If `resources.trials_per_worker` is None, it is 1: packed trials are not faster on a CPU, and a
    pack needs several times the memory of a trial on a GPU.

    Args:
        config: the experiment's config.
    """
    return config.resources.trials_per_worker or 1
