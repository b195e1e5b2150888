"""The Amazon reviews of the DLStudio course: a gzipped pickle.

The pickle contains (positive reviews by category, negative reviews by category, vocabulary). A
review is a list of words, or a string. Source: A. Kak, DLStudio,
`sentiment_dataset_train_400.tar.gz` and similar files, which DLStudio itself reads with
`pickle.loads(data, encoding="latin1")`.

Unpickling a file can execute any code, so this reader only allows plain containers, strings and
numbers.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import reading
from celltune.data_prep.sources.base import TRAIN, Document, Provenance, Split
from celltune.data_prep.sources.files import FileSource
from celltune.data_prep.types import Progress

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

CLASSES = ("neg", "pos")
_ALLOWED_TYPES = {"set": set, "frozenset": frozenset}
_STRUCTURE = "(positive reviews by category, negative reviews by category, vocabulary)"


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that loads containers, strings and numbers and cannot execute code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return `set` or `frozenset`, which pickles of protocol 3 and older load by name.

        Raises:
            pickle.UnpicklingError: the pickle loads anything else.
        """
        if module in ("builtins", "__builtin__") and name in _ALLOWED_TYPES:
            return _ALLOWED_TYPES[name]
        raise pickle.UnpicklingError(f"it loads {module}.{name}, which is not plain data")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Reject references to objects outside the file.

        Raises:
            pickle.UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"it refers to an object outside the file ({pid!r})")


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
        progress: Progress | None = None,  # noqa: ARG003
    ) -> AmazonSource:
        """Open the pickles of a config; checks only that they exist.

        Raises:
            DataError: a file is missing or is a folder.
        """
        return cls(*cls.existing_files(config))

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
            DataError: a file is missing, damaged, not plain data or of another structure, or a
                review is empty.
        """
        for split in splits:
            path = self.file_of(split)
            positive, negative = _load(path)
            for label, by_category in enumerate((negative, positive)):
                for category in sorted(by_category):
                    for number, review in enumerate(by_category[category]):
                        name = f"{CLASSES[label]}/{category}/{number}"
                        yield Document(name, _text(path, name, review), label, None, split)


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the positive and the negative reviews of a file, by category."""
    with reading(path), gzip.open(path) as file:
        content = file.read()
    if not content:
        raise DataError(
            f"{path} is empty. The source 'amazon' needs a gzipped pickle of {_STRUCTURE}."
        )
    try:
        data = PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise any exception
        hint = " Unpack the archive first." if _is_tar(content) else ""
        raise DataError(
            f"{path} is not a pickle of plain data ({error}). Nothing in it was executed. The "
            f"source 'amazon' needs {_STRUCTURE}.{hint}"
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
    if isinstance(review, (list, tuple)) and all(isinstance(word, str) for word in review):
        review = " ".join(review)
    if not isinstance(review, str):
        raise DataError(
            f"{path}, {name}: a review is of type {type(review).__name__}. It must be a list of "
            f"words."
        )
    if not review or review.isspace():
        raise DataError(f"{path}, {name}: the review is empty. Remove it.")
    return review.encode("utf-8", "replace").decode()


def _is_tar(content: bytes) -> bool:
    try:
        tarfile.open(fileobj=io.BytesIO(content)).close()
    except tarfile.TarError:
        return False
    return True
