"""The Large Movie Review Dataset, from its archive or its unpacked folder.

Layout: ``aclImdb/{train,test}/{neg,pos}/<number>_<rating>.txt`` and the 50,000 unlabelled reviews
in ``aclImdb/train/unsup/``. Only the parts that are asked for are read. Source: Maas et al.,
"Learning Word Vectors for Sentiment Analysis", ACL 2011.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.archive import plain_files
from data_prep.errors import DataError
from data_prep.files import file_digest, reading
from data_prep.rows import NO_LABEL, TRAIN, Part, Row

CLASSES = ("neg", "pos")
PARTS: tuple[Part, ...] = ("train", "test", "unlabelled")
_MEMBER = re.compile(r"(?:\./)?aclImdb/((?:train|test)/(?:neg|pos)/[^/]+|train/unsup/[^/]+)\.txt")
_FOLDERS: dict[Part, tuple[str, ...]] = {
    "train": ("train/neg", "train/pos"),
    "test": ("test/neg", "test/pos"),
    "unlabelled": ("train/unsup",),
}


class _Imdb:
    """What folder and archive have in common."""

    @property
    def classes(self) -> tuple[str, ...]:
        """``("neg", "pos")``."""
        return CLASSES

    @property
    def parts(self) -> tuple[Part, ...]:
        """All three."""
        return PARTS


@dataclass(frozen=True)
class ImdbFolder(_Imdb):
    """A source of the reviews of the unpacked folder ``aclImdb``."""

    path: Path

    def digest(self, parts: Sequence[Part] = TRAIN) -> str:
        """The SHA-256 of all reviews of the parts with their names."""
        digest = hashlib.sha256()
        for part in parts:
            for name, content in self._contents(part):
                digest.update(f"{name}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()

    def rows(self, parts: Sequence[Part] = TRAIN) -> Iterator[Row]:
        """The reviews, part after part, sorted by id.

        Raises:
            DataError: a folder without reviews, an unreadable, empty or broken review.
        """
        for part in parts:
            for name, content in self._contents(part):
                yield _row(self.path, name, content, part)

    def _contents(self, part: Part) -> Iterator[tuple[str, bytes]]:
        for below in _FOLDERS[part]:
            folder = self.path / below
            with reading(folder):
                files = sorted(folder.glob("*.txt"), key=lambda file: file.stem)
                if not files:
                    raise DataError(_no_reviews(self.path, below))
                for file in files:
                    yield f"{below}/{file.stem}", file.read_bytes()


@dataclass(frozen=True)
class ImdbArchive(_Imdb):
    """A source of the reviews of the archive ``aclImdb_v1.tar.gz``, never unpacked to disk."""

    path: Path

    def digest(self, parts: Sequence[Part] = TRAIN) -> str:  # noqa: ARG002 (one file holds all)
        """The SHA-256 of the archive."""
        with reading(self.path):
            return file_digest(self.path)

    def rows(self, parts: Sequence[Part] = TRAIN) -> Iterator[Row]:
        """The reviews, as the folder gives them, in one pass over the archive.

        Raises:
            DataError: a damaged archive, one without reviews, a member that isn't a plain file
                or lies outside the tree, an empty or broken review.
        """
        folders = {below: part for part in parts for below in _FOLDERS[part]}
        held: dict[str, dict[str, bytes]] = {below: {} for below in folders}

        def wanted(name: str) -> bool:
            match = _MEMBER.fullmatch(name)
            return match is not None and match[1].rpartition("/")[0] in folders

        for member, content in plain_files(self.path, wanted):
            name = member[member.index("aclImdb/") + len("aclImdb/") : -len(".txt")]
            held[name.rpartition("/")[0]][name] = content
        for below, contents in held.items():
            if not contents:
                raise DataError(_no_reviews(self.path, below))
            for name in sorted(contents):
                yield _row(self.path, name, contents[name], folders[below])


def _row(path: Path, name: str, content: bytes, part: Part) -> Row:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, {name}.txt: byte 0x{content[error.start]:02x} at {error.start} isn't utf-8; "
            f"get the data set again"
        ) from error
    if not text or text.isspace():
        raise DataError(f"{path}, {name}.txt: the review is empty; get the data set again")
    label = NO_LABEL if part == "unlabelled" else CLASSES.index(name.split("/")[1])
    return Row(name, text, label, None, part)


def _no_reviews(path: Path, folder: str) -> str:
    return (
        f"{path} has no reviews in {folder}; source imdb needs aclImdb/{folder} with one .txt file "
        f"a review. Set data.path"
    )
