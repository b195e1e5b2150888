"""The leaderboard of one or more searches as a pandas DataFrame.

Importing this module imports neither Ray nor torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.search.errors import OptionError
from celltune.search.results.ranking import Selection, ranking
from celltune.search.results.searches import read_searches

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
    """Return the ranked trials of one or more searches; works while they run.

    Args:
        names: the experiments.
        storage: the folder or URI that contains the experiments; None: $CELLTUNE_STORAGE or
            ~/celltune_results.
        metric: the metric that ranks; None: the metric that the searches optimized.
        top: the largest number of rows; None: all trials.
        where: a filter that the trials must match, such as `"cell == 'gru'"`.
        best_per: keep only the best trial for each combination of values of these columns.

    Raises:
        ExperimentError: an experiment does not exist.
        LedgerError: a ledger is damaged.
        ExtensionError: no such metric is installed.
        OptionError: the filter or a column is invalid, or the searches optimized different metrics.
    """
    import pandas as pd

    if not names:
        raise OptionError("`names` is empty. Give the name of at least one experiment.")
    searches, ranking_metric = read_searches(names, storage, metric)
    selection = Selection(where=where, best_per=tuple(best_per), top=top)
    return pd.DataFrame(selection.apply(ranking(searches, ranking_metric)))
