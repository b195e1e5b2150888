"""Read the searches that are ranked together from a storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from celltune.search.errors import OptionError
from celltune.search.extensions import METRICS
from celltune.search.results.ranking import RankedSearch, pruned_by
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import StorageAddress, find_experiment
from celltune.search.types import Metric


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
        ExtensionError: no such metric is installed.
        OptionError: a search did not record the metric, or it is None and the searches
            optimized different ones.
    """
    folders = [find_experiment(name, storage) for name in dict.fromkeys(names)]
    optimized = {folder.name: folder.config().metric for folder in folders}
    common = _common_metric(optimized, metric)
    searches = [_read(folder) for folder in folders]
    for search in searches:
        _check_recorded(search, common)
    return searches, common


def _read(folder: Experiment) -> RankedSearch:
    snapshot = folder.snapshot()
    return RankedSearch(snapshot.name, snapshot.state, snapshot.running, pruned_by(snapshot.config))


def _check_recorded(search: RankedSearch, metric: Metric) -> None:
    epochs = [epoch.metrics for trial in search.state.trials for epoch in trial.epochs]
    if any(metric not in metrics for metrics in epochs):
        recorded = [name for name in METRICS.names() if all(name in values for values in epochs)]
        raise OptionError(
            f"`metric` is '{metric}', which the search '{search.name}' did not record. "
            f"Set it to {' or '.join(recorded)}."
        )


def _common_metric(optimized: Mapping[str, Metric], metric: str | None) -> Metric:
    if metric is not None:
        return METRICS.check(metric)
    if len(set(optimized.values())) > 1:
        listed = ", ".join(f"'{name}' {value}" for name, value in optimized.items())
        raise OptionError(
            f"The searches optimized different metrics ({listed}), so they cannot be ranked "
            f"together by default. Set `metric` to {' or '.join(METRICS.names())}."
        )
    return next(iter(optimized.values()))
