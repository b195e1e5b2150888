"""Recognizes how a file is written: its kind, encoding, delimiter, quoting and header.

Nothing is guessed that is not nearly certain: where two readings are equally plausible, the error
names the setting that decides. Every setting can be given instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import open_text
from celltune.data_prep.io.files import reading
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.tables.cells import Column, as_text
from celltune.data_prep.tables.dialect import (
    MOST_ROWS,
    guess_delimiter,
    guess_header,
    has_label_column,
    read_rows,
)
from celltune.data_prep.tables.encodings import guess_encoding
from celltune.data_prep.tables.format import SEPARATED, TableFormat, kind_of_name
from celltune.data_prep.tables.parquet import parquet_columns
from celltune.data_prep.tables.quoting import guess_quoting
from celltune.data_prep.tables.readers import read_cells
from celltune.data_prep.tables.separated import delimiter_name, stated_delimiter
from celltune.printable import printable, quoted

_PARQUET_MAGIC = b"PAR1"
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive. Unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel file of 2003 or earlier. Save it as .csv",
    b"%PDF": "a PDF document. Extract its table to a .csv file",
}
"""First bytes of files that are no tables, and what to do with them."""
_MOST_LINES, _MOST_CHARACTERS = 4 * MOST_ROWS, 1 << 23
_SETTING = "`text_column`"


@dataclass(frozen=True)
class Detected:
    """How a file is written, and its first rows."""

    format: TableFormat
    """Its settings, all of them stated."""
    reasons: Mapping[str, str]
    """Why, by setting: what the content shows. Settings that were given have no reason."""
    columns: tuple[str, ...]
    """The names of the columns; "1", "2" and so on without a header."""
    rows: list[list[str]]
    """The cells of the first rows, at most 1,000."""


@dataclass
class _Found:
    """Settings that are found one after the other."""

    path: Path
    given: TableFormat
    like: Detected | None
    max_bytes: int | None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def prior(self) -> TableFormat:
        """Settings of the file that this one is expected to resemble."""
        return self.like.format if self.like is not None else TableFormat()

    def set(self, key: str, value: Any, reason: str) -> None:
        """Add a setting and its reason."""
        self.given = replace(self.given, **{key: value})
        self.reasons[key] = reason


def detect(
    path: Path,
    given: TableFormat | None = None,
    max_bytes: int | None = None,
    *,
    like: Detected | None = None,
) -> Detected:
    """Return how a file is written. A text file is read to its end.

    Args:
        path: the file; text files plain or compressed.
        given: settings that are known, None for the others.
        max_bytes: limit for the file after decompression (see `content_limit`).
        like: another file, whose settings count where the content of this one does not decide.

    Raises:
        DataError: the file is missing, damaged, empty or too large, has an unknown format, or two
            readings are equally plausible.
    """
    found = _Found(path, given or TableFormat(), like, max_bytes)
    with reading(path):
        with open_regular(path) as raw:
            head = raw.read(len(_PARQUET_MAGIC))
        if not head:
            raise DataError(f"{printable(path)} is empty. It needs a table of texts.")
        if found.given.kind is None and head == _PARQUET_MAGIC:
            found.set("kind", "parquet", "its first bytes")
        if found.given.kind == "parquet":
            return _with_rows(found, parquet_columns(path))
        return _of_text(found)


def _of_text(found: _Found) -> Detected:
    if found.given.encoding is None:
        _reject_other_files(found.path)
        found.set("encoding", *guess_encoding(found.path, found.max_bytes))
    lines, complete = _first_lines(found)
    if not any(line.strip() for line in lines):
        raise DataError(f"{printable(found.path)} is empty. It needs a table of texts.")
    if found.given.kind is None and (reason := _is_json(lines)):
        found.set("kind", "jsonl", reason)
    if found.given.kind == "jsonl":
        return _of_objects(found, lines)
    if found.given.kind != "txt":
        _find_delimiter(found, lines, complete=complete)
    if found.given.kind == "txt":
        return _with_rows(found, ("1",))
    return _of_separated(found, lines, complete=complete)


def _reject_other_files(path: Path) -> None:
    with open_regular(path) as raw:
        head = raw.read(8)
    for magic, description in _OTHER_FILES.items():
        if head.startswith(magic):
            raise DataError(f"{printable(path)} is {description}.")


def _first_lines(found: _Found) -> tuple[list[str], bool]:
    """Return the first lines of a text file, and whether they are all."""
    lines, size = list[str](), 0
    with open_text(found.path, found.max_bytes, found.given.encoding) as file:
        for line in file:
            if len(lines) == _MOST_LINES or size > _MOST_CHARACTERS:
                return lines, False
            lines.append(line)
            size += len(line)
    return lines, True


def _is_json(lines: Sequence[str]) -> str:
    """Return why a text consists of JSON objects, one per line; an empty text if it does not."""
    first = next(line for line in lines if line.strip())
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return ""
    return "its first line is a JSON object" if isinstance(record, dict) else ""


def _of_objects(found: _Found, lines: Sequence[str]) -> Detected:
    """Return the first objects; their columns are the keys with plain values."""
    records = list[dict[str, object]]()
    for line in islice(filter(str.strip, lines), MOST_ROWS):
        # A line that is not JSON is reported by the reader.
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    nested = {
        key
        for record in records
        for key, value in record.items()
        if isinstance(value, (list, dict))
    }
    names = tuple(key for key in dict.fromkeys(chain(*records)) if key not in nested)
    if not names:
        raise DataError(
            f"{printable(found.path)} has no line with a JSON object of plain values. It needs "
            f'lines such as {{"text": "...", "label": "..."}}.'
        )
    rows = [[as_text(record.get(name)) for name in names] for record in records]
    return Detected(found.given, found.reasons, names, rows)


def _find_delimiter(found: _Found, lines: list[str], *, complete: bool) -> None:
    """Set the delimiter, and the kind if it is unknown."""
    stated = stated_delimiter(lines[0])
    if stated is not None:
        del lines[0]
    if found.given.delimiter is not None:
        found.given = replace(found.given, kind=found.given.kind or "csv")
        return
    named = kind_of_name(found.path)
    if stated is not None:
        possible, reason = [stated], f"the first line is sep={stated}"
    else:
        possible, reason = guess_delimiter(lines, found.given.quoting, complete=complete)
    possible = _narrowed(found, named, possible)
    if len(possible) > 1:
        raise _uncertain_delimiter(found.path, possible)
    if possible and (named in SEPARATED or _is_table(found, lines, possible[0])):
        found.set("delimiter", possible[0], reason or "the other file has the same one")
    elif found.given.kind in SEPARATED or named in SEPARATED:
        kind = found.given.kind or named
        found.set("delimiter", TableFormat(kind).separator, "nothing else separates its cells")
    else:
        found.set("kind", "txt", "its lines have no cells in common")
        return
    if found.given.kind is None:
        found.set("kind", "csv", "every line has cells")


def _narrowed(found: _Found, named: str | None, possible: list[str]) -> list[str]:
    """Choose among several delimiters: that of the other file, then that of the name."""
    if len(possible) < 2:
        return possible
    usual = TableFormat(named).separator if named in SEPARATED else None
    for delimiter in (found.prior.delimiter, usual):
        if delimiter in possible:
            return [delimiter]
    return possible


def _is_table(found: _Found, lines: Sequence[str], delimiter: str) -> bool:
    """Return whether lines of a file with another name are rows, not texts with punctuation."""
    if found.given.kind in SEPARATED or delimiter == "\t":
        return True
    rows = read_rows(lines, delimiter, quoting=True, complete=True)
    return has_label_column(rows) or guess_header(rows)[0] is True


def _uncertain_delimiter(path: Path, possible: Sequence[str]) -> DataError:
    names = " and ".join(delimiter_name(each) for each in possible)
    return DataError(
        f"{printable(path)}: {names} separate the same number of cells in every row. Set "
        f"data.delimiter to the one that does."
    )


def _of_separated(found: _Found, lines: Sequence[str], *, complete: bool) -> Detected:
    path, delimiter = found.path, found.given.separator
    if found.given.quoting is None:
        encloses, reason = guess_quoting(path, delimiter, found.given.encoding, found.max_bytes)
        if encloses is None:
            encloses = found.prior.quoting is not False
        found.set("quoting", encloses, reason)
    quoting = found.given.quoting is not False
    rows = read_rows(lines, delimiter, quoting=quoting, complete=complete)
    if found.given.header is None:
        _find_header(found, rows)
    names = [name.strip() for name in rows[0]]
    if found.given.header is False:
        names = [str(number) for number in range(1, len(names) + 1)]
    start = 0 if found.given.header is False else 1
    first = [row for row in rows[start:] if len(row) == len(names)][:MOST_ROWS]
    return Detected(found.given, found.reasons, tuple(names), first)


def _find_header(found: _Found, rows: Sequence[Sequence[str]]) -> None:
    names = tuple(name.strip() for name in rows[0])
    header, reason = guess_header(rows)
    if found.like is not None and found.prior.header is not None:
        same = names == found.like.columns
        if found.prior.header is same or header is None:
            header, reason = found.prior.header, "as in the other file"
    if header is None:
        shown = ", ".join(quoted(name) for name in names[:4])
        raise DataError(
            f"{printable(found.path)}: it is not certain whether the first row ({shown}) names the "
            f"columns or is a document. Set data.header to true or false."
        )
    found.set("header", header, reason)


def _with_rows(found: _Found, names: tuple[str, ...]) -> Detected:
    """Read the first rows of a file whose columns are known."""
    columns = [Column(_SETTING, name) for name in names]
    cells = read_cells(found.path, found.given, columns, found.max_bytes, on_problem=lambda _: None)
    rows = [row for _, row in islice(cells, MOST_ROWS)]
    return Detected(found.given, found.reasons, names, rows)
