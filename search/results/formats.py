"""A ranking in the formats that people and programs read.

Formats for people (table, md, html, latex) round and leave empty columns out; formats for programs
(csv, json, parquet) keep every digit and every column.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

from celltune.search.config.space import hyperparameters
from celltune.search.errors import OptionError
from celltune.search.results.ranking import Row
from celltune.search.wording import NAMING, describe_params
from celltune.spelling import closest_match


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else _line(str(value))


def _line(text: str) -> str:
    """A text on one line, without what could move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shown(key: str, value: Any) -> str:
    """Write a row's value for people."""
    if key.endswith("_accuracy") and value is not None:
        return f"{100 * value:.2f} %"
    if key == "seconds":
        return f"{value:.1f}"
    if key.endswith("_loss") and value is not None:
        return f"{value:.4f}"
    return _text(value)


def _columns(table: Sequence[Row]) -> list[str]:
    """Columns for people: those where anything stands."""
    keys = list(table[0]) if table else []
    return [key for key in keys if any(row[key] is not None for row in table)]


def _cells(table: Sequence[Row], columns: Sequence[str]) -> Iterator[list[str]]:
    return ([shown(key, row[key]) for key in columns] for row in table)


def _is_number(table: Sequence[Row], key: str) -> bool:
    kinds = {type(row[key]) for row in table} - {type(None)}
    return kinds <= {int, float}


# ---------------------------------------------------------------------------------------------
# For a terminal


class AlignedTable:
    """Columns of text, drawn by rich. Rich's own table takes 0.7 ms a row, this 0.01 ms."""

    def __init__(
        self, head: Sequence[str], right: Sequence[bool], rows: Sequence[tuple[Sequence[str], str]]
    ) -> None:
        """Lay out a table.

        Args:
            head: the columns' titles.
            right: whether a column is aligned to the right.
            rows: the cells of each row, and the row's style. The last column is cut where the
                terminal ends.
        """
        self._head = head
        self._right = right
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Draw the table."""
        columns = list(zip(self._head, *(cells for cells, _ in self._rows), strict=True))
        widths = [max(map(cell_len, column)) for column in columns]
        rules = ["─" * width for width in [*widths[:-1], cell_len(self._head[-1])]]
        lines = [(self._head, "bold"), (rules, "dim"), *self._rows]
        for cells, style in lines:
            line = "  ".join(map(_padded, cells, widths, self._right)).rstrip()
            if cell_len(line) > options.max_width:
                line = set_cell_size(line, options.max_width - 1) + "…"
            yield Segment(line, Style.parse(style))
            yield Segment.line()


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


_FOR_PEOPLE = {
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


def as_table(table: Sequence[Row]) -> AlignedTable:
    """Draw the ranking for a terminal: what matters first, the parameters in a few words.

    `accuracy` and `loss` are those of the best epoch, `last` is the accuracy of the last.
    """
    columns = [key for key in _FOR_PEOPLE if not table or key in table[0]]
    if not table:
        columns = [key for key in columns if key not in ("experiment", "data")]
    told = _told_parameters(table)
    rows = []
    for row in table:
        cells = [_epochs(row) if key == "epochs" else shown(key, row[key]) for key in columns]
        params = describe_params({name: row[name] for name in told if row[name] is not None})
        # Why it broke comes first: a narrow terminal cuts the end.
        said = f"{row['error']} ({params})" if row["error"] else params
        style = "bold green" if row["rank"] == 1 else "red" if row["status"] == "failed" else ""
        rows.append(([*cells, _line(said)], style))
    right = [key not in ("status", "experiment", "data") for key in columns]
    return AlignedTable(
        [*(_FOR_PEOPLE[key] for key in columns), "parameters"], [*right, False], rows
    )


def _epochs(row: Row) -> str:
    return f"{row['epochs']}/{row['max_epochs']}"


def _told_parameters(table: Sequence[Row]) -> list[str]:
    """Parameters worth a place: those that name the model, and those that differ."""
    known = [name for name in (table[0] if table else ()) if name in hyperparameters()]
    return [name for name in known if name in NAMING or len({row[name] for row in table}) > 1]


# ---------------------------------------------------------------------------------------------
# For documents


def as_markdown(table: Sequence[Row]) -> str:
    """Write the ranking as a Markdown table."""
    columns = _columns(table)
    lines = [columns, ["---:" if _is_number(table, key) else "---" for key in columns]]
    lines += [[cell.replace("|", "\\|") for cell in cells] for cells in _cells(table, columns)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


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
</body>
</html>"""


