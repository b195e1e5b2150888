"""The Large Movie Review Dataset, from its archive or its unpacked folder.

Layout: `aclImdb/{train,test}/{neg,pos}/<number>_<rating>.txt`, and 50,000 unlabelled reviews in
`aclImdb/train/unsup/`. Source: A. L. Maas et al., "Learning Word Vectors for Sentiment Analysis",
ACL 2011.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import MAX_DOCUMENT_BYTES, content_digest, too_long
from celltune.data_prep.io.download import fetch
from celltune.data_prep.io.files import reading
from celltune.data_prep.io.regular import FileTooLargeError, read_regular
from celltune.data_prep.sources.base import (
    NO_LABEL,
    TRAIN,
    Document,
    Provenance,
    Source,
    Split,
)
from celltune.data_prep.sources.paths import existing_path, single_path
from celltune.data_prep.sources.tar_stream import read_members
from celltune.data_prep.types import Progress
from celltune.printable import printable, quoted

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

CLASSES = ("neg", "pos")
SPLITS: tuple[Split, ...] = ("train", "test", "unlabelled")
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
"""Checksum of aclImdb_v1.tar.gz (84,125,825 bytes), as published by torchtext and others."""

_MEMBER = re.compile(r"(?:\./)?aclImdb/((?:train|test)/(?:neg|pos)/[^/]+|train/unsup/[^/]+)\.txt")
_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train/neg", "train/pos"),
    "test": ("test/neg", "test/pos"),
    "unlabelled": ("train/unsup",),
}
_ADVICE = (
    "Get aclImdb_v1.tar.gz by hand and set data.path to it, or to the unpacked folder aclImdb."
)


class ImdbSource(Source):
    """The reviews of the data set; the subclasses read the folder or the archive."""

    optional_keys = ("path",)
    has_unlabelled = True

    @classmethod
    def from_config(
        cls, config: DataConfig, *, cache_dir: Path, progress: Progress | None = None
    ) -> Source:
        """Open the folder or archive of a config, or download the archive if there is no path.

        Raises:
            DataError: the path does not exist, or the download failed.
        """
        if config.path is None:
            target = _cached_archive(cache_dir)
            if not target.exists():
                fetch(_imdb_url(), target, md5=IMDB_MD5, advice=_ADVICE, progress=progress)
            return ImdbArchiveSource(target, config.max_bytes, progress)
        path = existing_path("path", single_path(config.path))
        if path.is_dir():
            return ImdbFolderSource(path)
        return ImdbArchiveSource(path, config.max_bytes, progress)

    @classmethod
    def needs_download(cls, config: DataConfig, cache_dir: Path) -> bool:
        """Return whether the config has no path and the archive is not in the cache."""
        return config.path is None and not _cached_archive(cache_dir).exists()

    @classmethod
    def has_test(cls, config: DataConfig) -> bool:  # noqa: ARG003
        """Return True: the data set has a test split of its own."""
        return True

    @classmethod
    def provenance(cls, config: DataConfig) -> Provenance:  # noqa: ARG003
        """Return the citation that the authors ask for."""
        return Provenance(
            "the Large Movie Review Dataset (Maas et al., ACL 2011), "
            "https://ai.stanford.edu/~amaas/data/sentiment/",
            "Its authors ask that work which uses it cites: Andrew L. Maas, Raymond E. Daly, Peter "
            'T. Pham, Dan Huang, Andrew Y. Ng, Christopher Potts, "Learning Word Vectors for '
            'Sentiment Analysis", ACL 2011. The data set has no licence. The reviews were written '
            "by users of IMDb, who own the rights to their texts.",
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """`("neg", "pos")`."""
        return CLASSES

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train, test and unlabelled."""
        return SPLITS


