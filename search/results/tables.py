"""Tables of text for terminals, Markdown, HTML, LaTeX and CSV.

All static tables of celltune are drawn here. `rich.table.Table` takes 0.7 ms a row, which is more
than a second for a leaderboard of 2,000 trials; `TextTable` takes 0.02 ms a row.
"""

from __future__ import annotations

import csv
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from celltune.printable import printable
from celltune.search.escaping import html_text, latex_text, markdown_table

Cell = str | Text
_GAP = "  "


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    """True for a column that is aligned to the right, as numbers are."""
    wrap: bool = True
    """True if cells may be wrapped on a narrow terminal."""


@dataclass(frozen=True)
class TextTable:
    """A table that rich can print and that can be written as Markdown, HTML or LaTeX."""

    columns: Sequence[Column]
    """The columns; what is not printable in a title becomes an escape."""
    rows: Sequence[Sequence[Cell]]
    """The cells of each row; they become printable like the titles."""
    styles: Sequence[str] = ()
    """Rich style of each row; empty: no styles."""
    cut: bool = False
    """True if lines that are too long for the terminal are cut instead of wrapped."""

    def __post_init__(self) -> None:
        """Make titles and cells printable, so that their widths are those that are shown."""
        columns = [replace(column, title=printable(column.title)) for column in self.columns]
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "rows", [list(map(_printable, cells)) for cells in self.rows])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Draw the table, or one block of lines per row if the terminal is too narrow for it."""
        widths = [max(map(_width, cells)) for cells in self._cells_by_column()]
        if not self.cut:
            fitting = self._fitting(widths, options.max_width)
            if fitting is None:
                yield from self._blocks(console, options.max_width)
                return
            widths = fitting
        titles = [column.title for column in self.columns]
        # The last column of a cut table is usually cut, so a rule over its width would be as well.
        rule_widths = [*widths[:-1], cell_len(titles[-1])] if self.cut else widths
        rules = [("-" if options.ascii_only else "─") * width for width in rule_widths]
        styles = self.styles or [""] * len(self.rows)
        lines: list[tuple[Sequence[Cell], str]] = [(titles, "bold"), (rules, "dim")]
        lines += zip(self.rows, styles, strict=True)
        for cells, style in lines:
            for line in self._lines(console, cells, widths):
                yield from _segments(console, line, Style.parse(style), options.max_width)

    def _cells_by_column(self) -> Iterator[tuple[Cell, ...]]:
        return zip((column.title for column in self.columns), *self.rows, strict=True)

    def _fitting(self, widths: Sequence[int], max_width: int) -> list[int] | None:
        """Return widths that fit the terminal without broken words; None if there are none."""
        minimum = [
            max(_width(word) for cell in cells for word in _plain(cell).split(" "))
            if column.wrap
            else width
            for column, cells, width in zip(
                self.columns, self._cells_by_column(), widths, strict=True
            )
        ]
        available = max_width - len(_GAP) * (len(widths) - 1)
        if sum(minimum) > available:
            return None
        fitting = list(widths)
        while sum(fitting) > available:
            wide = [index for index, width in enumerate(fitting) if width > minimum[index]]
            fitting[max(wide, key=fitting.__getitem__)] -= 1
        return fitting

    def _blocks(self, console: Console, max_width: int) -> Iterator[Segment]:
        """Draw each row as lines with a title and a cell."""
        title_width = max(cell_len(column.title) for column in self.columns)
        cell_width = max(1, max_width - title_width - len(_GAP))
        for index, cells in enumerate(self.rows):
            if index:
                yield Segment.line()
            for column, cell in zip(self.columns, cells, strict=True):
                wrapped = _wrap(console, cell, cell_width)
                for number, line in enumerate(wrapped or [""]):
                    title = _padded("" if number else column.title, title_width, right=False)
                    yield from _segments(console, [title, line], Style.null(), max_width)

    def _lines(
        self, console: Console, cells: Sequence[Cell], widths: Sequence[int]
    ) -> Iterator[list[Cell]]:
        """Return the lines of a row, with padded cells."""
        right = [column.right for column in self.columns]
        if self.cut or all(map(operator.le, map(_width, cells), widths)):
            yield list(map(_padded, cells, widths, right))
            return
        wrapped = [_wrap(console, cell, width) for cell, width in zip(cells, widths, strict=True)]
        for line in zip_longest(*wrapped, fillvalue=""):
            yield list(map(_padded, line, widths, right))

    def markdown(self) -> str:
        """Return the table in Markdown."""
        return markdown_table(
            [column.title for column in self.columns],
            (map(_plain, cells) for cells in self.rows),
            right={column.title for column in self.columns if column.right},
        )

    def html(self) -> str:
        """Return the table as an HTML element."""
        classes = [' class="n"' if column.right else "" for column in self.columns]
        head = "".join(
            f'<th scope="col"{kind}>{html_text(column.title)}</th>'
            for column, kind in zip(self.columns, classes, strict=True)
        )
        body = (
            "".join(
                f"<td{kind}>{html_text(_plain(cell))}</td>"
                for cell, kind in zip(cells, classes, strict=True)
            )
            for cells in self.rows
        )
        lines = "\n".join(f"<tr>{cells}</tr>" for cells in body)
        return f"<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{lines}\n</tbody>\n</table>"

    def latex(self) -> str:
        """Return the table as a LaTeX tabular that needs the package booktabs."""
        alignment = "".join("r" if column.right else "l" for column in self.columns) or "l"
        titles = " & ".join(latex_text(column.title) for column in self.columns)
        rows = (" & ".join(latex_text(_plain(cell)) for cell in cells) for cells in self.rows)
        return "\n".join(
            [
                "% in the preamble: \\usepackage{booktabs}",
                f"\\begin{{tabular}}{{{alignment}}}",
                "\\toprule",
                f"{titles} \\\\",
                "\\midrule",
                *(f"{cells} \\\\" for cells in rows),
                "\\bottomrule",
                "\\end{tabular}",
            ]
        )


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[object]], header: bool = True) -> str:
    """Return rows as CSV with exact values, without a newline at the end.

    Cells that a spreadsheet takes for a formula stay as they are (docs/decisions/0056).
    """
    lines = _Lines()
    # Until Python 3.13, only characters of the line terminator are put in quotes.
    writer = csv.writer(lines, lineterminator="\r\n")
    if header:
        writer.writerow(columns)
    writer.writerows(rows)
    return "\n".join(lines)


class _Lines(list[str]):
    """A file that collects the lines which a csv writer writes, without their terminators."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n"))


