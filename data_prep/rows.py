"""What every source gives: rows of (id, text, label, group), and a digest of what it read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

Progress = Callable[[str, int, int | None], None]
"""Called as ``progress(stage, done, total)``; the total is None where nobody knows it."""


class Row(NamedTuple):
    """One labelled review.

    Attributes:
        id: names the review in messages: its path inside aclImdb, or its row of the file.
        text: the review as it was written, never blank.
        label: index into the source's ``classes``.
        group: reviews of one group (a film, an author) belong on the same side of a split.
    """

    id: str
    text: str
    label: int
    group: str | None


class Source(Protocol):
    """A reader of one format.

    Rows come in an order that depends on the content alone, never on the file system; two
    calls of ``rows`` give the same. Whatever goes wrong with the input is a DataError.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a row's label is an index into them."""

    def digest(self) -> str:
        """A hexadecimal digest of all content that the rows depend on, and of nothing else."""

    def rows(self) -> Iterator[Row]:
        """Every labelled review of the training part; a test part is never read."""
