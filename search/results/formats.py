"""Formats of a leaderboard: the built-in ones and the extension point for others.

Formats that people read (table, md, html, latex) round numbers and omit empty columns. Formats that
programs read (csv, json, parquet) keep every digit and every column.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from celltune.search.config.space import hyperparameters
from celltune.search.errors import OptionError
from celltune.search.escaping import html_text
from celltune.search.extensions import LEADERBOARD_FORMATS, METRICS
from celltune.search.results.ranking import Row
from celltune.search.results.tables import Column, TextTable, csv_text
from celltune.search.types import ParameterValue, is_wide_only
from celltune.search.wording import (
    common_params,
    describe_params,
    distinguishing_params,
    loss_text,
    metric_text,
    percent_text,
    varying_params,
)
from celltune.spelling import closest_match

Rendered = str | bytes | TextTable
"""A leaderboard in some format: text, the content of a binary file, or a table for a terminal."""


class LeaderboardFormat(Protocol):
    """A format of the leaderboard: a function of its rows.

    The function is pure: it neither changes the rows nor reads or writes anything else. The name
    under which it is registered is also the suffix of the files that have this format.
    """

    def __call__(self, rows: Sequence[Row], /) -> Rendered:
        """Return the rows in this format.

        Args:
            rows: the trials in the order in which they are shown, all with the same columns; empty
                if no trial is selected. Values are text, numbers, booleans or None (no value).
        """
        ...


def render(rows: Sequence[Row], format_name: str) -> Rendered:
    """Return a leaderboard in one of the registered formats.

    Raises:
        ExtensionError: no such format is installed.
    """
    leaderboard_format = LEADERBOARD_FORMATS.load(format_name)
    return leaderboard_format(rows)


_SUFFIXES = {".txt": "table", ".markdown": "md", ".htm": "html", ".pq": "parquet", ".tex": "latex"}


def format_of(suffix: str) -> str:
    """Return the format of files with a suffix, such as csv for ".csv".

    Raises:
        ExtensionError: no format with this suffix is installed.
    """
    name = _SUFFIXES.get(suffix.lower(), suffix.lower().removeprefix("."))
    return LEADERBOARD_FORMATS.check(name)


def check_format(name: str, allowed: Collection[str]) -> str:
    """Return the name of an output format if it is allowed.

    Raises:
        OptionError: it is not; the message lists the allowed formats.
    """
    if name not in allowed:
        raise OptionError(f"'{name}' is not a format. {closest_match(name, allowed)}")
    return name


# ---------------------------------------------------------------------------------------------
# Formats that people read


_TERMINAL_TITLES = {
    "rank": "rank",
    "experiment": "experiment",
    "data": "data",
    "trial": "trial",
    "status": "status",
    "epochs": "epochs",
    "valid_accuracy": "accuracy",
    "valid_loss": "loss",
    "last_valid_accuracy": "last",
}


def as_table(rows: Sequence[Row]) -> TextTable:
    """Return a table for a terminal: the main columns, and the hyperparameters in one column.

    `accuracy` and `loss` are those of the best epoch, `last` is the accuracy of the last epoch.
    `notes_below` explains the marks of trials that no one should use.
    """
    titles = {**_TERMINAL_TITLES, **_additional_metrics(rows)}
    keys = [key for key in titles if not rows or key in rows[0]]
    if not rows:
        keys = [key for key in keys if key not in ("experiment", "data")]
    trials = _params(rows)
    varying = varying_params(trials)
    cells, marks = [], _marks(rows)
    for row, trial in zip(rows, trials, strict=True):
        params = describe_params(distinguishing_params(trial, varying))
        # The error and the mark come first because a narrow terminal cuts the end of the line.
        last = f"{row['error']} ({params})" if row["error"] else params
        mark = f"{marks[row['note']]} " if row["note"] else ""
        cells.append([*(_terminal_cell(row, key) for key in keys), f"{mark}{last}"])
    columns = [
        Column(titles[key], right=key not in ("status", "experiment", "data")) for key in keys
    ]
    return TextTable(
        [*columns, Column("parameters")], cells, [_row_style(row) for row in rows], cut=True
    )


def notes_below(rows: Sequence[Row]) -> list[str]:
    """Return the notes that `as_table` marks, one per line."""
    return [f"{mark} {note}" for note, mark in _marks(rows).items()]


def _marks(rows: Sequence[Row]) -> dict[str, str]:
    notes = dict.fromkeys(row["note"] for row in rows if row["note"])
    return {note: "*" * number for number, note in enumerate(notes, start=1)}


def _additional_metrics(rows: Sequence[Row]) -> dict[str, str]:
    """Return the titles of the metrics of extension packages that the rows contain."""
    names = rows[0] if rows else ()
    return {key: key for key in METRICS.names() if key in names and key not in _TERMINAL_TITLES}


def _terminal_cell(row: Row, key: str) -> str:
    return f"{row['epochs']}/{row['max_epochs']}" if key == "epochs" else value_text(key, row[key])


def _row_style(row: Row) -> str:
    if row["rank"] == 1 and not row["note"]:
        return "bold green"
    if row["status"] == "failed":
        return "red"
    return "yellow" if row["note"] else ""


def _params(rows: Sequence[Row]) -> list[dict[str, ParameterValue]]:
    """Return the hyperparameters of each row."""
    known = [name for name in (rows[0] if rows else ()) if name in hyperparameters()]
    return [{name: row[name] for name in known if row[name] is not None} for row in rows]


def common_sentence(rows: Sequence[Row]) -> str:
    """Return the hyperparameters that `table`, `md` and `html` omit; empty if there are none."""
    common = common_params(_params(rows))
    which = "trials with a network" if any(map(is_wide_only, rows)) else "of these trials"
    return f"The same in all {which}: {describe_params(common)}." if common else ""


def value_text(key: str, value: Any) -> str:
    """Return a leaderboard value as rounded text; None is empty."""
    if value is None:
        return ""
    if key.removeprefix("last_") in METRICS:
        return metric_text(key.removeprefix("last_"), value)
    if key.endswith("_accuracy"):
        return percent_text(value)
    if key == "seconds":
        return f"{value:.1f}"
    if key.endswith("_loss"):
        return loss_text(value)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 1000 else str(value)


def readable_table(rows: Sequence[Row], keys: Sequence[str] | None = None) -> TextTable:
    """Return rows as a table with rounded values.

    Args:
        rows: with the same keys each.
        keys: the columns; None: those in which any row has a value.
    """
    if keys is None:
        keys = [
            key for key in (rows[0] if rows else ()) if any(row[key] is not None for row in rows)
        ]
    columns = [Column(key, right=_is_numeric(rows, key)) for key in keys]
    return TextTable(columns, [[value_text(key, row[key]) for key in keys] for row in rows])


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    kinds = {type(row[key]) for row in rows} - {type(None)}
    return kinds <= {int, float}


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the leaderboard as a Markdown table, without what `common_sentence` says."""
    return _short_table(rows).markdown()


