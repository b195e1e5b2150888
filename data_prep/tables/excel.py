"""Reader of the cells of Excel workbooks (.xlsx).

A workbook is a zip archive of XML documents. They are parsed as streams: no tree of a document is
built, entities are rejected, and only the texts of the workbook (its shared strings) are in memory.

Source of the layout: ECMA-376, Office Open XML, parts 1 (SpreadsheetML) and 2 (packages).
"""

from __future__ import annotations

import errno
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    BYTES_PER_LINE,
    MAX_DOCUMENT_BYTES,
    limit_of_file,
    limited,
    too_large,
    too_many,
)
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.tables.cells import Cells, Column, as_text, position
from celltune.printable import printable, quoted

MOST_COLUMNS = 16_384
"""Columns that a sheet of Excel can have."""

_CHUNK_BYTES = 1 << 16
_MOST_SHEETS = 1_000
_WORKBOOK, _STRINGS = "xl/workbook.xml", "xl/sharedStrings.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods of Excel. Others can ask for gigabytes of memory."""
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError,
    NotImplementedError, RuntimeError, OSError,
)  # fmt: skip
"""What `zipfile` raises for damaged and encrypted archives."""
_REFERENCE = re.compile(r"([A-Z]{1,3})[0-9]+")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""A character that XML cannot contain, such as _x000D_ for a carriage return."""

_Attributes = Mapping[str, str]
_Row = tuple[str, dict[int, str]]
"""Number of a row in its sheet, and its texts by column, from 0."""


class _DamagedError(Exception):
    """A part of the workbook is missing or not valid."""


def excel_cells(
    path: Path,
    columns: Sequence[Column],
    max_bytes: int | None = None,
    sheet: str | None = None,
    *,
    header: bool = True,
) -> Cells:
    """Yield the cells of a sheet of an Excel workbook. Rows without any text are skipped.

    Numbers and truth values become text; values that Excel shows as errors are missing. A date is
    the number that Excel stores.

    Args:
        path: the file.
        columns: the columns to read.
        max_bytes: limit for the file after decompression (see `content_limit`).
        sheet: name of the sheet; by default the only one with texts.
        header: whether the first row names the columns.

    Raises:
        DataError: the file is damaged or too large, the sheet is missing or empty, or a column is
            missing or occurs twice.
    """
    with _opened(path, max_bytes) as book:
        rows = book.rows(book.sheet(sheet))
        first = next(rows, None)
        if first is None:
            raise DataError(f"{printable(path)} has a sheet without rows. It needs a header.")
        names = _names(first, header=header)
        indices = [position(str(path), names, column) for column in columns]
        read = 0
        for number, cells in rows if header else _after(first, rows):
            values = [cells.get(index, "") for index in indices]
            # The workbook can contain a text once and refer to it in millions of cells.
            read += sum(map(len, values))
            if read > book.limit:
                raise too_large(path, book.limit)
            yield f" (row {number} of the sheet)", values


def excel_rows(
    path: Path, max_bytes: int | None, sheet: str | None
) -> tuple[str, Iterator[list[str]]]:
    """Return the name of the sheet that is read, and its rows with all cells.

    Args:
        path: the file.
        max_bytes: as for `excel_cells`.
        sheet: as for `excel_cells`.

    Raises:
        DataError: as for `excel_cells`.
    """
    with _opened(path, max_bytes) as book:
        name = book.sheet(sheet)

    def rows() -> Iterator[list[str]]:
        with _opened(path, max_bytes) as book:
            for _, cells in book.rows(name):
                yield [cells.get(index, "") for index in range(max(cells) + 1)]

    return name, rows()


def is_workbook(path: Path) -> bool:
    """Return whether a zip archive is an Excel workbook."""
    with (
        open_regular(path) as raw,
        suppress(*_DAMAGES),
        zipfile.ZipFile(raw) as archive,
    ):
        return _WORKBOOK in archive.namelist()
    return False


def _names(first: _Row, *, header: bool) -> list[str]:
    cells = first[1]
    width = max(cells) + 1
    if header:
        return [cells.get(index, "").strip() for index in range(width)]
    return [str(number) for number in range(1, width + 1)]


def _after(first: _Row, rows: Iterator[_Row]) -> Iterator[_Row]:
    yield first
    yield from rows


@contextmanager
def _opened(path: Path, max_bytes: int | None) -> Iterator[_Workbook]:
    """Open a workbook, and convert the errors of its archive and its documents."""
    with open_regular(path) as raw:
        limit = limit_of_file(raw, max_bytes)
        try:
            with zipfile.ZipFile(raw) as archive:
                yield _Workbook(path, archive, limit)
        except (*_DAMAGES, expat.ExpatError, _DamagedError) as error:
            # A damaged archive states invalid positions; errors of the disk have other numbers.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise DataError(
                f"{printable(path)} is not a complete Excel workbook ({printable(error, 200)}). "
                f"Save it again as .xlsx, without a password, or as .csv."
            ) from error


class _Workbook:
    """The sheets of an open archive."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, limit: int) -> None:
        self.limit = limit
        self._path, self._archive = path, archive
        self._parts = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in self._parts.values()) > limit:
            raise too_large(path, limit)
        self._strings: list[str] | None = None

    def sheet(self, wanted: str | None) -> str:
        """Return the name of the wanted sheet, or of the only one that contains texts.

        Raises:
            DataError: there is none, or there are several.
        """
        sheets = self._sheets()
        if wanted is not None:
            if wanted not in sheets:
                raise DataError(
                    f"{printable(self._path)} has no sheet {quoted(wanted)}. Its sheets are "
                    f"{_listed(sheets)}. Set data.sheet to one of them."
                )
            return wanted
        # Thousands of sheets can be the same part.
        parts = {part for part in set(sheets.values()) if next(self._rows(part), None) is not None}
        filled = [name for name, part in sheets.items() if part in parts]
        if len(filled) != 1:
            problem = f"has several sheets: {_listed(filled)}" if filled else "has no texts"
            fix = "Set data.sheet to one of them" if filled else "It needs a table"
            raise DataError(f"{printable(self._path)} {problem}. {fix}.")
        return filled[0]

    def rows(self, sheet: str) -> Iterator[_Row]:
        """Yield the rows of a sheet that contain texts."""
        return self._rows(self._sheets()[sheet])

    def _rows(self, part: str) -> Iterator[_Row]:
        if self._strings is None:
            self._strings = list(self._shared_strings())
        yield from self._parsed(part, _RowHandler(self._strings))

    def _sheets(self) -> dict[str, str]:
        """Return the part of each visible sheet, by name."""
        targets = dict(self._parsed(_RELATIONS, _RelationHandler()))
        sheets = dict(self._parsed(_WORKBOOK, _SheetHandler()))
        return {
            name: posixpath.normpath(posixpath.join("/xl", targets.get(key, ""))).lstrip("/")
            for name, key in sheets.items()
        }

    def _shared_strings(self) -> Iterator[str]:
        if _STRINGS in self._parts:
            number = 0
            for number, text in enumerate(self._parsed(_STRINGS, _StringHandler()), start=1):
                if number > self.limit // BYTES_PER_LINE:
                    raise too_many(self._path, self.limit, "text", BYTES_PER_LINE)
                yield text

    def _parsed(self, part: str, handler: _Handler) -> Iterator[Any]:
        """Yield what a handler finds in a document, while it is read."""
        info = self._parts.get(part)
        if info is None or info.compress_type not in _METHODS:
            raise _DamagedError(f"it has no readable part {part}")
        with (
            self._archive.open(info) as stream,
            limited(self._path, stream, self.limit, has_lines=False) as content,
        ):
            yield from handler.found(content)


