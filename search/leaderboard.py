"""From a ledger to a ranking, in a table for people or in a format for programs.

Imports neither Ray nor torch: reading results is instant.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from search import folder as folders
from search.describe import describe
from search.errors import ConfigError
from search.space import hyperparameters
from search.spelling import nearest
from search.state import ExperimentState, Metric, TrialRecord

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


def rows(state: ExperimentState, metric: Metric, top: int | None = None) -> list[dict[str, Any]]:
    """Rank the trials by their best epoch, the best first.

    Trials without an epoch come last, without a rank. The measures are those of the best epoch;
    `seconds` is the trial's training and validation time in all.

    Args:
        state: of the experiment.
        metric: what ranks.
        top: only this many; None: all.
    """
    ranked = state.ranked(metric)
    unranked = [trial for trial in state.trials if not trial.epochs]
    everything = [
        *(_row(rank, trial, metric) for rank, trial in enumerate(ranked, 1)),
        *(_row(None, trial, metric) for trial in unranked),
    ]
    names = list(dict.fromkeys(name for row in everything for name in row["params"]))
    return [_flatten(row, names) for row in everything[:top]]


def _row(rank: int | None, trial: TrialRecord, metric: Metric) -> dict[str, Any]:
    best = trial.best(metric)
    measures: Mapping[str, Any] = best.metrics if best else {}
    parameters = measures.get("parameters")
    return {
        "rank": rank,
        "trial": trial.number,
        "status": trial.status,
        "epochs": trial.epochs_done,
        "best_epoch": best.epoch if best else None,
        "valid_accuracy": measures.get("valid_accuracy"),
        "valid_loss": measures.get("valid_loss"),
        "train_accuracy": measures.get("train_accuracy"),
        "parameters": None if parameters is None else int(parameters),
        "seconds": round(sum(epoch.metrics.get("seconds", 0.0) for epoch in trial.epochs), 3),
        "params": trial.params,
        "error": trial.error or None,
    }


def _flatten(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in ("params", "error")}
    flat.update({name: row["params"].get(name) for name in names})
    flat["error"] = row["error"]
    return flat


def leaderboard(
    name: str, *, storage: Path | str | None = None, top: int | None = None
) -> pd.DataFrame:
    """Give the ranking of an experiment as a pandas DataFrame; works while a search runs.

    Args:
        name: of the experiment.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        top: only this many trials; None: all.

    Raises:
        ExperimentError: there is no such experiment.
        LedgerError: its ledger is damaged.
    """
    import pandas as pd

    folder = folders.find(name, folders.storage_root(storage))
    return pd.DataFrame(rows(folder.state(), folder.config().metric, top))


# ---------------------------------------------------------------------------------------------
# Formats


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _shown(key: str, value: Any) -> str:
    if key.endswith("_accuracy") and value is not None:
        return f"{100 * value:.2f} %"
    if key == "seconds":
        return f"{value:.1f}"
    return _text(value)


def _columns(table: Sequence[Row]) -> list[str]:
    """Columns for people: those where anything stands."""
    keys = list(table[0]) if table else []
    return [key for key in keys if any(row[key] is not None for row in table)]


_FOR_PEOPLE = ("rank", "trial", "status", "epochs", "valid_accuracy", "valid_loss")


def as_table(table: Sequence[Row]) -> Table:
    """Draw the ranking for a terminal: what matters first, the parameters in a few words."""
    drawn = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for key in _FOR_PEOPLE:
        drawn.add_column(
            key.replace("valid_", ""), justify="left" if key == "status" else "right", no_wrap=True
        )
    drawn.add_column("parameters")
    told = _told_parameters(table)
    for row in table:
        style = "bold green" if row["rank"] == 1 else "red" if row["status"] == "failed" else ""
        params = describe({name: row[name] for name in told if row[name] is not None})
        drawn.add_row(*(_shown(key, row[key]) for key in _FOR_PEOPLE), params, style=style)
    return drawn


def _told_parameters(table: Sequence[Row]) -> list[str]:
    """Parameters worth a place: those that name the model, and those that differ."""
    known = [name for name in (table[0] if table else ()) if name in hyperparameters()]
    naming = ("cell", "hidden_size", "num_layers", "bidirectional")
    return [name for name in known if name in naming or len({row[name] for row in table}) > 1]


def as_markdown(table: Sequence[Row]) -> str:
    """Write the ranking as a Markdown table."""
    columns = _columns(table)
    lines = [columns, ["---"] * len(columns)]
    lines += [[_in_one_cell(_shown(key, row[key])) for key in columns] for row in table]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _in_one_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def as_csv(table: Sequence[Row]) -> str:
    """Write the ranking as CSV with all digits."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue().rstrip("\n")


def as_json(table: Sequence[Row]) -> str:
    """Write the ranking as a JSON array with all digits."""
    return json.dumps(list(table), indent=2)


FORMATS: Mapping[str, Callable[[Sequence[Row]], str | Table]] = {
    "table": as_table,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
}


def render(table: Sequence[Row], form: str) -> str | Table:
    """Write a ranking in one of `FORMATS`.

    Raises:
        ConfigError: there is no such format.
    """
    if form not in FORMATS:
        raise ConfigError(f"'{form}' is not a format. {nearest(form, FORMATS)}")
    return FORMATS[form](table)