def _short_table(rows: Sequence[Row]) -> TextTable:
    """Return the columns with a value, without hyperparameters that are the same in all rows."""
    # The wide part alone is recognized by the column `wide`.
    omitted = common_params(_params(rows)).keys() - {"wide"}
    keys = rows[0].keys() if rows else ()
    return readable_table(
        rows,
        [key for key in keys if key not in omitted and any(row[key] is not None for row in rows)],
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Leaderboard</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem }}
table {{ border-collapse: collapse }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid #8884; text-align: left }}
.n {{ text-align: right; font-variant-numeric: tabular-nums }}
</style>
</head>
<body>
{table}
<p>{sentence}</p>
</body>
</html>"""


def as_html(rows: Sequence[Row]) -> str:
    """Return the leaderboard as a complete HTML page."""
    sentence = html_text(common_sentence(rows))
    return _PAGE.format(table=_short_table(rows).html(), sentence=sentence)


def as_latex(rows: Sequence[Row]) -> str:
    """Return the leaderboard as a LaTeX tabular that needs the package booktabs."""
    return readable_table(rows).latex()


# ---------------------------------------------------------------------------------------------
# Formats that programs read


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a header and every digit."""
    columns = list(rows[0]) if rows else []
    return csv_text(columns, (row.values() for row in rows))


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a JSON array of objects with every digit."""
    return json.dumps(list(rows), indent=2)


def as_parquet(rows: Sequence[Row]) -> bytes:
    """Return the content of a Parquet file; columns with numbers and text become text."""
    import pyarrow
    import pyarrow.parquet

    columns = {key: _with_one_type([row[key] for row in rows]) for key in (rows[0] if rows else ())}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _with_one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) <= 1:
        return values
    kind = float if kinds == {int, float} else str
    return [None if value is None else kind(value) for value in values]