class _Handler:
    """Parses one XML document as a stream and collects what it finds."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._found = list[Any]()
        self._since = 0
        self._text: list[str] | None = None
        """The text of the current element, if it is of interest."""
        self._size = 0

    def found(self, content: IO[bytes]) -> Iterator[Any]:
        """Yield what a document contains."""
        while chunk := content.read(_CHUNK_BYTES):
            self._parser.Parse(chunk)
            self._since += len(chunk)
            if self._since > MAX_DOCUMENT_BYTES:
                # Incomplete markup is parsed again with every chunk.
                raise _DamagedError("an element is too long")
            yield from self._found
            self._found.clear()
        self._parser.Parse(b"", True)
        yield from self._found

    def start(self, name: str, attributes: _Attributes) -> None:
        """Handle the beginning of an element."""

    def end(self, name: str) -> None:
        """Handle the end of an element."""

    def _start(self, name: str, attributes: _Attributes) -> None:
        self._since = 0
        self.start(_local(name), attributes)

    def _end(self, name: str) -> None:
        self._since = 0
        self.end(_local(name))

    def _characters(self, text: str) -> None:
        self._since = 0
        if self._text is not None:
            self._text.append(text)
            self._size += len(text)
            if self._size > MAX_DOCUMENT_BYTES:
                raise _DamagedError(f"a text is longer than {MAX_DOCUMENT_BYTES:,} bytes")

    def _doctype(self, *_: object) -> None:
        raise _DamagedError("it declares a document type")

    def _taken(self) -> str:
        """Return the text of the current element, which ends."""
        text, self._text, self._size = "".join(self._text or ()), None, 0
        return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


class _RelationHandler(_Handler):
    """Finds the parts that the ids of a workbook refer to."""

    def start(self, name: str, attributes: _Attributes) -> None:
        if name == "Relationship":
            self._found.append((attributes.get("Id", ""), attributes.get("Target", "")))


class _SheetHandler(_Handler):
    """Finds the names and ids of visible sheets."""

    _number = 0

    def start(self, name: str, attributes: _Attributes) -> None:
        if name != "sheet" or attributes.get("state", "visible") != "visible":
            return
        self._number += 1
        if self._number > _MOST_SHEETS:
            raise _DamagedError(f"it has more than {_MOST_SHEETS:,} sheets")
        key = next((value for key, value in attributes.items() if key.endswith(" id")), "")
        self._found.append((attributes.get("name", ""), key))


class _StringHandler(_Handler):
    """Finds the shared strings, whose parts may be formatted; hints for reading aloud are left."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = list[str]()
        self._in_hint = False

    def start(self, name: str, attributes: _Attributes) -> None:  # noqa: ARG002
        if name == "si":
            self._parts = []
        elif name == "rPh":
            self._in_hint = True
        elif name == "t" and not self._in_hint:
            self._text = []

    def end(self, name: str) -> None:
        if name == "t" and not self._in_hint:
            self._parts.append(self._taken())
        elif name == "rPh":
            self._in_hint = False
        elif name == "si":
            self._found.append("".join(self._parts))


