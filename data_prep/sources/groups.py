"""Groups of documents that a separate file assigns, such as the film of each review."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.errors import DataError
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.io.files import file_digest, open_text, reading
from celltune.data_prep.sources.base import TRAIN, Document, Source, Split
from celltune.data_prep.sources.paths import existing_file
from celltune.data_prep.types import Progress

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig


@dataclass(frozen=True)
class GroupedSource(Source):
    """A source whose training documents take their groups from a CSV file (`data.groups`).

    Attributes:
        inner: the source of the documents.
        path: the CSV file, plain or gzipped, with the column id and one other column.
    """

    inner: Source
    path: Path

    @classmethod
    def from_config(
        cls, config: DataConfig, *, cache_dir: Path, progress: Progress | None = None
    ) -> GroupedSource:
        """Open the source that the config selects, and check that the file of groups exists."""
        source_type = SOURCES.load(config.source)
        inner = source_type.from_config(config, cache_dir=cache_dir, progress=progress)
        return cls(inner, existing_file("groups", config.groups or Path()))

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
        with reading(self.path):
            groups = file_digest(self.path)
        return hashlib.sha256(f"{self.inner.digest(splits)}\n{groups}".encode()).hexdigest()

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield the inner source's documents; those of the training split with their group.

        Raises:
            DataError: the file of groups is invalid or does not contain a document.
        """
        groups = _read_groups(self.path)
        for document in self.inner.documents(splits):
            if document.split != "train":
                yield document
                continue
            if document.id not in groups:
                raise DataError(
                    f"{self.path} assigns no group to the document '{document.id}'. data.groups "
                    f"needs one row per training document, with the id that the source gives it."
                )
            yield document._replace(group=groups[document.id])


def _read_groups(path: Path) -> dict[str, str]:
    """Return the group of each document, by id."""
    rows = _read_rows(path)
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) != 2 or "id" not in header:
        raise DataError(
            f"{path} has the columns {header}. data.groups needs a CSV file with the column id "
            f"and one other column, such as id,movie."
        )
    id_column = header.index("id")
    groups: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != 2:
            raise DataError(f"{path}, row {number} has {len(row)} cells instead of 2. Correct it.")
        name, group = row[id_column].strip(), row[1 - id_column].strip()
        if groups.setdefault(name, group) != group:
            raise DataError(
                f"{path}, row {number} assigns the document {name!a} to the group {group!a}, an "
                f"earlier row to {groups[name]!a}. A document has one group. Correct the file."
            )
    return groups


def _read_rows(path: Path) -> list[list[str]]:
    with reading(path), open_text(path) as file:
        try:
            return [row for row in csv.reader(file) if row]
        except csv.Error as error:
            raise DataError(
                f"{path} is not valid CSV ({error}). data.groups needs the column id and one other "
                f"column, such as id,movie."
            ) from error
