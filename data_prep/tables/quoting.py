"""Decides whether the double quotes of a file enclose cells or are characters like any other.

A wrong answer can merge rows without an error: without quoting, a cell may begin with a quotation
mark and a later one end with it. Therefore the file is read in both ways, to its end unless very
many rows contradict one of them. Each way leaves traces that the other one cannot explain: a writer
that encloses cells encloses every cell that contains a quotation mark, a delimiter or a line break,
and doubles the marks inside (RFC 4180). A writer that does not quote leaves marks anywhere.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import TextIO

from celltune.data_prep.io.contents import BUFFER_BYTES, MAX_DOCUMENT_BYTES, open_content, open_text
from celltune.data_prep.tables.separated import allow_long_cells, stated_delimiter

_MOST_VALUES = 1_000
"""A column with more different values than this is not one of labels."""
_MOST_LINES = 1_000
"""Lines within quotes that are compared with the labels."""
_CELL_CHARACTERS = 100
_ALMOST_ALL = 0.9
_MANY = 1_000
"""Rows that contradict a way of reading, after which the rest of the file is not read."""
_INTERVAL = 512


class _Traces:
    """What both ways of reading find in the rows of a file."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self.quoted_widths: Counter[int] = Counter()
        """Number of rows by number of cells, if quotes enclose cells."""
        self.plain_widths: Counter[int] = Counter()
        """The same if they do not."""
        self.errors = 0
        """Rows that are not valid with quoting."""
        self.escaped = self.bare = 0
        """Enclosed cells with doubled quotes; cells with quotes that nothing encloses."""
        self.enclosed: Counter[int] = Counter()
        """Other enclosed cells, by column."""
        self.within: list[list[str]] = []
        """The cells of the lines of rows that have several lines with quoting."""
        self.values: dict[int, set[str]] = {}
        """Different values of each column in the other rows, as long as they are few."""

    def add(self, row: list[str], lines: list[str]) -> None:
        """Add a row that is valid with quoting, and the lines that it consists of."""
        if row:
            self.quoted_widths[len(row)] += 1
        if len(lines) > 1:
            self.add_lines(lines)
        elif row and '"' not in lines[0]:
            self.plain_widths[len(row)] += 1
            self._add_values(row)
        elif row:
            plain = lines[0].rstrip("\r\n").split(self._delimiter)
            self.plain_widths[len(plain)] += 1
            self._add_values(plain)
            if len(plain) == len(row):
                self._compare(row, plain)

    def add_lines(self, lines: list[str]) -> None:
        """Add lines that quoting merges to one row, or that are not valid with it."""
        for line in lines:
            if not line.strip("\r\n"):
                continue
            plain = line.rstrip("\r\n").split(self._delimiter)
            self.plain_widths[len(plain)] += 1
            if len(self.within) < _MOST_LINES:
                self.within.append([cell[:_CELL_CHARACTERS] for cell in plain])

    def _compare(self, row: list[str], plain: list[str]) -> None:
        for column, (cell, raw) in enumerate(zip(row, plain, strict=True)):
            if cell == raw:
                self.bare += '"' in raw and not raw.lstrip().startswith('"')
            elif '""' in raw[1:-1]:
                self.escaped += 1
            else:
                self.enclosed[column] += 1

    def _add_values(self, cells: list[str]) -> None:
        for column, cell in enumerate(cells):
            values = self.values.setdefault(column, set())
            if len(values) <= _MOST_VALUES:
                values.add(cell[:_CELL_CHARACTERS])

    @property
    def quoted_faults(self) -> int:
        """Rows that contradict quoting."""
        return self.errors + _faults(self.quoted_widths)

    @property
    def plain_faults(self) -> int:
        """Lines that contradict plain quotes."""
        return _faults(self.plain_widths)

    @property
    def lines_have_labels(self) -> bool | None:
        """Whether the lines within quotes have cells that also occur in the other rows.

        Returns:
            True if a column has only known values there; False if every column of few values has
            an unknown one; None if there is no such column.
        """
        known = [
            all(column < len(cells) and cells[column] in values for cells in self.within)
            for column, values in self.values.items()
            if 0 < len(values) <= _MOST_VALUES
            and len(values) * 2 <= sum(self.plain_widths.values()) - len(self.within)
        ]
        return any(known) if known else None

    @property
    def is_decided(self) -> bool:
        """Whether very many rows contradict one way, and none the other one."""
        quoted, plain = self.quoted_faults, self.plain_faults
        return not (quoted and plain) and max(quoted, plain) >= _MANY


