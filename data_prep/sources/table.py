"""Reviews from a table with named columns: csv, tsv, jsonl or parquet.

The formats differ in how they give cells (`data_prep.table_formats`); what a cell must hold is
decided here, once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import files_digest, reading
from celltune.data_prep.sources.base import TRAIN, Document, Split
from celltune.data_prep.sources.table_readers import FORMATS, Column

UNNAMED_CLASSES = ("0", "1")


@dataclass(frozen=True)
class TableSource:
    """A source of the reviews of one or two files.

    Args:
        form: a key of `FORMATS`.
        path: the file of the training part.
        text_column: holds the review.
        label_column: holds the label.
        classes: the labels as they stand in the file, in class order.
        id_column: names the review; None: its row does.
        group_column: holds its group; None: reviews have none.
        test_path: a file with the test part.
    """

    form: str
    path: Path
    text_column: str
    label_column: str
    classes: tuple[str, ...] = UNNAMED_CLASSES
    id_column: str | None = None
    group_column: str | None = None
    test_path: Path | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train, and test where there is a file of it."""
        return ("train", "test") if self.test_path else TRAIN

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:
        """The SHA-256 of the file as it lies there, or of the digests of both files."""
        return files_digest(map(self._path, parts))

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """The rows in the order of the files.

        Raises:
            DataError: a missing, empty or damaged file, a column that isn't there, and any row
                with too few or too many cells, broken utf-8, a blank review, a label that isn't
                one of the classes, or an id that an earlier row has.
        """
        for part in parts:
            yield from self._rows_of(self._path(part), part)

    def _path(self, part: Split) -> Path:
        return self.test_path if part == "test" and self.test_path else self.path

    def _rows_of(self, path: Path, part: Split) -> Iterator[Document]:
        wanted = [
            Column("data.text_column", self.text_column),
            Column("data.label_column", self.label_column),
        ]
        optional = {"id_column": self.id_column, "group_column": self.group_column}
        wanted += [
            Column(f"data.{key}", name) for key, name in optional.items() if name is not None
        ]
        labels = {name: index for index, name in enumerate(self.classes)}
        seen: set[str] = set()
        number = 0
        with reading(path):
            for number, (place, cells) in enumerate(FORMATS[self.form](path, wanted), start=1):
                where = f"{path}, row {number}{place}"
                text = _utf8(where, cells[0])
                if not text or text.isspace():
                    raise DataError(
                        f"{where}: the review in column {self.text_column!r} is empty; "
                        f"remove the row or fill it in"
                    )
                label = labels.get(cells[1].strip())
                if label is None:
                    raise DataError(self._bad_label(where, cells[1]))
                name = f"row {number}"
                if self.id_column is not None:
                    name = _new_id(where, self.id_column, cells[2], seen)
                group = (cells[-1].strip() or None) if self.group_column is not None else None
                yield Document(name, text, label, group, part)
        if not number:
            raise DataError(f"{path} has no rows; it needs labelled reviews")

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


def _new_id(where: str, column: str, cell: str, seen: set[str]) -> str:
    name = cell.strip()
    if not name or name in seen:
        what = f"{name!a}, as in an earlier row" if name else "empty"
        raise DataError(
            f"{where}: the id in column {column!r} is {what}; an id names one review. Correct it, "
            f"or remove data.id_column"
        )
    seen.add(name)
    return name


def _utf8(where: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"U+{code:04X}"
        raise DataError(
            f"{where}: {what} at character {error.start + 1} of the review isn't utf-8; "
            f"save the file as utf-8"
        ) from error
    return text
