"""Reader of the cells of Parquet files.

A column can state a text once and repeat it a billion times, and its pages can be compressed a
thousandfold. Therefore the headers of all pages are read first. They bound the memory that a batch
of rows needs, and with the number of rows what the file contains.

Source of the layout: Apache Parquet, parquet.thrift; Apache Thrift, "Thrift Compact protocol
encoding".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from celltune.data_prep.sources.cells import Cells, Column, as_text, position
from celltune.printable import printable, quoted

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_ROWS = 4_096
BATCH_BYTES = 1 << 27
"""Limit for the texts of a batch of more than one row: 128 MiB."""
READ_BYTES = 1 << 20

_HEADER_BYTES = 1 << 14
_LONGEST_HEADER = 1 << 24
_DICTIONARY_PAGE = 2
_REPEATING = frozenset({2, 7, 8})
"""Encodings in which a value can repeat other values: dictionary (2, 8) and shared prefixes (7)."""
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = (
    (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 11, 12,
)  # fmt: skip


class _DamagedError(Exception):
    """The header of a page is not valid."""


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as raw:
        if not raw.read(1):
            raise DataError(f"{path} is empty. It needs labelled documents.")
        try:
            with pq.ParquetFile(raw, buffer_size=READ_BYTES) as file:
                yield from _cells(path, file, raw, columns, limit_of_file(raw, max_bytes))
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
    for column in columns:
        position(str(path), file.schema_arrow.names, column)
    names = sorted({column.name for column in columns})
    for name in names:
        _check_plain(path, name, file.schema_arrow.field(name).type)
    if file.metadata.num_rows > limit // BYTES_PER_DOCUMENT:
        raise too_many(path, limit)
    total, largest = _sizes(file.metadata, set(names), raw)
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
            yield "", [as_text(str(path), value) for value in row]


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


def _sizes(metadata: pq.FileMetaData, names: set[str], raw: BinaryIO) -> tuple[int, int]:
    """Return two sizes of the columns' pages after decompression, in bytes.

    Returns:
        Their sum, and that of the largest page whose values can be repeated.
    """
    total = largest = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema not in names:
                continue
            for kind, encoding, size in _pages(chunk, raw):
                total += size
                if kind == _DICTIONARY_PAGE or encoding in _REPEATING:
                    largest = max(largest, size)
    return total, largest


def _pages(chunk: pq.ColumnChunkMetaData, raw: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield type, encoding and decompressed size of the pages of a column chunk."""
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    at, end = start, start + chunk.total_compressed_size
    while at < end:
        fields, length = _header(raw, at)
        kind, size, stored = (fields.get((number,), -1) for number in (1, 2, 3))
        if size < 0 or stored < 0:
            raise _DamagedError(f"the page at byte {at} has no size")
        encoding = fields.get((5, 2), fields.get((8, 4), -1))
        yield kind, encoding, size
        at += length + stored


def _header(raw: BinaryIO, at: int) -> tuple[dict[tuple[int, ...], int], int]:
    """Return the integers of the page header at a position, and its length in bytes."""
    count = _HEADER_BYTES
    while True:
        raw.seek(at)
        reader = _Compact(raw.read(count))
        try:
            return reader.struct(), reader.at
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

    def struct(self, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], int]:
        """Return the integers of a structure and of those in it, by the numbers of their fields."""
        if len(path) > 4:
            raise _DamagedError("the header of a page is nested too deeply")
        fields: dict[tuple[int, ...], int] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._integer()
            key = (*path, number)
            if kind in _INTEGERS:
                fields[key] = self._integer()
            elif kind == _STRUCT:
                fields.update(self.struct(key))
            else:
                self._skip(kind)
        return fields

    def _skip(self, kind: int) -> None:
        if kind == _BINARY:
            self._advance(self._unsigned())
        elif kind in (_BYTE, _DOUBLE):
            self._advance(1 if kind == _BYTE else 8)
        elif kind not in _BOOLEANS:
            # No version of the format has lists or maps in the header of a page.
            raise _DamagedError(f"the header of a page has a field of type {kind}")

    def _advance(self, count: int) -> None:
        self.at += count
        if self.at > len(self.content):
            raise IndexError

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
                raise _DamagedError("the header of a page has a number that is too long")
        return value | byte << shift
