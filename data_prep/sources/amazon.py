"""The Amazon reviews of the DLStudio course: a gzipped pickle.

The pickle contains (positive reviews by category, negative reviews by category, vocabulary). A
review is a list of words, or a string. Source: A. Kak, DLStudio,
`sentiment_dataset_train_400.tar.gz` and similar files, which DLStudio itself reads with
`pickle.loads(data, encoding="latin1")`.

Unpickling a file can execute any code, so the file is read by `load_plain`, which only knows plain
containers, strings and numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import (
    BYTES_PER_DOCUMENT,
    MAX_DOCUMENT_BYTES,
    content_limit,
    open_content,
    too_large,
    too_long,
    too_many,
)
from celltune.data_prep.io.files import reading
from celltune.data_prep.sources.base import TRAIN, Document, Provenance, Split
from celltune.data_prep.sources.files import FileSource, files_of_config
from celltune.data_prep.sources.plain_pickle import (
    PlainPickleError,
    PlainPickleTooLargeError,
    load_plain,
)
from celltune.data_prep.types import Progress
from celltune.printable import printable

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

CLASSES = ("neg", "pos")
_TAR_MAGIC, _TAR_MAGIC_OFFSET = b"ustar", 257
_STRUCTURE = "(positive reviews by category, negative reviews by category, vocabulary)"


@dataclass(frozen=True)
class AmazonSource(FileSource):
    """The reviews of one or two pickles."""

    required_keys = ("path",)
    optional_keys = ("test_path", "test_size")

    @classmethod
    def from_config(
        cls,
        config: DataConfig,
        *,
        cache_dir: Path,  # noqa: ARG003
        progress: Progress | None = None,
    ) -> AmazonSource:
        """Open the pickles of a config; checks only that they exist.

        Raises:
            DataError: a file is missing or is a folder.
        """
        return cls(*files_of_config(config), config.max_bytes, progress)

    @classmethod
    def provenance(cls, config: DataConfig) -> Provenance:  # noqa: ARG003
        """Return the origin of the reviews, which have no licence."""
        return Provenance(
            "product reviews from Amazon, as distributed with the DLStudio course (A. Kak, Purdue)",
            "The data set has no licence. The reviews were written by customers of Amazon, who own "
            "the rights to their texts. Use them for study, and ask before you publish.",
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """`("neg", "pos")`."""
        return CLASSES

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield negative before positive reviews, by sorted category, in the order of the file.

        Raises:
            DataError: a file is missing, damaged, too large, not plain data or of another
                structure, or a review is empty or too long.
        """
        for split in splits:
            for path in self.files_of(split):
                yield from self._read(path, split)

    def _read(self, path: Path, split: Split) -> Iterator[Document]:
        with reading(path):
            limit = content_limit(path.stat().st_size, self.max_bytes)
        size = 0
        for number, (name, label, review) in enumerate(_reviews(path, limit), start=1):
            text = _text(path, name, review)
            # The pickle can contain a text once and refer to it in millions of reviews.
            size += len(text) + len(name)
            if size > limit:
                raise too_large(path, limit)
            if number > limit // BYTES_PER_DOCUMENT:
                raise too_many(path, limit)
            yield Document(name, text, label, None, split)


def _reviews(path: Path, limit: int) -> Iterator[tuple[str, int, object]]:
    """Yield name, label and words of each review."""
    positive, negative = _load(path, limit)
    for label, by_category in enumerate((negative, positive)):
        for category in sorted(by_category):
            for number, review in enumerate(by_category[category]):
                yield f"{CLASSES[label]}/{category}/{number}", label, review


def _load(path: Path, limit: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the positive and the negative reviews of a file, by category."""
    with reading(path), open_content(path, limit, has_lines=False, gzipped=True) as file:
        content = file.read()
    if not content:
        raise DataError(
            f"{path} is empty. The source 'amazon' needs a gzipped pickle of {_STRUCTURE}."
        )
    try:
        data = load_plain(content, limit)
    except PlainPickleTooLargeError as error:
        raise DataError(
            f"{path} needs more than {limit:,} bytes of memory ({error}). If this is intended, set "
            f"data.max_bytes to a higher limit."
        ) from error
    except PlainPickleError as error:
        is_tar = content.startswith(_TAR_MAGIC, _TAR_MAGIC_OFFSET)
        raise DataError(
            f"{path} is not a pickle of plain data ({error}). Nothing in it was executed. The "
            f"source 'amazon' needs {_STRUCTURE}.{' Unpack the archive first.' if is_tar else ''}"
        ) from error
    is_triple = isinstance(data, (tuple, list)) and len(data) == 3
    if not is_triple or not all(_has_categories(reviews) for reviews in data[:2]):
        raise DataError(
            f"{path} has an unexpected structure. The source 'amazon' needs {_STRUCTURE}."
        )
    return data[0], data[1]


def _has_categories(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(category, str) and isinstance(reviews, (list, tuple))
        for category, reviews in value.items()
    )


def _text(path: Path, name: str, review: object) -> str:
    where = f"{path}, {printable(name, 80)}"
    if isinstance(review, (list, tuple)) and all(isinstance(word, str) for word in review):
        if sum(map(len, review)) + len(review) > MAX_DOCUMENT_BYTES:
            raise too_long(f"{where}: the review")
        review = " ".join(review)
    if not isinstance(review, str):
        raise DataError(
            f"{where}: a review is of type {type(review).__name__}. It must be a list of words."
        )
    if len(review) > MAX_DOCUMENT_BYTES:
        raise too_long(f"{where}: the review")
    if not review or review.isspace():
        raise DataError(f"{where}: the review is empty. Remove it.")
    return review.encode("utf-8", "replace").decode()
