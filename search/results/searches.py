"""Read the searches that are ranked together from a storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from celltune.search.errors import OptionError
from celltune.search.results.ranking import RankedSearch
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import StorageAddress, find_experiment
from celltune.search.types import Metric
from celltune.spelling import closest_match


def read_searches(
    names: Sequence[str], storage: StorageAddress, metric: str | None = None
) -> tuple[list[RankedSearch], Metric]:
    """Read searches that are ranked together.

    Args:
        names: the experiments; a repeated name is read once.
        storage: the storage of the experiments.
        metric: the metric that ranks; None: the metric that the searches optimized.

    Returns:
        The searches and the metric that ranks them.

    Raises:
        ExperimentError: an experiment does not exist.
        LedgerError: a ledger is damaged.
        OptionError: the metric is unknown, or it is None and the searches optimized different ones.
    """
    folders = [find_experiment(name, storage) for name in dict.fromkeys(names)]
    optimized = {folder.name: folder.config().metric for folder in folders}
    return [_read(folder) for folder in folders], _common_metric(optimized, metric)


def _read(folder: Experiment) -> RankedSearch:
    snapshot = folder.snapshot()
    return RankedSearch(snapshot.name, snapshot.state, snapshot.running)


def _common_metric(optimized: Mapping[str, Metric], metric: str | None) -> Metric:
    allowed: tuple[Metric, ...] = get_args(Metric)
    if metric is not None:
        for known in allowed:
            if known == metric:
                return known
        raise OptionError(f"'{metric}' is not a metric. {closest_match(metric, allowed)}")
    if len(set(optimized.values())) > 1:
        listed = ", ".join(f"'{name}' {value}" for name, value in optimized.items())
        raise OptionError(
            f"The searches optimized different metrics ({listed}), so they cannot be ranked "
            f"together by default. Set `metric` to {' or '.join(allowed)}."
        )
    return next(iter(optimized.values()))
