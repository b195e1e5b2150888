"""From ledgers to a ranking, for people and for programs.

Imports neither Ray nor torch, and pandas only for a data frame: reading results is instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.search.errors import OptionError
from celltune.search.results.ranking import (
    Selection,
    load,
    ranking,
)
from celltune.search.storage import base as folders

if TYPE_CHECKING:
    import pandas as pd


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
