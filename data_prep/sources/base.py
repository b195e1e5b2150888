"""The interface of data sources and the documents that they deliver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from celltune.data_prep.types import Progress

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

Split = Literal["train", "valid", "test", "unlabelled"]
"""A split that a source may offer. If it offers no "valid", the validation split is taken from
"train" later; documents of "unlabelled" only serve to learn word vectors."""

TRAIN: tuple[Split, ...] = ("train",)

NO_LABEL = -1
"""Label of the documents of the unlabelled split."""


class Document(NamedTuple):
    """One text with its label."""

    id: str
    """Identifies the document in messages and in `data.groups`: a file name, a row, or an id."""
    text: str
    """The unchanged text; never blank, always valid Unicode."""
    label: int
    """Index into the source's classes; `NO_LABEL` in the unlabelled split."""
    group: str | None
    """Documents of the same group, such as reviews of one film, stay in the same split."""
    split: Split = "train"
    """The split that the document belongs to."""


@dataclass(frozen=True)
class Provenance:
    """Origin and terms of use of a data set, for the model cards of exported models."""

    description: str
    """Noun phrase that completes "The model was trained on ..."."""
    terms: str
    """Sentences on licence, citation and rights."""


OWN_DATA_TERMS = (
    "The terms of use of this data are unknown to celltune. State them here before you distribute "
    "the model: they also apply to everyone who receives it."
)


class Source(ABC):
    """Base class of data sources. A config selects one by name with `data.source`.

    Contract (checked by `celltune.testing.source.SourceContract`):

    * Documents are streamed in an order that depends on the content only, not on the file system
      or on a random state. Two calls of `documents` yield equal documents.
    * Every class occurs in the training split, ids are unique within a split, texts are not blank.
    * The documents of a split do not depend on which other splits are requested. The test split
      is never read unless it is requested.
    * The digest changes whenever the documents of the requested splits change, because their
      content or the source's code changed. It does not depend on paths, so that moved data keeps
      its cache.
    * Only `from_config` may download. It stores files in `cache_dir / "downloads"` and verifies
      them (see `celltune.data_prep.io.download.fetch`).
    * Invalid input raises a `DataError` that names the file and the row or document.
    * A source is used by one thread of the driver; it need not be picklable.
    """

    required_keys: ClassVar[tuple[str, ...]] = ()
    """Keys among `celltune.data_prep.config.SOURCE_KEYS` that a config must set."""
    optional_keys: ClassVar[tuple[str, ...]] = ()
    """Keys among `SOURCE_KEYS` that a config may set. It may set no other of these keys."""
    reads_several_files: ClassVar[bool] = False
    """True if a key that names a file may also be a list or a pattern of files."""
    has_unlabelled: ClassVar[bool] = False
    """True if the source offers the split "unlabelled"."""

    @classmethod
    @abstractmethod
    def from_config(
        cls, config: DataConfig, *, cache_dir: Path, progress: Progress | None = None
    ) -> Source:
        """Open the data set of a config without reading its documents; may download it.

        Args:
            config: selects this source; its keys were validated.
            cache_dir: folder for downloads.
            progress: called as `progress("download", bytes_done, bytes_total)`, and as
                `progress("check", bytes_done, bytes_total)` while the digest of a large file is
                computed.

        Raises:
            DataError: a file is missing, or the download failed.
        """

    @classmethod  # noqa: B027 (an optional hook)
    def check_config(cls, config: DataConfig) -> None:
        """Validate values beyond the types and keys, which were checked before.

        Raises:
            ValueError: a value is invalid. The message becomes part of a `ConfigError`.
        """

    @classmethod
    def needs_download(cls, config: DataConfig, cache_dir: Path) -> bool:  # noqa: ARG003
        """Return whether `from_config` would download data that is not in the cache yet."""
        return False

    @classmethod
    def has_test(cls, config: DataConfig) -> bool:
        """Return whether a config defines a test split; reads nothing."""
        return config.test_path is not None or config.test_size is not None

    @classmethod
    def provenance(cls, config: DataConfig) -> Provenance:
        """Return the origin and terms of the data; reads nothing."""
        return Provenance(f"data of the source '{config.source}'", OWN_DATA_TERMS)

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a document's label is an index into them."""

    @property
    @abstractmethod
    def splits(self) -> tuple[Split, ...]:
        """Available splits; always contains "train"."""

    @abstractmethod
    def digest(self, splits: Sequence[Split] = TRAIN) -> str:
        """Return a string that identifies the content of the splits.

        Raises:
            DataError: the data cannot be read.
        """

    @abstractmethod
    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield all documents of the splits, one split after the other.

        Raises:
            DataError: the data cannot be read or is invalid.
        """