@dataclass(frozen=True)
class ImdbFolderSource(ImdbSource):
    """The reviews of the unpacked folder `aclImdb`."""

    path: Path

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:
        """Return the SHA-256 of the names and contents of all reviews of the splits."""
        digest = hashlib.sha256()
        for split in splits:
            for name, content in self._files(split):
                digest.update(f"{name}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield the reviews of each split, sorted by id.

        Raises:
            DataError: a folder has no reviews, or a review is unreadable, empty or not UTF-8.
        """
        for split in splits:
            for name, content in self._files(split):
                yield _document(self.path, name, content, split)

    def _files(self, split: Split) -> Iterator[tuple[str, bytes]]:
        for subfolder in _FOLDERS[split]:
            folder = self.path / subfolder
            with reading(folder):
                files = sorted(folder.glob("*.txt"), key=lambda file: file.stem)
            if not files:
                raise DataError(_no_reviews(self.path, subfolder))
            for file in files:
                with reading(file):
                    try:
                        content = read_regular(file, limit=MAX_DOCUMENT_BYTES)
                    except FileTooLargeError as error:
                        raise too_long(f"{file}") from error
                yield f"{subfolder}/{file.stem}", content


@dataclass(frozen=True)
class ImdbArchiveSource(ImdbSource):
    """The reviews of the archive `aclImdb_v1.tar.gz`, which is read without unpacking it.

    Attributes:
        path: the archive.
        max_bytes: its largest size after decompression, as `data.max_bytes`.
        progress: called while a large archive is checked.
    """

    path: Path
    max_bytes: int | None = None
    progress: Progress | None = field(default=None, compare=False, repr=False)

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:  # noqa: ARG002
        """Return the SHA-256 of the archive, which contains all splits."""
        return content_digest(self.path, self.max_bytes, self.progress)

    def documents(self, splits: Sequence[Split] = TRAIN) -> Iterator[Document]:
        """Yield the same documents as the folder, in one pass over the archive.

        Raises:
            DataError: the archive is damaged or too large, has no reviews or one of them twice, or
                has a member that is not a plain file or is outside the archive's tree, or a review
                is empty, too long or not UTF-8.
        """
        split_of = {subfolder: split for split in splits for subfolder in _FOLDERS[split]}
        # Members of an archive are in arbitrary order: a subfolder is sorted once it is complete.
        contents: dict[str, dict[str, bytes]] = {subfolder: {} for subfolder in split_of}

        def is_requested(member: str) -> bool:
            match = _MEMBER.fullmatch(member)
            return match is not None and match[1].rpartition("/")[0] in split_of

        for member, content in read_members(self.path, is_requested, self.max_bytes):
            name = member[member.index("aclImdb/") + len("aclImdb/") : -len(".txt")]
            reviews = contents[name.rpartition("/")[0]]
            if name in reviews:
                raise DataError(
                    f"{self.path} contains the member {quoted(member)} twice. Get the archive "
                    f"again."
                )
            reviews[name] = content
        for subfolder, reviews in contents.items():
            if not reviews:
                raise DataError(_no_reviews(self.path, subfolder))
            for name in sorted(reviews):
                yield _document(self.path, name, reviews[name], split_of[subfolder])


def _document(path: Path, name: str, content: bytes, split: Split) -> Document:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, {printable(name, 80)}.txt: byte 0x{content[error.start]:02x} at position "
            f"{error.start} is not valid UTF-8. Get the data set again."
        ) from error
    if not text or text.isspace():
        raise DataError(
            f"{path}, {printable(name, 80)}.txt: the review is empty. Get the data set again."
        )
    label = NO_LABEL if split == "unlabelled" else CLASSES.index(name.split("/")[1])
    return Document(name, text, label, None, split)


def _no_reviews(path: Path, subfolder: str) -> str:
    return (
        f"{path} has no reviews in {subfolder}. The source 'imdb' needs the folder "
        f"aclImdb/{subfolder} with one .txt file per review. Correct data.path."
    )


def _cached_archive(cache_dir: Path) -> Path:
    return cache_dir / "downloads" / "aclImdb_v1.tar.gz"


def _imdb_url() -> str:
    # torchtext imports torch, which takes seconds; only a download needs the address.
    from torchtext.datasets import IMDB

    return str(IMDB.urls[0])
