"""From ledgers to a ranking, for people and for programs.

Imports neither Ray nor torch, and pandas only for a data frame: reading results is instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from search import folder as folders
from search.errors import OptionError
from search.folder import Folder, Root
from search.ranking import Search, Selection, ranking
from search.spelling import nearest
from search.state import ExperimentState, Metric

if TYPE_CHECKING:
    import pandas as pd


def rows(
    state: ExperimentState, metric: Metric, top: int | None = None, *, running: bool = False
) -> list[dict[str, Any]]:
    """Rank the trials of one search, the best first (see `search.ranking.ranking`).

    Args:
        state: of the experiment.
        metric: what ranks.
        top: only this many; None: all.
        running: whether a driver works on it now.
    """
    return ranking([Search("", state, running)], metric)[:top]


def load(
    names: Sequence[str], root: Root, metric: str | None = None
) -> tuple[list[Search], Metric]:
    """Read searches that are ranked together.

    Args:
        names: of the experiments; one that is named twice is read once.
        root: the storage of the experiments.
        metric: what ranks; None: what the searches themselves were decided by.

    Returns:
        The searches, and what ranks.

    Raises:
        ExperimentError: there is no such experiment.
        LedgerError: a ledger is damaged.
        OptionError: the searches were decided by different metrics and none is given, or it is
            none.
    """
    found = [folders.find(name, root) for name in dict.fromkeys(names)]
    decided = {folder.name: folder.config().metric for folder in found}
    return [_search(folder) for folder in found], _common(decided, metric)


def _search(folder: Folder) -> Search:
    # Asked first: a search that ends in between is told as running, never one that runs as cut.
    running = folder.is_locked()
    return Search(folder.name, folder.state(), running)


def _common(decided: dict[str, Metric], metric: str | None) -> Metric:
    allowed: tuple[Metric, ...] = get_args(Metric)
    if metric is not None:
        for known in allowed:
            if known == metric:
                return known
        raise OptionError(f"'{metric}' is not a metric. {nearest(metric, allowed)}")
    if len(set(decided.values())) > 1:
        told = ", ".join(f"{name} by {value}" for name, value in decided.items())
        raise OptionError(
            f"The searches were decided by different metrics ({told}), so they have no common "
            f"ranking by themselves. Choose one with --metric: {' or '.join(allowed)}."
        )
    return next(iter(decided.values()))


def leaderboard(
    *names: str,
    storage: Path | str | None = None,
    metric: str | None = None,
    top: int | None = None,
    where: str | None = None,
    best_per: Sequence[str] = (),
) -> pd.DataFrame:
    """Give the ranking of one or more searches as a pandas DataFrame; works while they run.

    Args:
        names: of the experiments.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        metric: what ranks; None: what the searches themselves were decided by.
        top: only this many trials; None: all.
        where: only trials of which this holds, such as ``"cell == 'gru'"``.
        best_per: only the best trial for each value of these columns.

    Raises:
        ExperimentError: there is no such experiment.
        LedgerError: its ledger is damaged.
        OptionError: a filter or a column can't be used, or the searches have no common metric.
    """
    import pandas as pd

    if not names:
        raise OptionError("Name at least one experiment.")
    searches, ranks = load(names, folders.storage_root(storage), metric)
    selection = Selection(where=where, best_per=tuple(best_per), top=top)
    return pd.DataFrame(selection.apply(ranking(searches, ranks)))
