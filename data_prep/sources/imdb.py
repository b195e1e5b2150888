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

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.download import fetch
from celltune.data_prep.io.files import file_digest, reading
from celltune.data_prep.sources.base import NO_LABEL, TRAIN, Document, Split
from celltune.data_prep.sources.tar_stream import plain_files
from celltune.data_prep.types import Progress

CLASSES = ("neg", "pos")
PARTS: tuple[Split, ...] = ("train", "test", "unlabelled")
_MEMBER = re.compile(r"(?:\./)?aclImdb/((?:train|test)/(?:neg|pos)/[^/]+|train/unsup/[^/]+)\.txt")
_FOLDERS: dict[Split, tuple[str, ...]] = {
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
    def splits(self) -> tuple[Split, ...]:
        """All three."""
        return PARTS


@dataclass(frozen=True)
class ImdbFolderSource(_Imdb):
    """A source of the reviews of the unpacked folder ``aclImdb``."""

    path: Path

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:
        """The SHA-256 of all reviews of the parts with their names."""
        digest = hashlib.sha256()
        for part in parts:
            for name, content in self._contents(part):
                digest.update(f"{name}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """The reviews, part after part, sorted by id.

        Raises:
            DataError: a folder without reviews, an unreadable, empty or broken review.
        """
        for part in parts:
            for name, content in self._contents(part):
                yield _row(self.path, name, content, part)

    def _contents(self, part: Split) -> Iterator[tuple[str, bytes]]:
        for below in _FOLDERS[part]:
            folder = self.path / below
            with reading(folder):
                files = sorted(folder.glob("*.txt"), key=lambda file: file.stem)
                if not files:
                    raise DataError(_no_reviews(self.path, below))
                for file in files:
                    yield f"{below}/{file.stem}", file.read_bytes()


@dataclass(frozen=True)
class ImdbArchiveSource(_Imdb):
    """A source of the reviews of the archive ``aclImdb_v1.tar.gz``, never unpacked to disk."""

    path: Path

    def digest(self, parts: Sequence[Split] = TRAIN) -> str:  # noqa: ARG002 (one file holds all)
        """The SHA-256 of the archive."""
        with reading(self.path):
            return file_digest(self.path)

    def documents(self, parts: Sequence[Split] = TRAIN) -> Iterator[Document]:
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


def _row(path: Path, name: str, content: bytes, part: Split) -> Document:
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
    return Document(name, text, label, None, part)


def _no_reviews(path: Path, folder: str) -> str:
    return (
        f"{path} has no reviews in {folder}; source imdb needs aclImdb/{folder} with one .txt file "
        f"a review. Set data.path"
    )


IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
"""Of aclImdb_v1.tar.gz, 84,125,825 bytes, as published by torchtext and others."""


def imdb_archive(cache_dir: Path, *, progress: Progress | None = None) -> Path:
    """The official archive in the cache, downloaded if it isn't there yet.

    Raises:
        DataError: no network, a damaged download, or no room.
    """
    target = cache_dir / "downloads" / "aclImdb_v1.tar.gz"
    if target.exists():
        return target
    return fetch(_imdb_url(), target, md5=IMDB_MD5, progress=progress)


def _imdb_url() -> str:
    # Imported here: torchtext brings torch along, seconds that only a download need wait.
    from torchtext.datasets import IMDB

    return str(IMDB.urls[0])
