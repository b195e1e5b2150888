"""Groups of documents that a separate file assigns, such as the film of each review."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.errors import DataError
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.io.contents import (
    BYTES_PER_DOCUMENT,
    content_digest,
    content_limit,
    open_text,
    too_many,
)
from celltune.data_prep.io.files import reading
from celltune.data_prep.sources.base import TRAIN, Document, Source, Split
from celltune.data_prep.sources.paths import existing_file
from celltune.data_prep.tables.cells import MOST_NAMES
from celltune.data_prep.tables.separated import csv_rows
from celltune.data_prep.types import Progress
from celltune.printable import quoted

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig


@dataclass(frozen=True)
class GroupedSource(Source):
    """A source whose training documents take their groups from a CSV file (`data.groups`).

    Attributes:
        inner: the source of the documents.
        path: the CSV file, plain or gzipped, with the column id and one other column.
        max_bytes: largest size of the file after decompression, as `data.max_bytes`.
    """

    inner: Source
    path: Path
    max_bytes: int | None = None

    @classmethod
    def from_config(
        cls, config: DataConfig, *, cache_dir: Path, progress: Progress | None = None
    ) -> GroupedSource:
        """Open the source that the config selects, and check that the file of groups exists."""
        source_type = SOURCES.load(config.source)
        inner = source_type.from_config(config, cache_dir=cache_dir, progress=progress)
        return cls(inner, existing_file("groups", config.groups or Path()), config.max_bytes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the inner source."""
        return self.inner.classes

    @property
    def splits(self) -> tuple[Split, ...]:
        """Splits of the inner source."""
        return self.inner.splits

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:
        """Return a hash of the inner source's digest and of the file of groups."""
        groups = content_digest(self.path, self.max_bytes)
        return hashlib.sha256(f"{self.inner.digest(splits)}\n{groups}".encode()).hexdigest()

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield the inner source's documents; those of the training split with their group.

        Raises:
            DataError: the file of groups is invalid or does not contain a document.
        """
        groups = _read_groups(self.path, self.max_bytes)
        for document in self.inner.documents(splits):
            if document.split != "train":
                yield document
                continue
            if document.id not in groups:
                raise DataError(
                    f"{self.path} assigns no group to the document {quoted(document.id)}. "
                    f"data.groups needs one row per training document, with the id that the source "
                    f"gives it."
                )
            yield document._replace(group=groups[document.id])


def _read_groups(path: Path, max_bytes: int | None) -> dict[str, str]:
    """Return the group of each document, by id."""
    groups: dict[str, str] = {}
    with reading(path), open_text(path, max_bytes) as file:
        rows = csv_rows(path, file)
        _, header = next(rows, (0, []))
        header = [name.strip() for name in header]
        if len(header) != 2 or "id" not in header:
            shown = ", ".join(map(quoted, header[:MOST_NAMES])) or "none"
            raise DataError(
                f"{path} has {len(header):,} columns ({shown}). data.groups needs a CSV file with "
                f"the column id and one other column, such as id,movie."
            )
        id_column = header.index("id")
        limit = content_limit(path.stat().st_size, max_bytes)
        for number, (_, row) in enumerate(rows, start=1):
            if len(row) != 2:
                raise DataError(
                    f"{path}, row {number} has {len(row)} cells instead of 2. Correct it."
                )
            if number > limit // BYTES_PER_DOCUMENT:
                raise too_many(path, limit)
            name, group = row[id_column].strip(), row[1 - id_column].strip()
            if groups.setdefault(name, group) != group:
                raise DataError(
                    f"{path}, row {number} assigns the document {quoted(name)} to the group "
                    f"{quoted(group)}, an earlier row to {quoted(groups[name])}. A document has "
                    f"one group. Correct the file."
                )
    return groups
