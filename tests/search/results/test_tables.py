from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from celltune.search.results.tables import Column, TextTable, csv_text

COLUMNS = (Column("model"), Column("accuracy", right=True, wrap=False), Column("note"))
ROWS = (
    ("gru 32x2 bidirectional", "87.50 %", "the first of several"),
    ("rnn", "7.25 %", ""),
)


def lines(table: TextTable, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_columns_are_aligned() -> None:
    assert lines(TextTable(COLUMNS, ROWS)) == [
        "model                   accuracy  note",
        "──────────────────────  ────────  ────────────────────",
        "gru 32x2 bidirectional   87.50 %  the first of several",
        "rnn                       7.25 %",
    ]


def test_rules_are_ascii_where_the_terminal_shows_nothing_else() -> None:
    buffer = io.BytesIO()
    console = Console(width=40, file=io.TextIOWrapper(buffer, encoding="ascii"))
    console.print(TextTable(COLUMNS[:2], [row[:2] for row in ROWS]))
    console.file.flush()
    assert buffer.getvalue().splitlines()[1] == b"-" * 22 + b"  " + b"-" * 8


def test_cells_are_wrapped_on_a_narrow_terminal() -> None:
    assert lines(TextTable(COLUMNS, ROWS), 36) == [
        "model          accuracy  note",
        "─────────────  ────────  ───────────",
        "gru 32x2        87.50 %  the first",
        "bidirectional            of several",
        "rnn              7.25 %",
    ]


def test_each_row_is_a_block_if_words_would_have_to_be_broken() -> None:
    assert lines(TextTable(COLUMNS, ROWS), 30) == [
        "model     gru 32x2",
        "          bidirectional",
        "accuracy  87.50 %",
        "note      the first of several",
        "",
        "model     rnn",
        "accuracy  7.25 %",
        "note",
    ]


def test_lines_are_cut_instead_if_the_table_says_so() -> None:
    assert lines(TextTable(COLUMNS, ROWS, cut=True), 40)[2] == (
        "gru 32x2 bidirectional   87.50 %  the f…"
    )


@pytest.mark.parametrize("cut", [True, False])
def test_styled_cells_keep_their_width(cut: bool) -> None:
    rows = [("rnn", "7.25 %", Text("good film", style="red")), ("gru", "8.00 %", "")]
    plain = [tuple(cell.plain if isinstance(cell, Text) else cell for cell in row) for row in rows]
    for width in (20, 36, 80):
        styled = lines(TextTable(COLUMNS, rows, cut=cut), width)
        assert styled == lines(TextTable(COLUMNS, plain, cut=cut), width)


@given(
    st.lists(st.tuples(*[st.text("ab 日é", max_size=12)] * 3), max_size=4),
    st.integers(20, 60),
    st.booleans(),
)
def test_no_line_is_wider_than_the_terminal(
    rows: list[tuple[str, str, str]], width: int, cut: bool
) -> None:
    drawn = lines(TextTable(COLUMNS, rows, cut=cut), width)
    assert max(map(cell_len, drawn), default=0) <= width
    assert len(drawn) >= len(rows)


def test_csv_has_no_final_newline() -> None:
    assert csv_text(("a", "b"), [(1, None), ("x,y", True)]) == 'a,b\n1,\n"x,y",True'
    assert csv_text(("a",), [(1,)], header=False) == "1"
