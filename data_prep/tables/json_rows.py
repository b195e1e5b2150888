"""Reader of files with one JSON object per row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import open_text
from celltune.data_prep.tables.cells import (
    BadRow,
    Cells,
    Column,
    OnProblem,
    as_text,
    position,
    report,
)
from celltune.printable import quoted


class _BadRowError(Exception):
    """A row that cannot be read."""

    def __init__(self, kind: str, message: str, fix: str) -> None:
        super().__init__(kind, message, fix)
        self.kind, self.message, self.fix = kind, message, fix


def jsonl_cells(
    path: Path,
    columns: Sequence[Column],
    max_bytes: int | None = None,
    encoding: str | None = None,
    *,
    on_problem: OnProblem | None = None,
) -> Cells:
    """Yield the cells of a file with one JSON object per line; numbers and booleans become text.

    Args:
        path: the file, plain or compressed.
        columns: the columns to read.
        max_bytes: limit for the file after decompression (see `content_limit`).
        encoding: of the file; None for UTF-8.
        on_problem: is told about lines that cannot be read; without it, they raise an error.

    Raises:
        DataError: the file is empty or too large, a line is not a JSON object or lacks a column, or
            a cell contains a list or an object.
    """
    number = 0
    with open_text(path, max_bytes, encoding) as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            number += 1
            place = f" (line {line_number})"
            try:
                cells = _cells(f"{path}, line {line_number}", line, columns, is_first=number == 1)
            except _BadRowError as error:
                bad = BadRow(number, place, error.kind, error.message, error.fix)
                report(path, bad, on_problem)
                continue
            yield place, cells
    if not number:
        raise DataError(f"{path} is empty. It needs labelled documents, one JSON object per line.")


def _cells(where: str, line: str, columns: Sequence[Column], *, is_first: bool) -> list[str]:
    record = _json_object(line, columns)
    for column in columns:
        if column.name not in record:
            # The first row shows whether the name is right.
            if is_first:
                position(where, list(record), column)
            raise _BadRowError(
                f"rows without the key {quoted(column.name)}",
                f"the object has no key {quoted(column.name)}",
                f"Add it, or set {column.setting} to a key of every row.",
            )
    return [_plain(record[column.name]) for column in columns]


def _plain(value: object) -> str:
    if isinstance(value, (list, dict)):
        raise _BadRowError(
            "rows with a list or an object instead of text",
            f"a cell contains a {type(value).__name__}",
            "It must be plain text.",
        )
    return as_text(value)


def _json_object(line: str, columns: Sequence[Column]) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        # Python refuses to read integers that are so long that their conversion takes minutes.
        is_integer = str(error).startswith("Exceeds the limit")
        problem = "an integer has thousands of digits" if is_integer else error
        raise _BadRowError(
            "lines that are not JSON",
            f"this is not valid JSON ({problem})",
            "The format jsonl needs one JSON object per line.",
        ) from error
    if not isinstance(record, dict):
        example = json.dumps({column.name: "..." for column in columns})
        raise _BadRowError(
            "lines that are not JSON objects",
            f"this is a {type(record).__name__}, not an object",
            f"The format jsonl needs lines such as {example}.",
        )
    return record
