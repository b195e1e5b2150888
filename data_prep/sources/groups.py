"""Groups that a file of their own tells: which film each review is of."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import file_digest, open_text, reading
from celltune.data_prep.sources.base import TRAIN, Document, Source, Split


@dataclass(frozen=True)
class GroupedSource:
    """A source whose reviews get their groups from a csv file with the columns id and one more.

    Args:
        inner: gives the reviews.
        path: the file, plain or gzipped.
    """

    inner: Source
    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the inner source."""
        return self.inner.classes

    @property
    def splits(self) -> tuple[Split, ...]:
        """Those of the inner source."""
        return self.inner.splits

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:
        """Of the inner source's content and the file of groups."""
        with reading(self.path):
            groups = file_digest(self.path)
        return hashlib.sha256(f"{self.inner.digest(parts)}\n{groups}".encode()).hexdigest()

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """The inner source's rows; those of the training part with their group.

        Raises:
            DataError: a file that can't be used, or a review that it doesn't know.
        """
        groups = self._groups()
        for row in self.inner.documents(parts):
            if row.split != "train":
                yield row
                continue
            if row.id not in groups:
                raise DataError(
                    f"{self.path} tells no group of the review {row.id!r}; data.groups needs a "
                    f"row for every review, with the id as the source gives it"
                )
            yield row._replace(group=groups[row.id])

    def _groups(self) -> dict[str, str]:
        with reading(self.path), open_text(self.path) as file:
            try:
                rows = list(filter(None, csv.reader(file)))
            except csv.Error as error:
                raise DataError(
                    f"{self.path} isn't csv ({error}); data.groups needs the column id and one "
                    f"other, such as id,movie"
                ) from error
        header = [name.strip() for name in rows[0]] if rows else []
        if len(header) != 2 or "id" not in header:
            raise DataError(
                f"{self.path} has the columns {header}; data.groups needs a csv file with the "
                f"column id and one other, such as id,movie"
            )
        at = header.index("id")
        short = next((n for n, row in enumerate(rows[1:], start=1) if len(row) != 2), None)
        if short is not None:
            raise DataError(f"{self.path}, row {short} doesn't have 2 cells; correct it")
        groups: dict[str, str] = {}
        for number, row in enumerate(rows[1:], start=1):
            name, group = row[at].strip(), row[1 - at].strip()
            if groups.setdefault(name, group) != group:
                raise DataError(
                    f"{self.path}, row {number} puts the review {name!a} into {group!a}, an "
                    f"earlier row into {groups[name]!a}; a review has one group. Correct it"
                )
        return groups
