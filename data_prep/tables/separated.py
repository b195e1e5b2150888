"""Reader of files in which a character separates the cells of a row: CSV and its relatives."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    MAX_DOCUMENT_BYTES,
    limited_reader,
    open_text,
    too_long,
)
from celltune.data_prep.tables.cells import (
    NUL,
    BadRow,
    Cells,
    Column,
    OnProblem,
    positions,
    report,
    with_nul,
)
from celltune.data_prep.tables.format import TableFormat

_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar", " ": "space"}
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


def delimiter_name(delimiter: str) -> str:
    """Return what a message calls a delimiter."""
    return _DELIMITER_NAMES.get(delimiter, f"'{delimiter}'")


def stated_delimiter(line: str) -> str | None:
    """Return the delimiter that a first line such as `sep=;` states, as Excel reads and writes.

    Returns:
        None if it is an ordinary line.
    """
    found = _DELIMITER_LINE.fullmatch(line)
    return found[1] if found else None


def allow_long_cells() -> None:
    """Let the module `csv` read cells as long as documents."""
    # The limit is global to the process, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_DOCUMENT_BYTES))


def csv_rows(
    path: Path, file: TextIO, delimiter: str = ",", *, quoting: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its last line.

    A first line such as `sep=;` is skipped.

    Args:
        path: the file, for messages.
        file: its content, with the line breaks as they are.
        delimiter: separates the cells of a row.
        quoting: whether double quotes enclose cells.

    Raises:
        DataError: the file is not valid CSV, or a row is too long.
    """
    allow_long_cells()
    size, first, skipped = 0, 1, 0

    def lines() -> Iterator[str]:
        # A quoted cell can contain line breaks, so a row has any number of lines and cells.
        nonlocal size, skipped
        start = next(file, "")
        if stated_delimiter(start):
            skipped = 1
        elif start:
            size = len(start)
            yield start
        for line in file:
            size += len(line)
            if size > MAX_DOCUMENT_BYTES:
                hint = ", in which a quote may be missing," if quoting else ""
                raise too_long(f"{path}, line {first:,}: the row{hint}")
            yield line

    reader = csv.reader(
        lines(),
        strict=True,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
    )
    try:
        for row in reader:
            size, first = 0, skipped + reader.line_num + 1
            if row:
                yield skipped + reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}, line {skipped + reader.line_num}: this is not valid CSV ({error}). Quote "
            f"every cell that contains a {delimiter_name(delimiter)}, a quote or a line break, and "
            f"double the quotes inside it. If quotes are characters like any other, set "
            f"data.quoting to false."
        ) from error


def csv_cells(
    path: Path,
    columns: Sequence[Column],
    max_bytes: int | None = None,
    delimiter: str = ",",
    *,
    form: TableFormat | None = None,
    on_problem: OnProblem | None = None,
) -> Cells:
    """Yield the cells of a file of comma-separated values.

    Args:
        path: the file, plain or compressed.
        columns: the columns to read.
        max_bytes: limit for the file after decompression (see `content_limit`).
        delimiter: separates the cells of a row.
        form: settings that replace the default ones and the delimiter.
        on_problem: is called for each row that cannot be read; without it, they raise an error.

    Raises:
        DataError: the file is empty, too large or not valid CSV, the header is not valid UTF-8, a
            column is missing or occurs twice, or a row has too few or too many cells.
    """
    form = form or TableFormat("csv", delimiter)
    quoting = form.quoting is not False
    with open_text(path, max_bytes, form.encoding) as file:
        rows = csv_rows(path, file, form.separator, quoting=quoting)
        line, start = next(rows, (0, None))
        if start is None:
            raise DataError(f"{path} is empty. It needs a header and labelled documents.")
        if form.header is False:
            names = [str(number) for number in range(1, len(start) + 1)]
            rows = _after(line, start, rows)
        else:
            names = [_header_cell(path, name) for name in start]
        indices = positions(str(path), names, columns)
        # Experiments of releases that knew no encodings keep their texts.
        checks_nul = form.encoding is not None
        content = limited_reader(file)
        for number, (line, cells) in enumerate(rows, start=1):
            where = f" (line {line})"
            if len(cells) != len(names):
                bad = _wrong_cell_count(number, where, cells, names, form)
            elif checks_nul and content.has_nul and any(NUL in cell for cell in cells):
                bad = with_nul(number, where)
            else:
                yield where, [cells[index] for index in indices]
                continue
            report(path, bad, on_problem)


def _after(
    line: int, row: list[str], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield line, row
    yield from rows


def _header_cell(path: Path, name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(name[error.start]) - 0xDC00
        raise DataError(
            f"{path}, line 1: byte 0x{code:02x} in the header is not valid UTF-8. Save the file as "
            f"UTF-8, or set data.encoding to its encoding."
        ) from error
    return name.strip()


def _wrong_cell_count(
    number: int, line: str, cells: Sequence[str], names: Sequence[str], form: TableFormat
) -> BadRow:
    amount = "few" if len(cells) < len(names) else "many"
    delimiter = delimiter_name(form.separator)
    first = "first row has" if form.header is False else "header names"
    fix = f"Quote cells that contain a {delimiter} or a line break."
    if form.quoting is False:
        fix = f"Remove the {delimiter} or the line break from the cell."
    return BadRow(
        number,
        line,
        f"rows with too {amount} cells",
        f"the row has too {amount} cells: {len(cells)}, but the {first} {len(names)}",
        fix,
    )
