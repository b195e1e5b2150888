"""Recognizes how a file is written: its kind, encoding, delimiter, quoting and header.

Nothing is guessed that is not nearly certain: where two readings are equally plausible, the error
names the setting that decides. Every setting can be given instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import open_text, too_long
from celltune.data_prep.io.files import reading
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.tables.arrow import dataset_columns
from celltune.data_prep.tables.cells import MOST_CHARACTERS, Column, as_text, first_rows
from celltune.data_prep.tables.dialect import (
    MOST_COLUMNS,
    MOST_ROWS,
    guess_delimiter,
    guess_header,
    has_label_column,
    read_rows,
)
from celltune.data_prep.tables.encodings import guess_encoding
from celltune.data_prep.tables.excel import excel_rows, is_workbook
from celltune.data_prep.tables.format import SEPARATED, TableFormat, kind_of_name
from celltune.data_prep.tables.json_rows import json_elements
from celltune.data_prep.tables.parquet import parquet_columns
from celltune.data_prep.tables.quoting import guess_quoting
from celltune.data_prep.tables.readers import read_cells
from celltune.data_prep.tables.separated import delimiter_name, stated_delimiter
from celltune.printable import printable, quoted

_PARQUET_MAGIC, _ZIP_MAGIC = b"PAR1", b"PK\x03\x04"
_NO_TEXT = ("parquet", "xlsx", "dataset")
_HEAD_CHARACTERS = 1 << 16
_ARRAY, _OBJECT = re.compile(r"\s*\[\s*[{\]]"), re.compile(r"\s*\{\s*[\r\n]")
_OTHER_FILES = {
    _ZIP_MAGIC: "a zip archive. Unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel file with a password or of 2003. Save it as .xlsx without one",
    b"%PDF": "a PDF document. Extract its table to a .csv file",
}
"""First bytes of files that are no tables, and what to do with them."""
_MOST_LINES = 4 * MOST_ROWS
_SETTING = "`text_column`"
_AS_OTHER = "as in the other file"


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
    """The cells of the first rows, at most 1,000; of more columns than that, those of the first."""


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
        if found.given.kind is None and path.is_dir():
            found.set("kind", "dataset", "it is a folder")
        if found.given.kind == "dataset":
            return _with_rows(found, dataset_columns(path, max_bytes))
        with open_regular(path) as raw:
            head = raw.read(len(_PARQUET_MAGIC))
        if not head:
            raise _empty(path)
        if found.given.kind is None and head == _PARQUET_MAGIC:
            found.set("kind", "parquet", "its first bytes")
        if found.given.kind is None and head == _ZIP_MAGIC and is_workbook(path):
            found.set("kind", "xlsx", "it is an Excel workbook")
        if found.given.kind is None and kind_of_name(path) in _NO_TEXT:
            found.set("kind", kind_of_name(path), "its name")
        if found.given.kind == "parquet":
            return _with_rows(found, parquet_columns(path))
        if found.given.kind == "xlsx":
            return _of_workbook(found)
        if found.given.kind == "dataset":
            return _with_rows(found, dataset_columns(path, max_bytes))
        return _of_text(found)


def _empty(path: Path) -> DataError:
    return DataError(f"{printable(path)} is empty. It needs a table of texts.")


def detect_files(
    paths: Sequence[Path],
    given: TableFormat | None = None,
    max_bytes: int | None = None,
    *,
    like: Detected | None = None,
) -> Detected:
    """Return how files that are read as one are written; the rows are those of the first one.

    Args:
        paths: the files of a split.
        given: as for `detect`.
        max_bytes: as for `detect`.
        like: as for `detect`.

    Raises:
        DataError: as for `detect`, or the files are written in different ways.
    """
    first = detect(paths[0], given, max_bytes, like=like)
    for path in paths[1:]:
        other = detect(path, given, max_bytes, like=first)
        if (other.format, other.columns) == (first.format, first.columns):
            continue
        raise DataError(
            f"{printable(paths[0])} and {printable(path)} are read as one, but differ: "
            f"{_difference(first, other)}. Save them in the same format, or name one of them."
        )
    return first


def _difference(first: Detected, other: Detected) -> str:
    if first.format != other.format:
        return f"the first is {printable(first.format)}; the second is {printable(other.format)}"
    names = (", ".join(map(quoted, each.columns[:8])) for each in (first, other))
    return "the columns are {} and {}".format(*names)


def _of_workbook(found: _Found) -> Detected:
    sheet, cells = excel_rows(found.path, found.max_bytes, found.given.sheet)
    rows = first_rows(cells, MOST_ROWS + 1)
    if not rows:
        raise DataError(f"{printable(found.path)} has a sheet without rows. It needs texts.")
    if found.given.sheet is None:
        found.set("sheet", sheet, "the only sheet with texts")
    width = len(rows[0])
    padded = [[*row[:width], *[""] * (width - len(row))] for row in rows]
    return _with_header(found, padded)


def _of_text(found: _Found) -> Detected:
    if found.given.encoding is None:
        _reject_other_files(found.path)
        found.set("encoding", *_encoding(found))
    if found.given.kind is None and (reason := _is_array(found)):
        found.set("kind", "json", reason)
    if found.given.kind == "json":
        elements = json_elements(found.path, found.max_bytes, found.given.encoding)
        return _of_objects(found, first_rows(elements, MOST_ROWS))
    lines, complete = _first_lines(found)
    stated = stated_delimiter(lines[0]) if lines else None
    if not any(line.strip() for line in lines[stated is not None :]):
        raise _empty(found.path)
    if found.given.kind is None and (reason := _is_json(lines)):
        found.set("kind", "jsonl", reason)
    if found.given.kind is None and kind_of_name(found.path) in ("json", "jsonl"):
        # The reader reports what the file contains instead of objects.
        found.set("kind", "jsonl", "its name")
    if found.given.kind == "jsonl":
        return _of_objects(found, _objects_of(lines))
    if found.given.kind != "txt":
        _find_delimiter(found, lines, complete=complete)
    if found.given.kind == "txt":
        return _with_rows(found, ("1",))
    return _of_separated(found, lines, complete=complete)


def _encoding(found: _Found) -> tuple[str, str]:
    name, reason = guess_encoding(found.path, found.max_bytes)
    if name is not None:
        return name, reason
    if found.prior.encoding is None:
        raise DataError(reason)
    return found.prior.encoding, _AS_OTHER


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
            if len(lines) == _MOST_LINES or size > MOST_CHARACTERS:
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


def _is_array(found: _Found) -> str:
    """Return why a text is a JSON array or a single object; an empty text if it is neither."""
    with open_text(found.path, found.max_bytes, found.given.encoding, has_lines=False) as file:
        head = file.read(_HEAD_CHARACTERS)
    if _ARRAY.match(head):
        return "it begins with [ and {"
    return "it begins with { on a line of its own" if _OBJECT.match(head) else ""


def _objects_of(lines: Sequence[str]) -> list[object]:
    """Return what the first lines contain; one that is not JSON is reported by the reader."""
    records = list[object]()
    for line in islice(filter(str.strip, lines), MOST_ROWS):
        with suppress(ValueError, RecursionError):
            records.append(json.loads(line))
    return records


def _of_objects(found: _Found, elements: Sequence[object]) -> Detected:
    """Return the first objects; their columns are the keys with plain values."""
    records = [element for element in elements if isinstance(element, dict)]
    nested = {
        key
        for record in records
        for key, value in record.items()
        if isinstance(value, (list, dict))
    }
    names = tuple(key for key in dict.fromkeys(chain(*records)) if key not in nested)
    if not names:
        raise DataError(
            f"{printable(found.path)} contains no JSON object of plain values. It needs objects "
            f'such as {{"text": "...", "label": "..."}}.'
        )
    rows = [[as_text(record.get(name)) for name in names[:MOST_COLUMNS]] for record in records]
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
        found.set("delimiter", possible[0], reason or _AS_OTHER)
    elif found.given.kind in SEPARATED or named in SEPARATED:
        kind = found.given.kind or named
        found.set("delimiter", TableFormat(kind).separator, "nothing else separates its cells")
    else:
        found.set("kind", "txt", "its lines have no cells in common")
        return
    if found.given.kind is None:
        found.set("kind", "csv", "its name" if named == "csv" else "its lines consist of cells")


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
        if encloses is None and not reason and found.prior.quoting is None:
            raise DataError(
                f"{printable(path)}: it is not certain whether double quotes enclose cells. Both "
                f"readings are possible, but give different rows. Set data.quoting to true if they "
                f"do, or to false if they are characters like any other."
            )
        if encloses is None:
            encloses = found.prior.quoting is not False
        found.set("quoting", encloses, reason or _AS_OTHER)
    quoting = found.given.quoting is not False
    rows = read_rows(lines, delimiter, quoting=quoting, complete=complete)
    if not rows:
        raise too_long(f"{printable(path)}: the first row, in which a quote may be missing,")
    return _with_header(found, rows)


def _with_header(found: _Found, rows: Sequence[Sequence[str]]) -> Detected:
    """Decide whether the first row names the columns."""
    if found.given.header is None:
        _find_header(found, rows)
    names = [name.strip() for name in rows[0]]
    if found.given.header is False:
        names = [str(number) for number in range(1, len(names) + 1)]
    others = rows[0 if found.given.header is False else 1 :]
    first = [list(row[:MOST_COLUMNS]) for row in others if len(row) == len(names)]
    return Detected(found.given, found.reasons, tuple(names), first[:MOST_ROWS])


def _find_header(found: _Found, rows: Sequence[Sequence[str]]) -> None:
    names = tuple(name.strip() for name in rows[0])
    header, reason = guess_header(rows)
    if found.like is not None and found.prior.header and names == found.like.columns:
        header, reason = True, _AS_OTHER
    if header is None:
        header, reason = found.prior.header, _AS_OTHER
    if header is None:
        shown = ", ".join(quoted(name) for name in names[:4])
        raise DataError(
            f"{printable(found.path)}: it is not certain whether the first row ({shown}) names the "
            f"columns or is a document. Set data.header to true or false."
        )
    found.set("header", header, reason)


def _with_rows(found: _Found, names: tuple[str, ...]) -> Detected:
    """Read the first rows of a file whose columns are known."""
    columns = [Column(_SETTING, name) for name in names[:MOST_COLUMNS]]
    cells = read_cells(found.path, found.given, columns, found.max_bytes, on_problem=lambda _: None)
    rows = first_rows((row for _, row in cells), MOST_ROWS)
    return Detected(found.given, found.reasons, names, rows)
