"""Documents in tables: CSV and its relatives, JSON lines or Parquet.

`celltune.data_prep.tables` reads the cells of each format; this module validates them in the same
way for all formats.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.errors import DataError
from celltune.data_prep.format_config import KINDS
from celltune.data_prep.io.contents import (
    BYTES_PER_DOCUMENT,
    MAX_DOCUMENT_BYTES,
    content_limit,
    joint_digest,
    too_long,
    too_many,
)
from celltune.data_prep.io.files import reading
from celltune.data_prep.sources.base import (
    NO_LABEL,
    OWN_DATA_TERMS,
    TRAIN,
    Document,
    Provenance,
    Split,
)
from celltune.data_prep.sources.files import FileSource, files_of_config
from celltune.data_prep.sources.paths import existing_files
from celltune.data_prep.tables.cells import Cells, Column
from celltune.data_prep.tables.format import TableFormat, format_of
from celltune.data_prep.tables.readers import read_cells
from celltune.data_prep.types import Progress
from celltune.printable import quoted

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

DEFAULT_CLASSES = ("0", "1")
MOST_LABELS = 20
"""Different labels of a column that an error lists."""
SEARCHED_ROWS = 1_000_000
"""Rows whose labels an error lists."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table."""

    text: str
    """Contains the document's text."""
    label: str
    """Contains the label."""
    id: str | None = None
    """Contains a unique id; without it, documents are identified by their row number."""
    group: str | None = None
    """Contains the document's group."""

    def present(self) -> list[Column]:
        """Return the columns to read: text, label, then id and group if they are set."""
        names = {
            "data.text_column": self.text,
            "data.label_column": self.label,
            "data.id_column": self.id,
            "data.group_column": self.group,
        }
        return [Column(key, name) for key, name in names.items() if name is not None]


