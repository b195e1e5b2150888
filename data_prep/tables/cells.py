"""What the readers of all table formats share: requested columns, and the cells of a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from celltune.data_prep.errors import DataError
from celltune.printable import printable, quoted

NUL = "\0"
MOST_CHARACTERS = 1 << 23
"""Characters of the first rows of a table that are examined, up to one row more."""
MOST_NAMES = 20
"""Column names that an error lists."""
Row = TypeVar("Row")


class Column(NamedTuple):
    """A column to read."""

    setting: str
    """What names the column, for messages: a config key or an option."""
    name: str
    """Name of the column in the file."""


Line = str
"""Position of a row for messages: `" (line 3)"`, or empty if the format has no lines."""

Cells = Iterator[tuple[Line, list[str]]]
"""The requested cells of each row, in the order of the request. Bytes that are not valid UTF-8
are decoded to lone surrogates, so that the caller can name their row."""


class BadRow(NamedTuple):
    """A row that is wrong by itself, whatever its cells should contain."""

    row: int
    """Its number, from 1."""
    line: Line
    """Its position in the file."""
    kind: str
    """What is wrong, as a plural that can be counted, such as "rows with too many cells"."""
    message: str
    """A sentence about this row without the file and the position, which begins in lower case."""
    fix: str
    """A sentence that states how to correct it."""


def with_nul(row: int, line: Line) -> BadRow:
    """Return the problem of a row that contains NUL."""
    return BadRow(
        row,
        line,
        "rows with NUL characters",
        "the row contains a NUL character, which no text contains",
        "Remove it, or set data.encoding if the file has another encoding.",
    )


OnProblem = Callable[[BadRow], None]
"""Is called for each bad row, which is then skipped."""


def report(path: Path, bad: BadRow, on_problem: OnProblem | None) -> None:
    """Tell about a bad row.

    Raises:
        DataError: there is no function to call.
    """
    if on_problem is None:
        raise DataError(f"{path}, row {bad.row}{bad.line}: {bad.message}. {bad.fix}")
    on_problem(bad)


def first_rows(rows: Iterable[Row], most: int) -> list[Row]:
    """Return the first rows, but no more after `MOST_CHARACTERS` of text.

    A file can contain a long text once and repeat it in every row, so their number bounds nothing.

    Args:
        rows: lists of cells, or mappings whose values are cells.
        most: largest number of rows.
    """
    first: list[Row] = []
    size = 0
    for row in islice(rows, most):
        first.append(row)
        cells = row.values() if isinstance(row, Mapping) else row if isinstance(row, list) else ()
        size += sum(len(cell) for cell in cells if isinstance(cell, str))
        if size > MOST_CHARACTERS:
            break
    return first


def positions(where: str, names: list[str], columns: Sequence[Column]) -> list[int]:
    """Return the index of each column in the header, in a time that is linear in their number.

    Raises:
        DataError: a column is missing or occurs twice.
    """
    counts, last = Counter(names), {name: index for index, name in enumerate(names)}
    return [
        last[column.name] if counts[column.name] == 1 else position(where, names, column)
        for column in columns
    ]


def position(where: str, names: list[str], column: Column) -> int:
    """Return the index of a column in the header.

    Raises:
        DataError: the column is missing or occurs twice.
    """
    if names.count(column.name) > 1:
        raise DataError(
            f"{where} has {names.count(column.name)} columns {quoted(column.name)}. Rename all but "
            f"the one that {column.setting} refers to."
        )
    if column.name in names:
        return names.index(column.name)
    shown = names[:MOST_NAMES]
    similar = get_close_matches(column.name, [printable(name, 80) for name in shown], n=1)
    hint = f" (did you mean {quoted(similar[0])}?)" if similar else ""
    available = ", ".join(map(quoted, shown))
    if len(names) > len(shown):
        available += f" and {len(names) - len(shown):,} others"
    raise DataError(
        f"{where} has no column {quoted(column.name)}{hint}. Its columns are {available}. "
        f"Set {column.setting} to one of them."
    )


def as_text(value: object) -> str:
    """Return the value of a cell as text.

    Args:
        value: a string, bytes in UTF-8, a number, a boolean or None.
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        # Integer labels are often stored as 0.0 and 1.0 if one of them is missing.
        return str(int(value))
    return str(value)
