"""Sources whose splits are files: for training and, optionally, for each other split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.io.contents import content_digest, joint_digest
from celltune.data_prep.sources.base import TRAIN, Source, Split
from celltune.data_prep.sources.paths import existing_files
from celltune.data_prep.tables.arrow import stored_files
from celltune.data_prep.types import Progress

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig

_SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class FileSource(Source):
    """Base class of sources whose splits are files of their own.

    Attributes:
        files: files of the training split.
        test_files: files of the test split; none if there is no such split.
        max_bytes: largest size of a file after decompression, as `data.max_bytes`.
        progress: called while a large file is checked.
        valid_files: files of the validation split; none if it is taken from the training split.
    """

    files: tuple[Path, ...]
    test_files: tuple[Path, ...] = ()
    max_bytes: int | None = None
    progress: Progress | None = field(default=None, compare=False, repr=False)
    valid_files: tuple[Path, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The training split, and the other splits that have files of their own."""
        return tuple(split for split in _SPLITS if self.files_of(split))

    def digest(self, splits: Sequence[Split] = TRAIN) -> str:
        """Return the SHA-256 of the split's file, or of the digests of several files."""
        return joint_digest([self._digest_of(self.files_of(split)) for split in splits])

    def _digest_of(self, files: Sequence[Path]) -> str:
        stored = [part for path in files for part in stored_files(path)]
        digests = [content_digest(path, self.max_bytes, self.progress) for path in stored]
        # A split of two files is not the same as two splits of one file each.
        return digests[0] if len(digests) == 1 else joint_digest(["files", *digests])

    def files_of(self, split: Split) -> tuple[Path, ...]:
        """Return the files that contain a split."""
        own = {"valid": self.valid_files, "test": self.test_files}
        return own.get(split, self.files)


def files_of_config(
    config: DataConfig, *, kind: str = "file"
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the files of a config: training and test split.

    Args:
        config: names them.
        kind: as for `existing_files`.

    Raises:
        DataError: a file is missing or is of another kind.
    """
    test_path = config.test_path
    return (
        existing_files("path", config.path or Path(), kind=kind),
        () if test_path is None else existing_files("test_path", test_path, kind=kind),
    )
