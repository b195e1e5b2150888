"""Every built-in format is checked with a reader of that format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any

import pyarrow.parquet
import pytest
from rich.cells import cell_len
from rich.console import Console

from celltune.registry import ExtensionError
from celltune.search.extensions import LEADERBOARD_FORMATS
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.formats import format_of, render
from celltune.search.results.ranking import RankedSearch, ranking
from celltune.search.results.tables import TextTable
from tests.search.results.test_ranking import MIXED, state_of

HOSTILE = 'a|b,"c"\n<i>&amp; $x_1$ \\ 50 % #{y}~^ \x1b[31m[red]日本'


def drawn_text(table: Sequence[dict[str, Any]], width: int = 400) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(render(table, "table"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


Cells = list[list[str]]


def read_table(table: Sequence[dict[str, Any]]) -> Cells:
    lines = drawn_text(table).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in [lines[0], *lines[2:]]]


def read_markdown(table: Sequence[dict[str, Any]]) -> Cells:
    text = render(table, "md")
    assert isinstance(text, str)
    lines = [line.strip("|").split(" | ") for line in text.splitlines()]
    return [[cell.strip().replace("\\|", "|") for cell in cells] for cells in lines[:1] + lines[2:]]


def read_csv(table: Sequence[dict[str, Any]]) -> Cells:
    text = render(table, "csv")
    assert isinstance(text, str)
    return list(csv.reader(io.StringIO(text)))


def read_json(table: Sequence[dict[str, Any]]) -> Cells:
    text = render(table, "json")
    assert isinstance(text, str)
    read = json.loads(text)
    assert read == list(table)
    keys = list(read[0]) if read else []
    return [keys, *([_plain(row[key]) for key in keys] for row in read)]


def read_parquet(table: Sequence[dict[str, Any]]) -> Cells:
    content = render(table, "parquet")
    assert isinstance(content, bytes)
    read = pyarrow.parquet.read_table(io.BytesIO(content))
    rows = read.to_pylist()
    return [read.column_names, *([_plain(value) for value in row.values()] for row in rows)]


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: Cells = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def read_html(table: Sequence[dict[str, Any]]) -> Cells:
    text = render(table, "html")
    assert isinstance(text, str)
    reader = _Cells()
    reader.feed(text)
    assert "i" not in reader.tags
    return reader.rows


def read_latex(table: Sequence[dict[str, Any]]) -> Cells:
    text = render(table, "latex")
    assert isinstance(text, str)
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert not re.search(r"(?<!\\)[$#%]", "".join(lines))
    return [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in lines]


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


READERS: dict[str, Callable[[Sequence[dict[str, Any]]], Cells]] = {
    "table": read_table,
    "md": read_markdown,
    "csv": read_csv,
    "json": read_json,
    "html": read_html,
    "parquet": read_parquet,
    "latex": read_latex,
}
EXACT = ("csv", "json", "parquet")


def board(state: ExperimentState = MIXED) -> list[dict[str, Any]]:
    return ranking([RankedSearch("one", state)], "valid_accuracy")


def test_every_format_has_a_reader() -> None:
    assert list(READERS) == list(LEADERBOARD_FORMATS.names())


@pytest.mark.parametrize("form", READERS)
def test_output_contains_every_trial(form: str) -> None:
    table = board()
    head, *lines = READERS[form](table)
    head = [name.replace("\\_", "_") for name in head]
    assert len(lines) == len(table)
    for row, cells in zip(table, lines, strict=True):
        # A terminal table has no marks for empty cells: without a rank, the trial comes first.
        place = 0 if form == "table" and row["rank"] is None else head.index("trial")
        assert cells[place] == str(row["trial"])
        assert row["status"] in cells
    assert any("it broke" in cell for cell in lines[-1])


@pytest.mark.parametrize("form", READERS)
def test_empty_leaderboard_is_accepted(form: str) -> None:
    assert len(READERS[form]([])) <= 1


@pytest.mark.parametrize("form", READERS)
def test_text_cannot_break_out_of_its_cell(form: str) -> None:
    table = board(state_of(({"cell": HOSTILE}, [0.5], "completed"), ({"cell": "gru"}, [0.4], "")))
    for row in table:
        row["error"] = HOSTILE
    head, *lines = READERS[form](table)
    assert len(lines) == 2
    if form != "table":
        assert {len(cells) for cells in lines} == {len(head)}
    assert "日本" in lines[0][-1]
    if form not in EXACT:
        assert "\x1b" not in str(render(table, form)) + drawn_text(table)


@pytest.mark.parametrize("form", EXACT)
def test_formats_for_programs_keep_every_digit(form: str) -> None:
    value = 0.1 + 0.2
    table = board(state_of(({"dropout": value}, [value], "completed")))
    head, line = READERS[form](table)
    assert float(line[head.index("dropout")]) == value
    assert float(line[head.index("valid_accuracy")]) == value


def test_parquet_accepts_columns_with_several_types() -> None:
    table = board(state_of(({"readout": "max"}, [0.5], ""), ({"readout": 2}, [0.4], "")))
    head, *lines = read_parquet(table)
    assert [line[head.index("readout")] for line in lines] == ["max", "2"]
    table = board(state_of(({"dropout": 0}, [0.5], ""), ({"dropout": 0.5}, [0.4], "")))
    head, *lines = read_parquet(table)
    assert [line[head.index("dropout")] for line in lines] == ["0.0", "0.5"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_table_fits_the_terminal(width: int) -> None:
    wide = state_of(({"cell": "日" * 60, "dropout": 0.5}, [0.5], "completed"))
    lines = drawn_text(board(wide), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == 3


def test_table_highlights_the_best_and_failed_trials() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    drawn = render(board(), "table")
    assert isinstance(drawn, TextTable)
    console.print(drawn)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[2].startswith("\x1b[1;32m")
    assert lines[-1].startswith("\x1b[31m")


def test_file_suffix_selects_the_format() -> None:
    assert [format_of(suffix) for suffix in (".tex", ".CSV", ".htm", ".md", ".parquet")] == [
        "latex",
        "csv",
        "html",
        "md",
        "parquet",
    ]


def test_unknown_format_is_rejected() -> None:
    with pytest.raises(
        ExtensionError, match=r"'xls' is not a leaderboard format. .*Allowed: table, md, csv"
    ):
        render([], "xls")
    with pytest.raises(ExtensionError, match=r"'' is not a leaderboard format"):
        format_of("")
