"""Documents in tables: CSV and its relatives, JSON lines or Parquet.

`celltune.data_prep.tables` reads the cells of each format; this module validates them in the same
way for all formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    BYTES_PER_DOCUMENT,
    content_limit,
    joint_digest,
    too_many,
)
from celltune.data_prep.io.files import reading
from celltune.data_prep.sources.base import (
    OWN_DATA_TERMS,
    TRAIN,
    Document,
    Provenance,
    Split,
)
from celltune.data_prep.sources.files import FileSource, files_of_config
from celltune.data_prep.sources.labels import Labels
from celltune.data_prep.sources.paths import existing_files
from celltune.data_prep.sources.rows import Columns, RowChecks
from celltune.data_prep.tables.arrow import stored_size
from celltune.data_prep.tables.cells import Cells, Column
from celltune.data_prep.tables.format import NAMED_SOURCES, TableFormat, format_of
from celltune.data_prep.tables.readers import read_cells
from celltune.data_prep.types import Progress
from celltune.printable import quoted

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

DEFAULT_CLASSES = ("0", "1")
DEFAULT_COLUMNS = ("text", "label")
"""Columns of a table whose config names none."""


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
        valid_format: how the files of the validation split are written; None for `format`.
        unlabelled_files: files of texts without labels.
        unlabelled_format: how they are written; None if their names state it.
        missing: what happens to rows without a text or label, as `data.missing`.
        labels: finds the class of a label; None for `classes`.
        dropped: number of rows of each split that were left out when it was read.
    """

    required_keys = ("path",)
    optional_keys = (
        "test_path",
        "valid_path",
        "test_size",
        "unlabelled",
        "format",
        "delimiter",
        "quoting",
        "header",
        "encoding",
        "sheet",
        "test_format",
        "valid_format",
        "unlabelled_format",
        "text_column",
        "label_column",
        "id_column",
        "group_column",
        "classes",
        "missing",
    )
    reads_several_files = True
    has_unlabelled = True

    format: TableFormat
    columns: Columns
    classes: tuple[str, ...] = field(default=DEFAULT_CLASSES)
    test_format: TableFormat | None = None
    valid_format: TableFormat | None = None
    unlabelled_files: tuple[Path, ...] = ()
    unlabelled_format: TableFormat | None = None
    missing: str | None = None
    labels: Labels | None = field(default=None, compare=False, repr=False)
    dropped: dict[Split, int] = field(default_factory=dict, compare=False, repr=False)

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
        # Only data sets that are saved on disk are folders.
        is_file = TableFormat.of(config).kind not in (None, "dataset")
        kind = "file" if is_file else "file or folder"

        def files(key: str) -> tuple[Path, ...]:
            paths = getattr(config, key)
            return () if paths is None else existing_files(key, paths, kind=kind)

        def own_format(key: str) -> TableFormat | None:
            form = getattr(config, key)
            return None if form is None else TableFormat.of(form)

        return cls(
            *files_of_config(config, kind=kind),
            config.max_bytes,
            progress,
            files("valid_path"),
            format=TableFormat.of(config),
            columns=columns_of(config),
            classes=config.classes or DEFAULT_CLASSES,
            test_format=own_format("test_format"),
            valid_format=own_format("valid_format"),
            unlabelled_files=files("unlabelled"),
            unlabelled_format=own_format("unlabelled_format"),
            missing=config.missing,
        )

    @classmethod
    def check_config(cls, config: DataConfig) -> None:
        """Check that source and format do not contradict each other.

        Raises:
            ValueError: they do.
        """
        if config.source in NAMED_SOURCES and config.format not in (None, config.source):
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
        for split, form in (("test", self.test_format), ("valid", self.valid_format)):
            if form is not None and split in splits:
                inputs.append(f"{'' if split == 'test' else split}{form}")
        if self.unlabelled_files and "unlabelled" in splits:
            inputs.append(self._digest_of(self.unlabelled_files))
            # Without a format, the names of the files state it.
            names = " ".join(sorted(set(map(format_of, self.unlabelled_files))))
            inputs.append(str(self.unlabelled_format or names))
        return joint_digest(inputs)

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield the documents in the order of the rows; blank lines of a .txt file are skipped.

        Raises:
            DataError: a file is missing, empty or damaged, a column is missing, or rows have the
                wrong number of cells, invalid UTF-8, blank texts, unknown labels, or ids that
                occurred before; the message counts all of these rows.
        """
        for split in splits:
            files = self.unlabelled_files if split == "unlabelled" else self.files_of(split)
            earlier: RowChecks | None = None
            self.dropped[split] = 0
            for path in files:
                labels = self.labels or Labels(self.classes)
                checks = RowChecks(path, split, self.columns, labels, self.missing, earlier)
                yield from self._read(checks)
                self.dropped[split] += checks.dropped
                earlier = checks

    def cells(self, path: Path, columns: Sequence[Column]) -> Cells:
        """Read the cells of a file; a subclass for another format overrides it.

        Args:
            path: an existing file.
            columns: the requested columns.

        Raises:
            DataError: the file is invalid or lacks a column.
        """
        return read_cells(path, self.format, columns, self.max_bytes)

    def _cells(self, checks: RowChecks) -> Cells:
        """Read the cells of a file of a split, which can have a format of its own."""
        path, split, columns = checks.path, checks.split, self.columns.present()
        if split == "unlabelled":
            form = (self.unlabelled_format or TableFormat()).named(path)
            rows = read_cells(path, form, columns[:1], self.max_bytes, on_problem=checks.bad)
            # Blank lines separate the texts of a file without columns.
            return (row for row in rows if form.kind != "txt" or row[1][0].strip())
        own = {"test": self.test_format, "valid": self.valid_format}.get(split)
        if own is None and type(self).cells is not TableSource.cells:
            return self.cells(path, columns)
        form = own or self.format
        return read_cells(path, form, columns, self.max_bytes, on_problem=checks.bad)

    def _read(self, checks: RowChecks) -> Iterator[Document]:
        """Yield the documents of a file, until the first problem.

        Raises:
            DataError: rows have problems, or there are no documents.
        """
        path, is_empty = checks.path, True
        check = checks.unlabelled if checks.split == "unlabelled" else checks.document
        with checks.problems.collected(), reading(path):
            for line, cells in self._counted(path, self._cells(checks)):
                document = check(line, cells)
                if document is not None and not checks.problems:
                    is_empty = False
                    yield document
            if is_empty and not checks.problems:
                raise DataError(_no_documents(checks))
            checks.finish()

    def _counted(self, path: Path, rows: Cells) -> Cells:
        """Yield the rows of a file.

        Raises:
            DataError: there are too many for the file's limit.
        """
        limit = content_limit(stored_size(path), self.max_bytes)
        yield from islice(rows, limit // BYTES_PER_DOCUMENT)
        if next(rows, None) is not None:
            raise too_many(path, limit)


def columns_of(config: DataConfig) -> Columns:
    """Return the columns that a config names."""
    text, label = DEFAULT_COLUMNS
    return Columns(
        config.text_column or text,
        config.label_column or label,
        config.id_column,
        config.group_column,
    )


def _no_documents(checks: RowChecks) -> str:
    if checks.dropped:
        return (
            f"{checks.path}: none of the {checks.dropped:,} rows has a text and a label. Check "
            "data.text_column and data.label_column, or get the file again."
        )
    if checks.split == "unlabelled":
        return f"{checks.path} has no texts. Add some, or remove data.unlabelled."
    return f"{checks.path} has no rows. It needs labelled documents."
