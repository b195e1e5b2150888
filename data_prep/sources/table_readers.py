"""Readers of table cells, one per format. All of them stream.

To add a format, write a reader, list it in `FORMATS`, and register its name in
`celltune.data_prep.extensions.SOURCES`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import open_text

MAX_CELL_CHARACTERS = 1 << 30
PARQUET_BATCH_ROWS = 4_096


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


def csv_cells(path: Path, columns: Sequence[Column], delimiter: str = ",") -> Cells:
    """Yield the cells of a file of comma-separated values with a header.

    Raises:
        DataError: the file is empty or not valid CSV, the header is not valid UTF-8, a column is
            missing or occurs twice, or a row has too few or too many cells.
    """
    # The limit is global to the process, so it is only ever raised: documents may be long.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    with open_text(path) as file:
        reader = csv.reader(file, strict=True, delimiter=delimiter)
        rows = _csv_rows(path, reader, delimiter)
        header = next(rows, None)
        if header is None:
            raise DataError(f"{path} is empty. It needs a header and labelled documents.")
        names = [_header_cell(path, name) for name in header]
        indices = [_position(str(path), names, column) for column in columns]
        for number, cells in enumerate(rows, start=1):
            if len(cells) != len(names):
                where = f"{path}, row {number} (line {reader.line_num})"
                raise DataError(_wrong_cell_count(where, len(cells), len(names), delimiter))
            yield f" (line {reader.line_num})", [cells[index] for index in indices]


def tsv_cells(path: Path, columns: Sequence[Column]) -> Cells:
    """Yield the cells of a file of tab-separated values with a header, quoted as in CSV.

    Raises:
        DataError: as for `csv_cells`.
    """
    return csv_cells(path, columns, delimiter="\t")


def jsonl_cells(path: Path, columns: Sequence[Column]) -> Cells:
    """Yield the cells of a file with one JSON object per line; numbers and booleans become text.

    Raises:
        DataError: the file is empty, a line is not a JSON object or lacks a column, or a cell
            contains a list or an object.
    """
    empty = True
    with open_text(path) as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            empty = False
            where = f"{path}, line {line_number}"
            record = _json_object(where, line, columns)
            names = list(record)
            values = [record[names[_position(where, names, column)]] for column in columns]
            yield f" (line {line_number})", [_as_text(where, value) for value in values]
    if empty:
        raise DataError(f"{path} is empty. It needs labelled documents, one JSON object per line.")


def parquet_cells(path: Path, columns: Sequence[Column]) -> Cells:
    """Yield the cells of a Parquet file of any compression.

    Raises:
        DataError: the file is empty or damaged, a column is missing or occurs twice, or a cell
            contains a list or a mapping.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.stat().st_size:
        raise DataError(f"{path} is empty. It needs labelled documents.")
    try:
        with pq.ParquetFile(path) as file:
            for column in columns:
                _position(str(path), file.schema_arrow.names, column)
            names = [column.name for column in columns]
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=sorted(set(names))):
                values = [_text_as_bytes(batch.column(name)).to_pylist() for name in names]
                for row in zip(*values, strict=True):
                    yield "", [_as_text(str(path), value) for value in row]
    except (pa.ArrowInvalid, OSError) as error:
        # Arrow raises an OSError without a number for damaged pages; errors of the disk have one.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path} is not a complete Parquet file ({error}). Get or write the file again."
        ) from error


FORMATS: dict[str, Callable[[Path, Sequence[Column]], Cells]] = {
    "csv": csv_cells,
    "tsv": tsv_cells,
    "jsonl": jsonl_cells,
    "parquet": parquet_cells,
}
"""The reader of each format; the keys are also the names of the sources and the file suffixes."""


def text_lines(path: Path, columns: Sequence[Column]) -> Cells:  # noqa: ARG001
    """Yield the lines of a text file as the only cell of each row; it has no columns."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            yield f" (line {number})", [line.rstrip("\r\n")]


TEXT_FORMATS = {**FORMATS, "txt": text_lines}
"""The reader of each format of a file of texts without labels, by suffix."""


def format_of(path: Path) -> str:
    """Return a file's suffix without the dot, and without .gz; it may be empty."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return suffixes[-1].removeprefix(".") if suffixes else ""


def _csv_rows(path: Path, reader: Iterator[list[str]], delimiter: str) -> Iterator[list[str]]:
    try:
        # The csv module returns an empty list for a blank line.
        yield from filter(None, reader)
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise DataError(
            f"{path}, line {line}: this is not valid CSV ({error}). Quote every cell that contains "
            f"a {_delimiter_name(delimiter)}, a quote or a line break, and double the quotes "
            f"inside it."
        ) from error


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


def _position(where: str, names: list[str], column: Column) -> int:
    """Return the index of a column in the header."""
    if names.count(column.name) > 1:
        raise DataError(
            f"{where} has {names.count(column.name)} columns {column.name!r}. Rename all but the "
            f"one that {column.setting} refers to."
        )
    if column.name in names:
        return names.index(column.name)
    similar = get_close_matches(column.name, names, n=1)
    hint = f" (did you mean {similar[0]!r}?)" if similar else ""
    available = ", ".join(ascii(name) for name in names)
    raise DataError(
        f"{where} has no column {column.name!r}{hint}. Its columns are {available}. "
        f"Set {column.setting} to one of them."
    )


def _json_object(where: str, line: str, columns: Sequence[Column]) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: this is not valid JSON ({error}). The format jsonl needs one JSON object "
            f"per line."
        ) from error
    if not isinstance(record, dict):
        example = json.dumps({column.name: "..." for column in columns})
        raise DataError(
            f"{where}: this is a {type(record).__name__}, not an object. The format jsonl needs "
            f"lines such as {example}."
        )
    return record


def _text_as_bytes(column: Any) -> Any:
    """Cast the strings of an Arrow column to bytes.

    Arrow decodes a whole batch at once, and its error does not name the row with invalid UTF-8.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text_as_bytes(column.dictionary_decode())
    if str(kind) in ("string", "large_string", "string_view"):
        return column.cast(pa.large_binary())
    return column


def _as_text(where: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        # Integer labels are often stored as 0.0 and 1.0 if one of them is missing.
        return str(int(value))
    if isinstance(value, (list, dict)):
        raise DataError(
            f"{where}: a cell contains a {type(value).__name__}. It must be plain text."
        )
    return str(value)


def _wrong_cell_count(where: str, cells: int, expected: int, delimiter: str) -> str:
    return (
        f"{where} has too {'few' if cells < expected else 'many'} cells: {cells}, but the header "
        f"names {expected}. Quote cells that contain a {_delimiter_name(delimiter)} or a line "
        f"break."
    )


def _delimiter_name(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else "comma"