def guess_quoting(
    path: Path, delimiter: str, encoding: str | None, max_bytes: int | None
) -> tuple[bool | None, str]:
    """Return whether double quotes enclose cells, and the reason for it.

    Args:
        path: the file.
        delimiter: separates its cells.
        encoding: of the file.
        max_bytes: limit for the file after decompression (see `content_limit`).

    Returns:
        None instead of a truth value if nothing in the file depends on it, or if both are equally
        plausible and give different rows; the reason is empty then.

    Raises:
        DataError: the file is too large.
    """
    if not _has_quotes(path, encoding, max_bytes):
        return None, "the file contains no quotes"
    traces = _read(path, delimiter, encoding, max_bytes)
    quoted, plain = traces.quoted_faults, traces.plain_faults
    if not (quoted or plain):
        return _of_consistent(traces, delimiter)
    if quoted * 2 <= plain:
        return True, "without it, lines would have different numbers of cells"
    enclosed = traces.escaped + traces.enclosed.total()
    if plain * 2 <= quoted and (traces.bare or enclosed < 10 * quoted):
        return False, "with it, rows would not be valid"
    # Both readings reject rows, so that nothing is read wrongly without an error.
    return True, f"{enclosed:,} cells are enclosed by quotes, although some rows are not valid"


def _of_consistent(traces: _Traces, delimiter: str) -> tuple[bool | None, str]:
    """Decide for a file in which both readings give all rows the same number of cells."""
    if traces.bare and not traces.escaped:
        return False, f"{traces.bare:,} cells contain quotes, but are not enclosed by them"
    if traces.escaped and not traces.bare:
        return True, f"{traces.escaped:,} enclosed cells contain doubled quotes"
    if traces.within:
        if traces.lines_have_labels is None or traces.bare:
            return None, ""
        if traces.lines_have_labels:
            return False, "lines within quotes are complete rows"
        return True, "lines within quotes are no complete rows"
    if traces.escaped:
        return None, ""
    if not traces.enclosed:
        return None, "no cell begins with a quote"
    number = traces.enclosed.total()
    # A writer encloses every cell of a column, or those that need it, which these do not. People
    # who write commas by hand enclose as they like; tabs come from programs.
    rows = traces.plain_widths.total()
    if delimiter == "\t" and max(traces.enclosed.values()) < _ALMOST_ALL * rows:
        return False, f"{number:,} cells begin and end with a quote, but need not be enclosed"
    return True, f"{number:,} cells are enclosed by quotes"


class _Lines:
    """Iterates over the lines of a file, and remembers those of the current row.

    It can continue after an error, which a generator cannot.
    """

    def __init__(self, file: TextIO) -> None:
        self._file, self._size = file, 0
        self.of_row: list[str] = []
        start = next(file, "")
        self._start = "" if stated_delimiter(start) else start

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line, self._start = self._start or next(self._file), ""
        self._size = len(line) + (self._size if self.of_row else 0)
        self.of_row.append(line)
        if self._size > MAX_DOCUMENT_BYTES:
            raise csv.Error("the row is too long")
        return line


def _read(path: Path, delimiter: str, encoding: str | None, max_bytes: int | None) -> _Traces:
    allow_long_cells()
    traces = _Traces(delimiter)
    with open_text(path, max_bytes, encoding) as file:
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        while True:
            try:
                row = next(reader, None)
            except csv.Error:
                traces.errors += 1
                traces.add_lines(lines.of_row)
            else:
                if row is None:
                    return traces
                traces.add(row, lines.of_row)
                if reader.line_num % _INTERVAL == 0 and traces.is_decided:
                    return traces
            lines.of_row.clear()


def _has_quotes(path: Path, encoding: str | None, max_bytes: int | None) -> bool:
    with open_content(path, max_bytes, has_lines=False, encoding=encoding) as content:
        while chunk := content.read(BUFFER_BYTES):
            if b'"' in chunk:
                return True
    return False


def _faults(widths: Counter[int]) -> int:
    """Return the number of rows that have another number of cells than most."""
    return widths.total() - max(widths.values(), default=0)
