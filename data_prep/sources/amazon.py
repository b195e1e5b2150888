"""The Amazon reviews of the DLStudio course: a gzipped pickle of three things.

The pickle holds (positive reviews by category, negative reviews by category, vocabulary). A review
is a list of words, or text. Source: A. Kak, DLStudio, ``sentiment_dataset_train_400.tar.gz`` and
its kin, read there by ``pickle.loads(data, encoding="latin1")``.

A pickle can run anything that its reader lets it name. This reader lets it name two containers.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import files_digest, reading
from celltune.data_prep.sources.base import TRAIN, Document, Split

CLASSES = ("neg", "pos")
_NAMED = {"set": set, "frozenset": frozenset}
_SHAPE = "(positive reviews by category, negative reviews by category, vocabulary)"


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, strings and numbers, and refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Sets, which older pickles name; nothing else."""
        if module in ("builtins", "__builtin__") and name in _NAMED:
            return _NAMED[name]
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}, which isn't plain data")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Nothing lies outside of the file."""
        raise pickle.UnpicklingError(f"it names something outside of itself ({pid!r})")


@dataclass(frozen=True)
class AmazonSource:
    """A source of the reviews of one or two pickles.

    Args:
        path: of the training part.
        test_path: of the test part.
    """

    path: Path
    test_path: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """``("neg", "pos")``."""
        return CLASSES

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train, and test where there is a file of it."""
        return ("train", "test") if self.test_path else TRAIN

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:
        """The SHA-256 of the file as it lies there, or of the digests of both files."""
        return files_digest(map(self._path, parts))

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Negative before positive, categories by the alphabet, reviews as in the file.

        Raises:
            DataError: a missing or damaged file, one that isn't plain data or of another shape,
                and an empty review.
        """
        for part in parts:
            path = self._path(part)
            positive, negative = _load(path)
            for label, by_category in enumerate((negative, positive)):
                for category in sorted(by_category):
                    for number, review in enumerate(by_category[category]):
                        name = f"{CLASSES[label]}/{category}/{number}"
                        text = _text(path, name, review)
                        yield Document(name, text, label, None, part)

    def _path(self, part: Split) -> Path:
        return self.test_path if part == "test" and self.test_path else self.path


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with reading(path), gzip.open(path) as file:
        content = file.read()
    if not content:
        raise DataError(f"{path} is empty; source amazon needs a gzipped pickle of {_SHAPE}")
    try:
        found = PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever it likes
        hint = "; unpack it first" if _is_tar(content) else ""
        raise DataError(
            f"{path} isn't a pickle of plain data ({error}); nothing of it was run. Source amazon "
            f"needs {_SHAPE}{hint}"
        ) from error
    whole = isinstance(found, (tuple, list)) and len(found) == 3
    if not whole or not all(_is_reviews(each) for each in found[:2]):
        raise DataError(f"{path} is of another shape; source amazon needs {_SHAPE}")
    return found[0], found[1]


def _is_reviews(found: object) -> bool:
    return isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(reviews, (list, tuple))
        for name, reviews in found.items()
    )


def _text(path: Path, name: str, review: object) -> str:
    if isinstance(review, (list, tuple)) and all(isinstance(word, str) for word in review):
        review = " ".join(review)
    if not isinstance(review, str):
        raise DataError(
            f"{path}, {name}: a review is {type(review).__name__}; it must be a list of words"
        )
    if not review or review.isspace():
        raise DataError(f"{path}, {name}: the review is empty; remove it")
    return review.encode("utf-8", "replace").decode()


def _is_tar(content: bytes) -> bool:
    try:
        tarfile.open(fileobj=io.BytesIO(content)).close()
    except tarfile.TarError:
        return False
    return True