def _printable(cell: Cell) -> Cell:
    if isinstance(cell, str):
        return printable(cell)
    shown = printable(cell.plain)
    # The spans of a text with escapes would be at other positions.
    return cell if shown == cell.plain else Text(shown, style=cell.style)


def _plain(cell: Cell) -> str:
    return cell.plain if isinstance(cell, Text) else cell


def _width(cell: Cell) -> int:
    return cell_len(_plain(cell))


def _wrap(console: Console, cell: Cell, width: int) -> list[Cell]:
    return list((cell if isinstance(cell, Text) else Text(cell)).wrap(console, width))


def _padded(cell: Cell, width: int, right: bool) -> Cell:
    space = " " * (width - _width(cell))
    if isinstance(cell, Text):
        return Text.assemble(space, cell) if right else Text.assemble(cell, space)
    return space + cell if right else cell + space


def _segments(
    console: Console, cells: Sequence[Cell], style: Style, max_width: int
) -> Iterator[Segment]:
    """Draw one line; a line that does not fit ends with an ellipsis."""
    if any(isinstance(cell, Text) for cell in cells):
        line = Text(_GAP).join(Text(cell) if isinstance(cell, str) else cell for cell in cells)
        line.rstrip()
        line.truncate(max_width, overflow="ellipsis")
        yield from line.render(console)
    else:
        text = _GAP.join(map(_plain, cells)).rstrip()
        if cell_len(text) > max_width:
            text = set_cell_size(text, max_width - 1) + "…"
        yield Segment(text, style)
    yield Segment.line()
