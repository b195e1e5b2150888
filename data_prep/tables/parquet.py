"""Reader of the cells of Parquet files.

A column can state a text once and repeat it a billion times, and its pages can be compressed a
thousandfold. Therefore the headers of all pages are read first. They bound the memory that a batch
of rows needs, and with the number of rows what the file contains.

Source of the layout: Apache Parquet, parquet.thrift; Apache Thrift, "Thrift Compact protocol
encoding".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    BYTES_PER_DOCUMENT,
    limit_of_file,
    too_large,
    too_many,
)
from celltune.data_prep.io.regular import open_regular
from celltune.data_prep.tables.cells import Cells, Column, as_text, positions
from celltune.printable import printable, quoted

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_ROWS = 4_096
BATCH_BYTES = 1 << 27
"""Limit for the texts of a batch of more than one row: 128 MiB."""
READ_BYTES = 1 << 20
BYTES_PER_PAGE = 1 << 10
"""Limits the number of pages of a file: the headers of all are read, and a footer can refer to the
same pages thousands of times."""

_FOOTER_BYTES, _TAIL_BYTES = 1 << 24, 8
_HEADER_BYTES, _LONGEST_HEADER = 1 << 12, 1 << 24
_DICTIONARY_PAGE = 2
_REPEATING = frozenset({2, 7, 8})
"""Encodings in which a value can repeat other values: dictionary (2, 8) and shared prefixes (7)."""

_TRUE, _FALSE, _BYTE, _INT16, _INT32, _INT64, _DOUBLE, _BINARY, _LIST, _STRUCT = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 12,
)  # fmt: skip
_Fields = Mapping[int, tuple[int, Any]]
"""The fields of a structure that are read: by their number, the type, and what is read of it: the
fields of a structure, or type and fields of the elements of a list."""
_CHUNK: _Fields = {
    3: (_LIST, (_BINARY, None)), 7: (_INT64, None), 9: (_INT64, None), 11: (_INT64, None),
}  # fmt: skip
"""A column chunk: path, size as stored, positions of the first data page and the dictionary."""
_FOOTER: _Fields = {
    4: (_LIST, (_STRUCT, {1: (_LIST, (_STRUCT, {3: (_STRUCT, _CHUNK)}))})),
}
"""Row groups, their column chunks, and the metadata of each chunk."""
_PAGE: _Fields = {
    1: (_INT32, None), 2: (_INT32, None), 3: (_INT32, None),
    5: (_STRUCT, {2: (_INT32, None)}), 8: (_STRUCT, {4: (_INT32, None)}),
}  # fmt: skip
"""A page: type, size after decompression, size as stored, and the encoding in two versions."""
_DEEPEST = 32


class _DamagedError(Exception):
    """The footer of a file or the header of a page is not valid."""


def parquet_cells(path: Path, columns: Sequence[Column], max_bytes: int | None = None) -> Cells:
    """Yield the cells of a Parquet file of any compression.

    Args:
        path: the file.
        columns: the columns to read.
        max_bytes: limit for the file after decompression (see `content_limit`).

    Raises:
        DataError: the file is empty, damaged or too large, or a column is missing, occurs twice, or
            contains lists or mappings.
    """
    with _opened(path) as (raw, file):
        yield from _cells(path, file, raw, columns, limit_of_file(raw, max_bytes))


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet file that contain plain values.

    Raises:
        DataError: the file is empty or damaged, or has no such columns.
    """
    import pyarrow as pa

    with _opened(path) as (_, file):
        fields = file.schema_arrow
        names = tuple(each.name for each in fields if not pa.types.is_nested(each.type))
    if not names:
        raise DataError(f"{printable(path)} has no column of plain values. It needs texts.")
    return names


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, pq.ParquetFile]]:
    """Open a Parquet file, and convert the errors of pyarrow while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as raw:
        if not raw.read(1):
            raise DataError(f"{path} is empty. It needs labelled documents.")
        try:
            with pq.ParquetFile(raw, buffer_size=READ_BYTES) as file:
                yield raw, file
        except (pa.ArrowException, OSError, ValueError, OverflowError, _DamagedError) as error:
            # Arrow raises an OSError without a number for damaged pages; errors of the disk have
            # one.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"{path} is not a complete Parquet file ({printable(error, 200)}). Get or write "
                f"the file again."
            ) from error


def _cells(
    path: Path, file: pq.ParquetFile, raw: BinaryIO, columns: Sequence[Column], limit: int
) -> Cells:
    fields = list(file.schema_arrow)
    for index in positions(str(path), [each.name for each in fields], columns):
        _check_plain(path, fields[index].name, fields[index].type)
    names = sorted({column.name for column in columns})
    if file.metadata.num_rows > limit // BYTES_PER_DOCUMENT:
        raise too_many(path, limit)
    total, largest, pages = _sizes(raw, set(names), limit // BYTES_PER_PAGE)
    if pages > limit // BYTES_PER_PAGE:
        raise too_many(path, limit, "page", BYTES_PER_PAGE)
    if total > limit:
        raise too_large(path, limit)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, largest)))
    read = 0
    for batch in file.iter_batches(rows, columns=names):
        arrays = {name: _text_as_bytes(batch.column(name)) for name in names}
        read += sum(array.nbytes for array in arrays.values())
        if read > limit:
            raise too_large(path, limit)
        values = [arrays[column.name].to_pylist() for column in columns]
        for row in zip(*values, strict=True):
            yield "", [as_text(value) for value in row]


def _check_plain(path: Path, name: str, kind: Any) -> None:
    import pyarrow as pa

    if pa.types.is_nested(kind):
        raise DataError(
            f"{path}: the column {quoted(name)} contains values of type {quoted(kind)}. They must "
            f"be plain text."
        )


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


def _sizes(raw: BinaryIO, names: set[str], most: int) -> tuple[int, int, int]:
    """Return sizes of the columns' pages after decompression.

    pyarrow offers positions and sizes, too, but ends the process if some of them are damaged.

    Args:
        raw: the file.
        names: of the columns.
        most: number of pages after which the rest is not read.

    Returns:
        Their sum in bytes, the size of the largest page whose values can be repeated, and the
        number of pages.
    """
    wanted = {name.encode() for name in names}
    total = largest = pages = 0
    for group in _footer(raw).get(4, ()):
        for column in group.get(1, ()):
            chunk = column.get(3, {})
            if b".".join(chunk.get(3, ())) not in wanted:
                continue
            for kind, encoding, size in _pages(chunk, raw):
                total, pages = total + size, pages + 1
                if pages > most:
                    return total, largest, pages
                if kind == _DICTIONARY_PAGE or encoding in _REPEATING:
                    largest = max(largest, size)
    return total, largest, pages


def _footer(raw: BinaryIO) -> dict[int, Any]:
    """Return the requested fields of the file's metadata."""
    end = raw.seek(0, os.SEEK_END) - _TAIL_BYTES
    raw.seek(max(0, end))
    count = int.from_bytes(raw.read(4), "little")
    if count > min(_FOOTER_BYTES, end):
        raise _DamagedError(f"its footer has {count:,} bytes")
    raw.seek(end - count)
    try:
        return _Compact(raw.read(count)).structure(_FOOTER)
    except IndexError:
        raise _DamagedError("its footer is not complete") from None


