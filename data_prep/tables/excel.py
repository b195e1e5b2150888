"""Reader of the cells of Excel workbooks (.xlsx).

A workbook is a zip archive of XML documents. They are parsed as streams: no tree of a document is
built, entities are rejected, and only the texts of the workbook (its shared strings) are in memory.

Source of the layout: ECMA-376, Office Open XML, parts 1 (SpreadsheetML) and 2 (packages).
"""

from __future__ import annotations

import errno
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.parsers import expat

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    BYTES_PER_LINE,
    UNLIMITED,
    limit_of_file,
    limited,
    too_large,
    too_many,
)
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.tables.cells import Cells, Column, positions
from celltune.data_prep.tables.excel_parts import (
    DamagedError,
    Handler,
    RelationHandler,
    RowHandler,
    SheetHandler,
    StringHandler,
)
from celltune.printable import printable, quoted

_WORKBOOK, _STRINGS = "xl/workbook.xml", "xl/sharedStrings.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods of Excel. Others can ask for gigabytes of memory."""
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError,
    NotImplementedError, RuntimeError, OSError,
)  # fmt: skip
"""What `zipfile` raises for damaged and encrypted archives."""
_Row = tuple[str, dict[int, str]]
"""Number of a row in its sheet, and its texts by column, from 0."""


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
        indices = positions(str(path), names, columns)
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
        if not raw.read(1):
            raise DataError(f"{printable(path)} is empty. It needs labelled documents.")
        # The texts of a workbook are in memory, even where nothing else is.
        limit = limit_of_file(raw, None if max_bytes == UNLIMITED else max_bytes)
        try:
            with zipfile.ZipFile(raw) as archive:
                yield _Workbook(path, archive, limit)
        except (*_DAMAGES, expat.ExpatError, DamagedError) as error:
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
        yield from self._parsed(part, RowHandler(self._strings))

    def _sheets(self) -> dict[str, str]:
        """Return the part of each visible sheet, by name."""
        targets = dict(self._parsed(_RELATIONS, RelationHandler()))
        sheets = dict(self._parsed(_WORKBOOK, SheetHandler()))
        return {
            name: posixpath.normpath(posixpath.join("/xl", targets.get(key, ""))).lstrip("/")
            for name, key in sheets.items()
        }

    def _shared_strings(self) -> Iterator[str]:
        if _STRINGS in self._parts:
            number = 0
            for number, text in enumerate(self._parsed(_STRINGS, StringHandler()), start=1):
                if number > self.limit // BYTES_PER_LINE:
                    raise too_many(self._path, self.limit, "text", BYTES_PER_LINE)
                yield text

    def _parsed(self, part: str, handler: Handler) -> Iterator[Any]:
        """Yield what a handler finds in a document, while it is read."""
        info = self._parts.get(part)
        if info is None or info.compress_type not in _METHODS:
            raise DamagedError(f"it has no readable part {part}")
        with (
            self._archive.open(info) as stream,
            limited(self._path, stream, self.limit, has_lines=False) as content,
        ):
            yield from handler.found(content)


def _listed(names: Sequence[str] | Mapping[str, str]) -> str:
    shown = ", ".join(quoted(name) for name in list(names)[:8])
    return shown + (f" and {len(names) - 8:,} others" if len(names) > 8 else "")