@dataclass(frozen=True, kw_only=True)
class TableSource(FileSource):
    """Documents of a table, and of a second one for the test split.

    Attributes:
        files: the files of the training split, which are read as one.
        test_files: those of the test split.
        format: how the files are written.
        columns: where text, label, id and group are found.
        classes: the labels as written in the files, in class order.
        test_format: how the files of the test split are written; None for `format`.
        unlabelled_files: files of texts without labels.
        unlabelled_format: how they are written; None if their names state it.
    """

    required_keys = ("path",)
    optional_keys = (
        "test_path",
        "test_size",
        "unlabelled",
        "format",
        "delimiter",
        "quoting",
        "header",
        "encoding",
        "test_format",
        "unlabelled_format",
        "text_column",
        "label_column",
        "id_column",
        "group_column",
        "classes",
    )
    reads_several_files = True
    has_unlabelled = True

    format: TableFormat
    columns: Columns
    classes: tuple[str, ...] = field(default=DEFAULT_CLASSES)
    test_format: TableFormat | None = None
    unlabelled_files: tuple[Path, ...] = ()
    unlabelled_format: TableFormat | None = None

    @classmethod
    def from_config(
        cls,
        config: DataConfig,
        *,
        cache_dir: Path,  # noqa: ARG003
        progress: Progress | None = None,
    ) -> TableSource:
        """Open the table of a config; checks only that its files exist.

        Raises:
            DataError: a file is missing or is a folder.
        """
        return cls(
            *files_of_config(config),
            config.max_bytes,
            progress,
            format=TableFormat.of(config),
            columns=Columns(
                config.text_column, config.label_column, config.id_column, config.group_column
            ),
            classes=config.classes or DEFAULT_CLASSES,
            test_format=TableFormat.of(config.test_format) if config.test_format else None,
            unlabelled_files=(
                existing_files("unlabelled", config.unlabelled) if config.unlabelled else ()
            ),
            unlabelled_format=(
                TableFormat.of(config.unlabelled_format) if config.unlabelled_format else None
            ),
        )

    @classmethod
    def check_config(cls, config: DataConfig) -> None:
        """Check that source and format do not contradict each other.

        Raises:
            ValueError: they do.
        """
        if config.source in KINDS and config.format not in (None, config.source):
            raise ValueError(
                f"data.source is {config.source}, but data.format is {config.format}. Set "
                f"data.source to table, or remove data.format."
            )

    @classmethod
    def provenance(cls, config: DataConfig) -> Provenance:
        """Return the format and name of the file; its terms are unknown."""
        kind = TableFormat.of(config).kind or "table"
        if isinstance(config.path, tuple):
            return Provenance(f"{len(config.path):,} {kind} files", OWN_DATA_TERMS)
        name = f" named {quoted(config.path.name)}" if config.path else ""
        return Provenance(f"a {kind} file{name}", OWN_DATA_TERMS)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have files of their own."""
        return (*super().splits, "unlabelled") if self.unlabelled_files else super().splits

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:
        """Return a hash of the splits' files, and of the formats that the config does not state."""
        inputs = [super().digest([split for split in splits if split != "unlabelled"])]
        if self.test_format is not None and "test" in splits:
            inputs.append(str(self.test_format))
        if self.unlabelled_files and "unlabelled" in splits:
            inputs.append(self._digest_of(self.unlabelled_files))
            # Without a format, the names of the files state it.
            names = " ".join(sorted(set(map(format_of, self.unlabelled_files))))
            inputs.append(str(self.unlabelled_format or names))
        return joint_digest(inputs)

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield the documents in the order of the rows; blank lines of a .txt file are skipped.

        Raises:
            DataError: a file is missing, empty or damaged, a column is missing, or a row has the
                wrong number of cells, invalid UTF-8, a blank text, an unknown label, or an id
                that occurred before.
        """
        for split in splits:
            if split == "unlabelled":
                yield from self._read_unlabelled()
                continue
            ids, before = set[str](), 0
            for path in self.files_of(split):
                before += yield from self._read(path, split, before, ids)

    def cells(self, path: Path, columns: Sequence[Column]) -> Cells:
        """Read the cells of a file; a subclass for another format overrides it.

        Args:
            path: an existing file.
            columns: the requested columns.

        Raises:
            DataError: the file is invalid or lacks a column.
        """
        return read_cells(path, self.format, columns, self.max_bytes)

    def _cells(self, path: Path, split: Split, columns: Sequence[Column]) -> Cells:
        """Read the cells of a file of a split, which can have a format of its own."""
        if split == "test" and self.test_format is not None:
            return read_cells(path, self.test_format, columns, self.max_bytes)
        return self.cells(path, columns)

    def _read(
        self, path: Path, split: Split, before: int, ids: set[str]
    ) -> Generator[Document, None, int]:
        """Yield the documents of a file, and return their number.

        Args:
            path: one of the files of the split.
            split: the split.
            before: number of rows of the files before it.
            ids: the ids in them, to which those of this file are added.
        """
        labels = {name: index for index, name in enumerate(self.classes)}
        number = 0
        with reading(path):
            rows = self._cells(path, split, self.columns.present())
            for number, (line, cells) in enumerate(self._counted(path, rows), start=1):
                where = f"{path}, row {number}{line}"
                text = _checked_text(where, self.columns.text, cells[0])
                label = labels.get(cells[1].strip())
                if label is None:
                    raise DataError(self._unknown_label(where, cells[1], path, split))
                name = f"row {before + number}"
                if self.columns.id is not None:
                    name = _checked_id(where, self.columns.id, cells[2], ids)
                has_group = self.columns.group is not None
                group = (cells[-1].strip() or None) if has_group else None
                yield Document(name, text, label, group, split)
        if not number:
            raise DataError(f"{path} has no rows. It needs labelled documents.")
        return number

    def _read_unlabelled(self) -> Iterator[Document]:
        columns = [Column("data.text_column", self.columns.text)]
        number = 0
        for path in self.unlabelled_files:
            form, before = (self.unlabelled_format or TableFormat()).named(path), number
            with reading(path):
                rows = read_cells(path, form, columns, self.max_bytes)
                if form.kind == "txt":
                    rows = ((line, cells) for line, cells in rows if cells[0].strip())
                for number, (line, (text,)) in enumerate(self._counted(path, rows), before + 1):
                    where = f"{path}, row {number - before}{line}"
                    checked = _checked_text(where, self.columns.text, text)
                    name = f"unlabelled row {number}"
                    yield Document(name, checked, NO_LABEL, None, "unlabelled")
            if number == before:
                raise DataError(f"{path} has no texts. Add some, or remove data.unlabelled.")

    def _counted(self, path: Path, rows: Cells) -> Cells:
        """Yield the rows of a file.

        Raises:
            DataError: there are too many for the file's limit.
        """
        limit = content_limit(path.stat().st_size, self.max_bytes)
        yield from islice(rows, limit // BYTES_PER_DOCUMENT)
        if next(rows, None) is not None:
            raise too_many(path, limit)

    def _unknown_label(self, where: str, label: str, path: Path, split: Split) -> str:
        allowed = ", ".join(map(quoted, self.classes))
        return (
            f"{where}: the label in column {quoted(self.columns.label)} is {quoted(label)}. "
            f"Allowed are {allowed}. {self._advice(self._labels(path, split))}"
        )

    def _advice(self, found: Sequence[str]) -> str:
        """Return how to correct a label that is no class, given the labels of the column."""
        if len(found) > MOST_LABELS:
            return (
                f"The column contains more than {MOST_LABELS} labels. Set "
                "data.label_column to the column of the labels, or data.classes to all labels."
            )
        shown = ", ".join(map(quoted, found))
        fix = "S" if self.classes == DEFAULT_CLASSES else "Correct the row, or s"
        return f"{fix}et data.classes to the labels of the column, in class order: [{shown}]."

    def _labels(self, path: Path, split: Split) -> list[str]:
        """Return the different labels of a file, sorted, but at most one more than are shown."""
        found: set[str] = set()
        # A row that cannot be read ends the list; the message is about an earlier row.
        with suppress(DataError), reading(path):
            rows = self._cells(path, split, [self.columns.present()[1]])
            for _, (label,) in islice(rows, SEARCHED_ROWS):
                found.add(label.strip())
                if len(found) > MOST_LABELS:
                    break
        return sorted(found)


def _checked_text(where: str, column: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        # An invalid byte is read as a lone surrogate between U+DC80 and U+DCFF.
        invalid = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"U+{code:04X}"
        raise DataError(
            f"{where}: {invalid} at character {error.start + 1} of the text is not valid UTF-8. "
            f"Save the file as UTF-8."
        ) from error
    if len(text) > MAX_DOCUMENT_BYTES:
        raise too_long(f"{where}: the text in column {quoted(column)}")
    if not text or text.isspace():
        raise DataError(
            f"{where}: the text in column {quoted(column)} is empty. Remove the row or add a text."
        )
    return text


def _checked_id(where: str, column: str, cell: str, ids: set[str]) -> str:
    """Return the id of a row and add it to the known ids."""
    name = cell.strip()
    if not name:
        raise DataError(
            f"{where}: the id in column {quoted(column)} is empty. Add an id, or remove "
            f"data.id_column."
        )
    if name in ids:
        raise DataError(
            f"{where}: the id {quoted(name)} in column {quoted(column)} occurs in an earlier row, "
            f"too. Ids must be unique. Correct it, or remove data.id_column."
        )
    ids.add(name)
    return name
