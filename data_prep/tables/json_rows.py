"""Readers of JSON objects: one per line, or the elements of an array."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import MAX_DOCUMENT_BYTES, open_text, too_long
from celltune.data_prep.tables.cells import (
    BadRow,
    Cells,
    Column,
    OnProblem,
    as_text,
    position,
    report,
)
from celltune.printable import printable, quoted

_CHUNK_CHARACTERS = 1 << 18
_SPACE = " \t\r\n"


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
        on_problem: is called for each line that cannot be read; without it, they raise an error.

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
                record = _parsed(line)
                cells = _cells(f"{path}, line {line_number}", record, columns, number)
            except _BadRowError as error:
                bad = BadRow(number, place, error.kind, error.message, error.fix)
                report(path, bad, on_problem)
                continue
            yield place, cells
    if not number:
        raise DataError(f"{path} is empty. It needs labelled documents, one JSON object per line.")


def json_cells(
    path: Path,
    columns: Sequence[Column],
    max_bytes: int | None = None,
    encoding: str | None = None,
    *,
    on_problem: OnProblem | None = None,
) -> Cells:
    """Yield the cells of a file with an array of JSON objects; numbers and booleans become text.

    The array is never in memory as a whole.

    Args:
        path: as for `jsonl_cells`.
        columns: as for `jsonl_cells`.
        max_bytes: as for `jsonl_cells`.
        encoding: as for `jsonl_cells`.
        on_problem: is called for each element that cannot be used; without it, they raise an error.

    Raises:
        DataError: as for `jsonl_cells`, or the file is not an array.
    """
    number = 0
    for number, record in enumerate(json_elements(path, max_bytes, encoding), start=1):
        try:
            cells = _cells(f"{path}, row {number}", record, columns, number)
        except _BadRowError as error:
            report(path, BadRow(number, "", error.kind, error.message, error.fix), on_problem)
            continue
        yield "", cells
    if not number:
        raise DataError(f"{path} is empty. It needs labelled documents, as an array of objects.")


def json_elements(path: Path, max_bytes: int | None, encoding: str | None) -> Iterator[Any]:
    """Yield the elements of a file with a JSON array.

    Raises:
        DataError: the file is too large, it is not an array, or an element is not valid JSON or
            too long.
    """
    with open_text(path, max_bytes, encoding, has_lines=False) as file:
        yield from _Elements(path, file)


class _Elements:
    """Reads a JSON array element by element."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._text, self._at, self._ended = "", 0, False
        self._number = 0

    def __iter__(self) -> Iterator[Any]:
        start = self._next_sign()
        if not start:
            return
        if start != "[":
            raise DataError(
                f"{printable(self._path)} is not an array of JSON objects. The format json needs "
                f'[{{"text": "...", "label": "..."}}, ...], as pandas writes with '
                f'to_json(orient="records"); the format jsonl needs one object per line.'
            )
        sign = self._next_sign(skipped=1)
        while sign != "]":
            self._number += 1
            yield self._element()
            sign = self._next_sign()
            if sign not in ("]", ","):
                raise self._invalid("a comma or a closing bracket is missing after the element")
            if sign == ",":
                self._next_sign(skipped=1)

    def _next_sign(self, skipped: int = 0) -> str:
        """Return the next character that is no space; an empty text at the end of the file."""
        self._at += skipped
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read()

    def _read(self) -> None:
        """Read as much as there is left, so that a long element is parsed few times."""
        rest = self._text[self._at :]
        chunk = self._file.read(max(_CHUNK_CHARACTERS, len(rest)))
        self._text, self._at, self._ended = rest + chunk, 0, not chunk

    def _element(self) -> Any:
        while True:
            try:
                element, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._ended or isinstance(error, RecursionError):
                    raise self._invalid(_problem(error)) from error
            else:
                # The number 12 may be the beginning of 123.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return element
            if len(self._text) - self._at > MAX_DOCUMENT_BYTES:
                raise too_long(f"{printable(self._path)}, row {self._number}: the element")
            self._read()

    def _invalid(self, problem: object) -> DataError:
        return DataError(
            f"{printable(self._path)}, row {self._number}: this is not valid JSON ({problem}). The "
            f"format json needs an array of objects."
        )


_DECODER = json.JSONDecoder()


def _cells(where: str, record: object, columns: Sequence[Column], number: int) -> list[str]:
    if not isinstance(record, dict):
        example = json.dumps({column.name: "..." for column in columns})
        raise _BadRowError(
            "rows that are not JSON objects",
            f"this is a {type(record).__name__}, not an object",
            f"The formats jsonl and json need objects such as {example}.",
        )
    for column in columns:
        if column.name not in record:
            # The first row shows whether the name is right.
            if number == 1:
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


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _BadRowError(
            "lines that are not JSON",
            f"this is not valid JSON ({_problem(error)})",
            "The format jsonl needs one JSON object per line.",
        ) from error


def _problem(error: Exception) -> object:
    # Python refuses to read integers that are so long that their conversion takes minutes.
    is_integer = str(error).startswith("Exceeds the limit")
    return "an integer has thousands of digits" if is_integer else error