class _RowHandler(_Handler):
    """Finds the rows of a sheet that contain texts."""

    def __init__(self, strings: Sequence[str]) -> None:
        super().__init__()
        self._strings = strings
        self._row, self._number = dict[int, str](), ""
        self._column, self._kind = -1, ""
        self._parts = list[str]()
        self._in_hint = False

    def start(self, name: str, attributes: _Attributes) -> None:
        if name == "row":
            self._row, self._column = {}, -1
            self._number = printable(attributes.get("r", "?"), 20)
        elif name == "c":
            self._column = self._column_of(attributes.get("r"))
            self._kind, self._parts = attributes.get("t", "n"), []
        elif name == "rPh":
            self._in_hint = True
        elif name in ("v", "t") and not self._in_hint:
            self._text = []

    def end(self, name: str) -> None:
        if name in ("v", "t") and not self._in_hint:
            self._parts.append(self._taken())
        elif name == "rPh":
            self._in_hint = False
        elif name == "c":
            if value := self._converted():
                self._row[self._column] = value
        elif name == "row" and self._row:
            self._found.append((self._number, self._row))
            self._row = {}

    def _column_of(self, reference: str | None) -> int:
        column = self._column + 1
        if reference is not None:
            found = _REFERENCE.fullmatch(reference)
            if found is None:
                raise _DamagedError(f"a cell has the reference {quoted(reference)}")
            column = 0
            for letter in found[1]:
                column = column * 26 + ord(letter) - ord("A") + 1
            column -= 1
        if column >= MOST_COLUMNS:
            raise _DamagedError(f"a row has more than {MOST_COLUMNS:,} cells")
        return column

    def _converted(self) -> str:
        value, convert = "".join(self._parts), _CONVERSIONS.get(self._kind)
        if self._kind == "s":
            index = int(value)
            if not 0 <= index < len(self._strings):
                raise _DamagedError(f"a cell refers to the text {index:,}, which is missing")
            return self._strings[index]
        return convert(value) if convert is not None and value else ""


def _number(value: str) -> str:
    return as_text(float(value)) if not value.isdigit() else value


_CONVERSIONS: dict[str, Callable[[str], str]] = {
    "n": _number,
    "b": lambda value: str(value == "1"),
    "str": str,
    "inlineStr": str,
    "d": str,
}
"""How values are converted, by type; those of other types are errors such as #N/A."""


def _local(name: str) -> str:
    """Return the name of an element without its namespace."""
    return name.rpartition(" ")[2]


def _listed(names: Sequence[str] | Mapping[str, str]) -> str:
    shown = ", ".join(quoted(name) for name in list(names)[:8])
    return shown + (f" and {len(names) - 8:,} others" if len(names) > 8 else "")
