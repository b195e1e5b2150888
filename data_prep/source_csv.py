"""Reviews from a csv file with named columns, plain or gzipped, read as a stream."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from data_prep.errors import DataError
from data_prep.files import file_digest, reading
from data_prep.rows import Row

GZIP_MAGIC = b"\x1f\x8b"
LONGEST_CELL = 1 << 30
UNNAMED_CLASSES = ("0", "1")


@dataclass(frozen=True)
class CsvReviews:
    """A source of the reviews of one csv file.

    Args:
        path: the file; whether it is gzipped is seen from its first bytes, not from its name.
        text_column: holds the review.
        label_column: holds the label.
        classes: the labels as they stand in the file, in class order.
    """

    path: Path
    text_column: str
    label_column: str
    classes: tuple[str, ...] = UNNAMED_CLASSES

    def digest(self) -> str:
        """The SHA-256 of the file as it lies there."""
        with reading(self.path):
            return file_digest(self.path)

    def rows(self) -> Iterator[Row]:
        """The rows in the order of the file.

        Raises:
            DataError: a missing, empty or damaged file, a column that isn't there, and any row
                with too few or too many cells, broken utf-8, a blank review or a label that
                isn't one of the classes.
        """
        with reading(self.path), self._open() as file:
            reader = csv.reader(file, strict=True)
            header = self._header(reader)
            text_at = self._column(header, self.text_column, "text_column")
            label_at = self._column(header, self.label_column, "label_column")
            ids = {name: index for index, name in enumerate(self.classes)}
            number = 0
            for number, cells in enumerate(self._cells(reader), start=1):
                where = f"{self.path}, row {number} (line {reader.line_num})"
                if len(cells) != len(header):
                    raise DataError(_ragged(where, cells, header))
                text = _utf8(where, cells[text_at])
                if not text.strip():
                    raise DataError(
                        f"{where}: the review in column {self.text_column!r} is empty; "
                        f"remove the row or fill it in"
                    )
                label = ids.get(cells[label_at].strip())
                if label is None:
                    raise DataError(self._bad_label(where, cells[label_at]))
                yield Row(f"row {number}", text, label, None)
        if not number:
            raise DataError(f"{self.path} has a header but no rows; it needs labelled reviews")

    @contextmanager
    def _open(self) -> Iterator[TextIO]:
        # The limit is the process's, so it is only ever raised: reviews may be long.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
        with self.path.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            binary = gzip.GzipFile(fileobj=raw) if zipped else raw
            # Broken bytes become lone surrogates, so that the row they stand in can be named.
            with io.TextIOWrapper(
                binary, encoding="utf-8-sig", errors="surrogateescape", newline=""
            ) as text:
                yield text

    def _cells(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        try:
            # A blank line between rows is no row.
            yield from filter(None, reader)
        except csv.Error as error:
            line = getattr(reader, "line_num", 0)
            raise DataError(
                f"{self.path}, line {line}: this isn't csv ({error}); quote every cell that holds "
                f'a comma, a quote or a line break, and write a quote inside a cell as ""'
            ) from error

    def _header(self, reader: Iterator[list[str]]) -> list[str]:
        header = next(self._cells(reader), None)
        if header is None:
            raise DataError(f"{self.path} is empty; it needs a header and labelled reviews")
        return [name.strip() for name in header]

    def _column(self, header: list[str], name: str, key: str) -> int:
        if name in header:
            return header.index(name)
        near = get_close_matches(name, header, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        shown = ", ".join(ascii(column) for column in header)
        raise DataError(
            f"{self.path} has no column {name!r}{hint}; its columns are {shown}. "
            f"Set data.{key} to one of them"
        )

    def _bad_label(self, where: str, label: str) -> str:
        allowed = ", ".join(repr(name) for name in self.classes)
        mend = (
            "set data.classes to the labels of the file, in class order"
            if self.classes == UNNAMED_CLASSES
            else "correct the row, or data.classes"
        )
        return (
            f"{where}: the label in column {self.label_column!r} is {label!a}; "
            f"allowed are {allowed}. To mend it, {mend}"
        )


def _utf8(where: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        raise DataError(
            f"{where}: byte 0x{byte:02x} at character {error.start + 1} of the review isn't utf-8; "
            f"save the file as utf-8"
        ) from error
    return text


def _ragged(where: str, cells: list[str], header: list[str]) -> str:
    few = "short: it has" if len(cells) < len(header) else "too long: it has"
    return (
        f"{where} is {few} {len(cells)} cells where the header names {len(header)}; "
        f"quote cells that hold a comma or a line break"
    )