def as_html(table: Sequence[Row]) -> str:
    """Write the ranking as an HTML page of its own."""
    return _PAGE.format(table=html_table(table))


def html_table(table: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Write rows as an HTML table.

    Args:
        table: the rows.
        columns: which columns; None: those where anything stands.
    """
    columns = _columns(table) if columns is None else columns
    kinds = [' class="n"' if _is_number(table, key) else "" for key in columns]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(key)}</th>'
        for key, kind in zip(columns, kinds, strict=True)
    )
    body = (
        "".join(
            f"<td{kind}>{html.escape(cell)}</td>" for cell, kind in zip(cells, kinds, strict=True)
        )
        for cells in _cells(table, columns)
    )
    lines = "\n".join(f"<tr>{cells}</tr>" for cells in body)
    return f"<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{lines}\n</tbody>\n</table>"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex_text(text: str) -> str:
    return re.sub(r"[\\~^<>|&%$#_{}]", lambda match: _LATEX[match[0]], text)


def as_latex(table: Sequence[Row]) -> str:
    """Write the ranking as a LaTeX tabular, in the manner of the package booktabs."""
    columns = _columns(table)
    kinds = "".join("r" if _is_number(table, key) else "l" for key in columns) or "l"
    lines = [[_latex_text(cell) for cell in cells] for cells in _cells(table, columns)]
    return "\n".join(
        [
            "% in the preamble: \\usepackage{booktabs}",
            f"\\begin{{tabular}}{{{kinds}}}",
            "\\toprule",
            f"{' & '.join(map(_latex_text, columns))} \\\\",
            "\\midrule",
            *(f"{' & '.join(cells)} \\\\" for cells in lines),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


# ---------------------------------------------------------------------------------------------
# For programs


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


def as_parquet(table: Sequence[Row]) -> bytes:
    """Write the ranking as a Parquet file; a column that mixes words and numbers holds words."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        key: _of_one_kind([row[key] for row in table]) for key in (table[0] if table else ())
    }
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _of_one_kind(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) <= 1:
        return values
    kind = float if kinds == {int, float} else str
    return [None if value is None else kind(value) for value in values]


# ---------------------------------------------------------------------------------------------

Drawn = str | bytes | AlignedTable

FORMATS: Mapping[str, Callable[[Sequence[Row]], Drawn]] = {
    "table": as_table,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
    "parquet": as_parquet,
    "latex": as_latex,
}

_SUFFIXES = {".txt": "table", ".markdown": "md", ".htm": "html", ".pq": "parquet", ".tex": "latex"}


def format_of(suffix: str) -> str:
    """Give the format that files with this suffix hold, such as csv of ".csv".

    Raises:
        OptionError: it isn't known of any.
    """
    form = _SUFFIXES.get(suffix.lower(), suffix.lower().removeprefix("."))
    return check_format(form)


def check_format(form: str) -> str:
    """Give a format's name back.

    Raises:
        OptionError: there is no such format.
    """
    if form not in FORMATS:
        raise OptionError(f"'{form}' is not a format. {closest_match(form, FORMATS)}")
    return form


def render(table: Sequence[Row], form: str) -> Drawn:
    """Write a ranking in one of `FORMATS`: text, bytes, or something that rich draws.

    Raises:
        OptionError: there is no such format.
    """
    return FORMATS[check_format(form)](table)
