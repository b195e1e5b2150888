"""The Large Movie Review Dataset, from its archive or its unpacked folder.

Layout: ``aclImdb/train/{neg,pos}/<number>_<rating>.txt``. Only the labelled training reviews are
ever read: a search never touches the test part. Source: Maas et al., "Learning Word Vectors for
Sentiment Analysis", ACL 2011.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from data_prep.files import file_digest, reading
from data_prep.rows import Row

CLASSES = ("neg", "pos")
_MEMBER = re.compile(r"(?:\./)?aclImdb/(train/(neg|pos)/[^/]+)\.txt")
_LAYOUT = "aclImdb/train/neg and aclImdb/train/pos with one .txt file a review"


@dataclass(frozen=True)
class ImdbFolder:
    """A source of the reviews of the unpacked folder ``aclImdb``."""

    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """``("neg", "pos")``."""
        return CLASSES

    def digest(self) -> str:
        """The SHA-256 of all reviews with their names."""
        digest = hashlib.sha256()
        for name, content in self._contents():
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def rows(self) -> Iterator[Row]:
        """The reviews, sorted by id.

        Raises:
            DataError: a folder without reviews, an unreadable, empty or broken review.
        """
        for name, content in self._contents():
            yield _row(self.path, name, content)

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        for label in CLASSES:
            folder = self.path / "train" / label
            with reading(folder):
                files = sorted(folder.glob("*.txt"), key=lambda file: file.stem)
                if not files:
                    raise DataError(_no_reviews(self.path, label))
                for file in files:
                    yield f"train/{label}/{file.stem}", file.read_bytes()


@dataclass(frozen=True)
class ImdbArchive:
    """A source of the reviews of the archive ``aclImdb_v1.tar.gz``, never unpacked to disk."""

    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """``("neg", "pos")``."""
        return CLASSES

    def digest(self) -> str:
        """The SHA-256 of the archive."""
        with reading(self.path):
            return file_digest(self.path)

    def rows(self) -> Iterator[Row]:
        """The reviews, sorted by id, as the folder gives them.

        Raises:
            DataError: a damaged archive, one without reviews, a review that isn't a plain file,
                an empty or broken review.
        """
        contents = dict(self._contents())
        for label in CLASSES:
            if not any(name.startswith(f"train/{label}/") for name in contents):
                raise DataError(_no_reviews(self.path, label))
        for name in sorted(contents):
            yield _row(self.path, name, contents[name])

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        # tarfile's own r|gz takes a cut archive for a short one and checks no CRC; gzip tells.
        with (
            reading(self.path),
            gzip.open(self.path) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                match = _MEMBER.fullmatch(member.name)
                if match is None:
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise DataError(
                        f"{self.path}: {member.name} isn't a plain file; the official archive "
                        f"holds no links or devices, so get it again"
                    )
                yield match.group(1), file.read()


def _row(path: Path, name: str, content: bytes) -> Row:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, {name}.txt: byte 0x{content[error.start]:02x} at {error.start} isn't utf-8; "
            f"get the data set again"
        ) from error
    if not text.strip():
        raise DataError(f"{path}, {name}.txt: the review is empty; get the data set again")
    return Row(name, text, CLASSES.index(name.split("/")[1]), None)


def _no_reviews(path: Path, label: str) -> str:
    return f"{path} has no reviews in train/{label}; source imdb needs {_LAYOUT}. Set data.path"
