"""What every source gives: rows of (id, text, label, group), and a digest of what it read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

Split = Literal["train", "test", "unlabelled"]
"""What a row is for: learning (validation is taken from it), the final test, or words only."""

TRAIN: tuple[Split, ...] = ("train",)

NO_LABEL = -1
"""The label of a row of the unlabelled part."""


class Document(NamedTuple):
    """One review.

    Attributes:
        id: names the review in messages: its path inside aclImdb, its row of the file, or what
            the file itself calls it.
        text: the review as it was written, never blank.
        label: index into the source's ``classes``; ``NO_LABEL`` in the unlabelled part.
        group: reviews of one group (a film, an author) belong on the same side of a split.
        part: what the review is for.
    """

    id: str
    text: str
    label: int
    group: str | None
    split: Split = "train"


class Source(Protocol):
    """A reader of one format.

    Rows come in an order that depends on the content alone, never on the file system; two
    calls of ``rows`` give the same. A part that isn't asked for is never looked at, and neither
    the rows nor the digest of a part depend on the others. Whatever goes wrong with the input is
    a DataError.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a row's label is an index into them."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The parts that can be asked for; train is always one of them."""

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:
        """A hexadecimal digest of all content that the rows of ``parts`` depend on."""

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Every review of ``parts``."""
