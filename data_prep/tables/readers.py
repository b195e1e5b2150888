"""Readers of table cells, one per format. All of them stream, and stop at a limit (`contents`).

To add a format, write a reader, list it in `FORMATS`, and register its name in
`celltune.data_prep.extensions.SOURCES`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import MAX_DOCUMENT_BYTES, open_text, too_long
from celltune.data_prep.tables.cells import Cells, Column, as_text, position
from celltune.data_prep.tables.parquet import parquet_cells


def csv_rows(path: Path, file: TextIO, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its last line.

    Args:
        path: the file, for messages.
        file: its content, with the line breaks as they are.
        delimiter: separates the cells of a row.

    Raises:
        DataError: the file is not valid CSV, or a row is too long.
    """
    # The limit is global to the process, so it is only ever raised: documents may be long.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_DOCUMENT_BYTES))
    size, first = 0, 1

    def lines() -> Iterator[str]:
        # A quoted cell can contain line breaks, so a row has any number of lines and cells.
        nonlocal size
        for line in file:
            size += len(line)
            if size > MAX_DOCUMENT_BYTES:
                place = f"{path}, line {first:,}: the row, in which a quote may be missing,"
                raise too_long(place)
            yield line

    reader = csv.reader(lines(), strict=True, delimiter=delimiter)
    try:
        for row in reader:
            size, first = 0, reader.line_num + 1
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: this is not valid CSV ({error}). Quote every cell "
            f"that contains a {_delimiter_name(delimiter)}, a quote or a line break, and double "
            f"the quotes inside it."
        ) from error


def csv_cells(
    path: Path, columns: Sequence[Column], max_bytes: int | None = None, delimiter: str = ","
) -> Cells:
    """Yield the cells of a file of comma-separated values with a header.

    Args:
        path: the file, plain or gzipped.
        columns: the columns to read.
        max_bytes: limit for the file after decompression (see `content_limit`).
        delimiter: separates the cells of a row.

    Raises:
        DataError: the file is empty, too large or not valid CSV, the header is not valid UTF-8, a
            column is missing or occurs twice, or a row has too few or too many cells.
    """
    with open_text(path, max_bytes) as file:
        rows = csv_rows(path, file, delimiter)
        _, header = next(rows, (0, None))
        if header is None:
            raise DataError(f"{path} is empty. It needs a header and labelled documents.")
        names = [_header_cell(path, name) for name in header]
        indices = [position(str(path), names, column) for column in columns]
        for number, (line, cells) in enumerate(rows, start=1):
            if len(cells) != len(names):
                where = f"{path}, row {number} (line {line})"
                raise DataError(_wrong_cell_count(where, len(cells), len(names), delimiter))
            yield f" (line {line})", [cells[index] for index in indices]


def tsv_cells(path: Path, columns: Sequence[Column], max_bytes: int | None = None) -> Cells:
    """Yield the cells of a file of tab-separated values with a header, quoted as in CSV.

    Raises:
        DataError: as for `csv_cells`.
    """
    return csv_cells(path, columns, max_bytes, delimiter="\t")


def jsonl_cells(path: Path, columns: Sequence[Column], max_bytes: int | None = None) -> Cells:
    """Yield the cells of a file with one JSON object per line; numbers and booleans become text.

    Raises:
        DataError: the file is empty or too large, a line is not a JSON object or lacks a column, or
            a cell contains a list or an object.
    """
    empty = True
    with open_text(path, max_bytes) as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            empty = False
            where = f"{path}, line {line_number}"
            record = _json_object(where, line, columns)
            names = list(record)
            values = [record[names[position(where, names, column)]] for column in columns]
            yield f" (line {line_number})", [as_text(where, value) for value in values]
    if empty:
        raise DataError(f"{path} is empty. It needs labelled documents, one JSON object per line.")


FORMATS: dict[str, Callable[[Path, Sequence[Column], int | None], Cells]] = {
    "csv": csv_cells,
    "tsv": tsv_cells,
    "jsonl": jsonl_cells,
    "parquet": parquet_cells,
}
"""The reader of each format; the keys are also the names of the sources and the file suffixes."""


def text_lines(
    path: Path,
    columns: Sequence[Column],  # noqa: ARG001
    max_bytes: int | None = None,
) -> Cells:
    """Yield the lines of a text file as the only cell of each row; it has no columns.

    Raises:
        DataError: the file or a line is too large.
    """
    with open_text(path, max_bytes) as file:
        for number, line in enumerate(file, start=1):
            yield f" (line {number})", [line.rstrip("\r\n")]


TEXT_FORMATS = {**FORMATS, "txt": text_lines}
"""The reader of each format of a file of texts without labels, by suffix."""


def format_of(path: Path) -> str:
    """Return a file's suffix without the dot, and without .gz; it may be empty."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return suffixes[-1].removeprefix(".") if suffixes else ""


def _header_cell(path: Path, name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(name[error.start]) - 0xDC00
        raise DataError(
            f"{path}, line 1: byte 0x{code:02x} in the header is not valid UTF-8. Save the file as "
            f"UTF-8."
        ) from error
    return name.strip()


def _json_object(where: str, line: str, columns: Sequence[Column]) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        # Python refuses to read integers that are so long that their conversion takes minutes.
        is_integer = str(error).startswith("Exceeds the limit")
        problem = "an integer has thousands of digits" if is_integer else error
        raise DataError(
            f"{where}: this is not valid JSON ({problem}). The format jsonl needs one JSON object "
            f"per line."
        ) from error
    if not isinstance(record, dict):
        example = json.dumps({column.name: "..." for column in columns})
        raise DataError(
            f"{where}: this is a {type(record).__name__}, not an object. The format jsonl needs "
            f"lines such as {example}."
        )
    return record


def _wrong_cell_count(where: str, cells: int, expected: int, delimiter: str) -> str:
    return (
        f"{where} has too {'few' if cells < expected else 'many'} cells: {cells}, but the header "
        f"names {expected}. Quote cells that contain a {_delimiter_name(delimiter)} or a line "
        f"break."
    )


def _delimiter_name(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else "comma"
