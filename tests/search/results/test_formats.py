"""Built-in leaderboard formats: the contract suite, with a reader of each format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pyarrow.parquet
import pytest
from rich.cells import cell_len
from rich.console import Console

from celltune.registry import ExtensionError
from celltune.search.errors import OptionError
from celltune.search.extensions import LEADERBOARD_FORMATS
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.formats import (
    Rendered,
    check_format,
    common_sentence,
    format_of,
    readable_table,
    render,
)
from celltune.search.results.ranking import RankedSearch, ranking
from celltune.testing.leaderboard_format import LeaderboardFormatContract, leaderboard_rows
from tests.search.results.test_ranking import MIXED, state_of

Cells = list[list[str]]


def printed(output: Rendered, width: int = 400) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(output)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def read_table(output: Rendered) -> Cells:
    lines = printed(output).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in [lines[0], *lines[2:]]]


def read_markdown(output: Rendered) -> Cells:
    lines = [line.strip("|").split(" | ") for line in str(output).splitlines()]
    return [[cell.strip().replace("\\|", "|") for cell in cells] for cells in lines[:1] + lines[2:]]


def read_csv(output: Rendered) -> Cells:
    return list(csv.reader(io.StringIO(str(output)))) or [[]]


def read_json(output: Rendered) -> Cells:
    rows = json.loads(str(output))
    keys = list(rows[0]) if rows else []
    return [keys, *([_plain(row[key]) for key in keys] for row in rows)]


def read_parquet(output: Rendered) -> Cells:
    assert isinstance(output, bytes)
    table = pyarrow.parquet.read_table(io.BytesIO(output))
    rows = table.to_pylist()
    return [table.column_names, *([_plain(value) for value in row.values()] for row in rows)]


class _CellReader(HTMLParser):
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


def read_html(output: Rendered) -> Cells:
    reader = _CellReader()
    reader.feed(str(output))
    assert "i" not in reader.tags
    return reader.rows


def read_latex(output: Rendered) -> Cells:
    lines = [line for line in str(output).splitlines() if line.endswith(r" \\")]
    assert not re.search(r"(?<!\\)[$#%]", "".join(lines))
    return [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in lines]


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


READERS: dict[str, Callable[[Rendered], Cells]] = {
    "table": read_table,
    "md": read_markdown,
    "csv": read_csv,
    "json": read_json,
    "html": read_html,
    "parquet": read_parquet,
    "latex": read_latex,
}
EXACT = ("csv", "json", "parquet")


class BuiltinFormat(LeaderboardFormatContract):
    def trials(self, output: Any) -> list[int]:
        header, *lines = READERS[self.name](output)
        column = header.index("trial") if lines else 0
        return [int(cells[column]) for cells in lines]


class TestTable(BuiltinFormat):
    name = "table"

    def trials(self, output: Any) -> list[int]:
        # Empty cells leave no mark in a terminal, so the column is found by its position.
        header, _, *lines = printed(output).splitlines()
        end = header.index("trial") + len("trial")
        return [int(line[:end].split()[-1]) for line in lines]


class TestMarkdown(BuiltinFormat):
    name = "md"


class TestCsv(BuiltinFormat):
    name = "csv"


class TestJson(BuiltinFormat):
    name = "json"


class TestHtml(BuiltinFormat):
    name = "html"


class TestParquet(BuiltinFormat):
    name = "parquet"


class TestLatex(BuiltinFormat):
    name = "latex"


def board(state: ExperimentState = MIXED) -> list[dict[str, Any]]:
    return ranking([RankedSearch("one", state)], "valid_accuracy")


def test_every_builtin_format_is_tested() -> None:
    tested = {cls.name for cls in BuiltinFormat.__subclasses__()}
    assert tested == set(READERS) == set(LEADERBOARD_FORMATS.builtin_names())


@pytest.mark.parametrize("form", READERS)
def test_output_contains_the_status_and_the_error(form: str) -> None:
    table = board()
    _, *lines = READERS[form](render(table, form))
    assert all(row["status"] in cells for row, cells in zip(table, lines, strict=True))
    assert any("it broke" in cell for cell in lines[-1])


@pytest.mark.parametrize("form", READERS)
def test_text_cannot_break_out_of_its_cell(form: str) -> None:
    output = render(leaderboard_rows("a"), form)
    header, *lines = READERS[form](output)
    if form != "table":
        assert {len(cells) for cells in lines} == {len(header)}
    assert "日本" in lines[-1][-1]
    if form not in EXACT:
        assert "\x1b" not in str(output) + printed(output)


@pytest.mark.parametrize("form", EXACT)
def test_formats_for_programs_keep_every_digit(form: str) -> None:
    value = 0.1 + 0.2
    table = board(state_of(({"dropout": value}, [value], "completed")))
    header, line = READERS[form](render(table, form))
    assert float(line[header.index("dropout")]) == value
    assert float(line[header.index("valid_accuracy")]) == value


def test_json_equals_the_rows() -> None:
    assert json.loads(str(render(board(), "json"))) == board()


def test_parquet_accepts_columns_with_several_types() -> None:
    for values, expected in ((("max", 2), ["max", "2"]), ((0, 0.5), ["0.0", "0.5"])):
        trials = [({"readout": value}, [0.5], "") for value in values]
        header, *lines = read_parquet(render(board(state_of(*trials)), "parquet"))
        assert [line[header.index("readout")] for line in lines] == expected


@pytest.mark.parametrize("width", [40, 80, 200])
def test_table_fits_the_terminal(width: int) -> None:
    wide = state_of(({"cell": "日" * 60, "dropout": 0.5}, [0.5], "completed"))
    lines = printed(render(board(wide), "table"), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == 3


def test_table_highlights_the_best_and_failed_trials() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(render(board(), "table"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[2].startswith("\x1b[1;32m")
    assert lines[-1].startswith("\x1b[31m")


def test_file_suffix_selects_the_format() -> None:
    formats = {".tex": "latex", ".CSV": "csv", ".htm": "html", ".md": "md", ".parquet": "parquet"}
    assert {suffix: format_of(suffix) for suffix in formats} == formats


def test_unknown_format_is_rejected() -> None:
    message = r"'xls' is not a leaderboard format. .*Allowed: table, md, csv"
    with pytest.raises(ExtensionError, match=message):
        render([], "xls")
    with pytest.raises(ExtensionError, match=r"'' is not a leaderboard format"):
        format_of("")
    with pytest.raises(OptionError, match=r"'xls' is not a format. Allowed: table, json\."):
        check_format("xls", ("table", "json"))
    assert check_format("json", ("table", "json")) == "json"


def test_integers_from_1000_have_a_thousands_separator() -> None:
    table = readable_table([{"parameters": 999}, {"parameters": 7969}, {"parameters": 39257}])
    assert [cells[0] for cells in table.rows] == ["999", "7,969", "39,257"]


def test_a_single_row_shows_all_hyperparameters() -> None:
    rows = ranking([RankedSearch("one", MIXED)], "valid_accuracy")
    row = {**rows[0], "dropout": 0.25}
    assert "dropout 0.25" in printed(render([row], "table"))
    assert "dropout" not in printed(render([row, row], "table"))


def test_hyperparameters_that_all_networks_share_are_shown_once() -> None:
    network = {"wide": "add", "cell": "gru", "hidden_size": 8, "readout": "max"}
    state = state_of(
        ({"wide": "only"}, [0.5], "completed"),
        ({**network, "dropout": 0.25}, [0.6], "completed"),
        ({**network, "dropout": 0.75}, [0.7], "completed"),
    )
    rows = board(state)
    first, _, wide = read_table(render(rows, "table"))[1:]
    assert first[-1] == "gru 8, dropout 0.75"
    assert wide[-1] == "the wide part alone"
    sentence = "The same in all trials with a network: wide add, readout max."
    assert common_sentence(rows) == sentence
    networks = "The same in all of these trials: wide add, readout max."
    assert common_sentence(rows[:2]) == networks
    assert common_sentence(rows[:1]) == common_sentence([]) == ""
    assert sentence in str(render(rows, "html"))
    for form in ("md", "html"):
        header = READERS[form](render(rows, form))[0]
        assert {"wide", "cell", "dropout"} <= set(header)
        assert "readout" not in header
    assert "readout" in READERS["latex"](render(rows, "latex"))[0]