def _pages(chunk: Mapping[int, Any], raw: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield type, encoding and decompressed size of the pages of a column chunk."""
    at = chunk.get(9, -1)
    if 11 in chunk:
        at = min(at, chunk[11])
    end = at + chunk.get(7, -1)
    if at < 0 or end > raw.seek(0, os.SEEK_END):
        raise _DamagedError(f"a column is between the bytes {at} and {end}")
    while at < end:
        page, length = _header(raw, at)
        kind, size, stored = (page.get(number, -1) for number in (1, 2, 3))
        if size < 0 or stored < 0:
            raise _DamagedError(f"the page at byte {at} has no size")
        yield kind, page.get(5, {}).get(2, page.get(8, {}).get(4, -1)), size
        at += length + stored


def _header(raw: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Return the requested fields of the page header at a position, and its length in bytes."""
    count = _HEADER_BYTES
    while True:
        raw.seek(at)
        reader = _Compact(raw.read(count))
        try:
            return reader.structure(_PAGE), reader.at
        except IndexError:
            # The header contains the smallest and the largest value, which can be long.
            if len(reader.content) < count or count >= _LONGEST_HEADER:
                raise _DamagedError(
                    f"the header of the page at byte {at} is not complete"
                ) from None
            count *= 8


class _Compact:
    """Reads structures in Thrift's compact protocol.

    Args:
        content: bytes that begin with a structure; an `IndexError` shows that there are too few.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def structure(self, wanted: _Fields, depth: int = 0) -> dict[int, Any]:
        """Return the wanted fields of a structure; the others are skipped."""
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._integer()
            if number in wanted:
                fields[number] = self._wanted(kind, wanted[number], depth)
            else:
                self._value(kind, None, depth)
        return fields

    def _wanted(self, kind: int, expected: tuple[int, Any], depth: int) -> Any:
        if kind != expected[0]:
            raise _DamagedError(f"its metadata has a field of type {kind} instead of {expected[0]}")
        return self._value(kind, expected[1], depth)

    def _value(self, kind: int, wanted: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise _DamagedError("its metadata is nested too deeply")
        if kind in (_INT16, _INT32, _INT64):
            return self._integer()
        if kind == _BINARY:
            return self._take(self._unsigned())
        if kind == _STRUCT:
            return self.structure(wanted or {}, depth + 1)
        if kind == _LIST:
            return self._list(wanted, depth + 1)
        if kind in (_BYTE, _DOUBLE):
            return self._take(1 if kind == _BYTE else 8)
        if kind not in (_TRUE, _FALSE):
            # No version of the format has sets or maps in its metadata.
            raise _DamagedError(f"its metadata has a field of type {kind}")
        return kind == _TRUE

    def _list(self, wanted: tuple[int, Any] | None, depth: int) -> list[Any]:
        head = self._byte()
        kind, count = head & 15, head >> 4
        if count == 15:
            count = self._unsigned()
        if kind in (_TRUE, _FALSE):
            kind = _BYTE  # in a list, truth values take a byte each
        if wanted is not None:
            return [self._wanted(kind, wanted, depth) for _ in range(count)]
        for _ in range(count):
            self._value(kind, None, depth)
        return []

    def _take(self, count: int) -> bytes:
        taken = self.content[self.at : self.at + count]
        if len(taken) != count:
            raise IndexError
        self.at += count
        return taken

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _integer(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise _DamagedError("its metadata has a number that is too long")
        return value | byte << shift
