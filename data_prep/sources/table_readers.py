"""Cells of tables: one reader a format, all of them streams."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import open_text

LONGEST_CELL = 1 << 30
ROWS_AT_ONCE = 4_096


class Column(NamedTuple):
    """A column that is read: the setting that names it, as a person writes it, and its name."""

    setting: str
    name: str


Place = str
"""What a message says behind the row's number: ``" (line 3)"`` or nothing."""

Cells = Iterator[tuple[Place, list[str]]]
"""The cells of the wanted columns in their order, row by row. Bytes that aren't utf-8 come as
lone surrogates, so that the row they stand in can be named."""


def csv_cells(path: Path, wanted: Sequence[Column], delimiter: str = ",") -> Cells:
    """Of comma-separated values with a header.

    Raises:
        DataError: an empty file, a missing column, a row that is too short or too long, or
            quotes that don't close.
    """
    # The limit is the process's, so it is only ever raised: reviews may be long.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    with open_text(path) as file:
        reader = csv.reader(file, strict=True, delimiter=delimiter)
        rows = _csv_rows(path, reader, delimiter)
        header = next(rows, None)
        if header is None:
            raise DataError(f"{path} is empty; it needs a header and labelled reviews")
        names = [_header_cell(path, name) for name in header]
        at = [_position(path, names, column) for column in wanted]
        for number, cells in enumerate(rows, start=1):
            if len(cells) != len(names):
                where = f"{path}, row {number} (line {reader.line_num})"
                raise DataError(_ragged(where, cells, names, delimiter))
            yield f" (line {reader.line_num})", [cells[index] for index in at]


def tsv_cells(path: Path, wanted: Sequence[Column]) -> Cells:
    """Of tab-separated values with a header, quoted as in csv; raises as `csv_cells` does."""
    return csv_cells(path, wanted, delimiter="\t")


def jsonl_cells(path: Path, wanted: Sequence[Column]) -> Cells:
    """Of a file with one JSON object a line; numbers and truth values become text.

    Raises:
        DataError: an empty file, a line that isn't a JSON object or lacks a wanted key.
    """
    empty = True
    with open_text(path) as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            empty = False
            where = f"{path}, line {line_number}"
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{where}: this isn't JSON ({error}); source jsonl needs one JSON object a line"
                ) from error
            if not isinstance(found, dict):
                raise DataError(
                    f"{where}: this is {type(found).__name__}, not an object; source jsonl needs "
                    f"lines such as {json.dumps({column.name: '...' for column in wanted})}"
                )
            names = list(found)
            values = [found[names[_position(Path(where), names, column)]] for column in wanted]
            yield f" (line {line_number})", [_as_text(where, value) for value in values]
    if empty:
        raise DataError(f"{path} is empty; it needs labelled reviews, one JSON object a line")


def parquet_cells(path: Path, wanted: Sequence[Column]) -> Cells:
    """Of a parquet file, whatever it is compressed with.

    Raises:
        DataError: an empty or damaged file, or a missing column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.stat().st_size:
        raise DataError(f"{path} is empty; it needs labelled reviews")
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in wanted:
                _position(path, names, column)
            chosen = [column.name for column in wanted]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=sorted(set(chosen))):
                columns = [_undecoded(batch.column(name)).to_pylist() for name in chosen]
                for values in zip(*columns, strict=True):
                    yield "", [_as_text(str(path), value) for value in values]
    except (pa.ArrowInvalid, OSError) as error:
        # Arrow's complaints about damaged pages have no number; those of a disk do.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path} isn't a whole parquet file ({error}); get the file again or write it anew"
        ) from error


def _undecoded(column: Any) -> Any:
    """An Arrow column whose texts are bytes: Arrow decodes a batch, and no row can be named."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _undecoded(column.dictionary_decode())
    if str(kind) in ("string", "large_string", "string_view"):
        return column.cast(pa.large_binary())
    return column


FORMATS: dict[str, Callable[[Path, Sequence[Column]], Cells]] = {
    "csv": csv_cells,
    "tsv": tsv_cells,
    "jsonl": jsonl_cells,
    "parquet": parquet_cells,
}
"""The reader of each format, by the name that a config gives it."""


def _csv_rows(path: Path, reader: Iterator[list[str]], delimiter: str) -> Iterator[list[str]]:
    try:
        # A blank line between rows is no row.
        yield from filter(None, reader)
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        mark = "tab" if delimiter == "\t" else "comma"
        raise DataError(
            f"{path}, line {line}: this isn't csv ({error}); quote every cell that holds "
            f'a {mark}, a quote or a line break, and write a quote inside a cell as ""'
        ) from error


def _header_cell(path: Path, name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(name[error.start]) - 0xDC00
        raise DataError(
            f"{path}, line 1: byte 0x{code:02x} in the header isn't utf-8; save the file as utf-8"
        ) from error
    return name.strip()


def _position(path: Path, names: list[str], column: Column) -> int:
    if names.count(column.name) > 1:
        raise DataError(
            f"{path} has {names.count(column.name)} columns {column.name!r}; rename all but the "
            f"one that {column.setting} means"
        )
    if column.name in names:
        return names.index(column.name)
    near = get_close_matches(column.name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = ", ".join(ascii(name) for name in names)
    raise DataError(
        f"{path} has no column {column.name!r}{hint}; its columns are {shown}. "
        f"Set {column.setting} to one of them"
    )


def _as_text(where: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        # A label column with a gap somewhere is often written as 0.0 and 1.0.
        return str(int(value))
    if isinstance(value, (list, dict)):
        raise DataError(f"{where}: a cell holds a {type(value).__name__}; it must be plain text")
    return str(value)


def _ragged(where: str, cells: list[str], header: list[str], delimiter: str) -> str:
    few = "short: it has" if len(cells) < len(header) else "too long: it has"
    mark = "tab" if delimiter == "\t" else "comma"
    return (
        f"{where} is {few} {len(cells)} cells where the header names {len(header)}; "
        f"quote cells that hold a {mark} or a line break"
    )
