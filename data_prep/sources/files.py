"""Sources whose splits are files: one for training and, optionally, one for the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.io.contents import contents_digest
from celltune.data_prep.sources.base import TRAIN, Source, Split
from celltune.data_prep.sources.paths import existing_file
from celltune.data_prep.types import Progress

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig


@dataclass(frozen=True)
class FileSource(Source):
    """Base class of sources with one file per split.

    Attributes:
        path: file of the training split.
        test_path: file of the test split, or None.
        max_bytes: largest size of a file after decompression, as `data.max_bytes`.
        progress: called while a large file is checked.
    """

    path: Path
    test_path: Path | None = None
    max_bytes: int | None = None
    progress: Progress | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def existing_files(config: DataConfig) -> tuple[Path, Path | None]:
        """Return the files of a config: training and test split.

        Raises:
            DataError: a file is missing or is a folder.
        """
        test_path = config.test_path
        return (
            existing_file("path", config.path or Path()),
            None if test_path is None else existing_file("test_path", test_path),
        )

    @property
    def splits(self) -> tuple[Split, ...]:
        """The training split, and the test split if it has a file of its own."""
        return ("train", "test") if self.test_path else TRAIN

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:
        """Return the SHA-256 of the split's file, or of the digests of both files."""
        return contents_digest(map(self.file_of, splits), self.max_bytes, self.progress)

    def file_of(self, split: Split) -> Path:
        """Return the file that contains a split."""
        return self.test_path if split == "test" and self.test_path else self.path
