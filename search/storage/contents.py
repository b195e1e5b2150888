"""The files that an experiment consists of: as they are listed, copied and removed.

The folder of an experiment is removed in two steps. A rename, which is atomic, gives it a name that
no experiment can have, and then its content is removed. If the process dies in between, the rest
is removed by the next deletion.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.files import sync_folder
from celltune.search.errors import ExperimentError

_DELETED = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*\.[0-9a-f]{16}\.deleted")
"""Name of the folder of a deleted experiment while its content is removed."""


class ReadableFile(Protocol):
    """A file whose content can be read."""

    def read_bytes(self) -> bytes:
        """Return the content.

        Raises:
            OSError: the file is missing or cannot be read.
        """


@dataclass(frozen=True)
class StoredFile:
    """A file of an experiment."""

    parts: tuple[str, ...]
    """The names from the experiment to the file, such as trials, 0, epoch-1 and state.json."""
    size: int
    """In bytes."""
    path: ReadableFile
    """Where it is."""


NewFile = tuple[tuple[str, ...], bytes]
"""The names that lead from an experiment to a new file of it, and the file's content."""


def write_new(folder: EnclosedPath, parts: Sequence[str], content: bytes) -> None:
    """Write a new file below a folder, with the folders that lead to it.

    Raises:
        OSError: it exists or cannot be written.
    """
    *folders, name = parts
    for each in folders:
        folder /= each
        folder.mkdir(exist_ok=True)
    (folder / name).create(content)


def set_aside(folder: EnclosedPath) -> EnclosedPath:
    """Rename the folder of an experiment, which is deleted by that, and return its new path.

    Raises:
        ExperimentError: it cannot be renamed.
    """
    deleted = f".{folder.name}.{secrets.token_hex(8)}.deleted"
    try:
        folder.rename(deleted)
        sync_folder(folder.root)
    except OSError as error:
        raise ExperimentError(
            f"The experiment {folder} cannot be removed: {error.strerror}. Check the permissions "
            "of its storage."
        ) from error
    return folder.parent / deleted


def remove(deleted: EnclosedPath, experiment: str) -> None:
    """Remove the renamed folder of an experiment.

    Raises:
        ExperimentError: a part of it cannot be removed.
    """
    try:
        deleted.remove_all()
    except FileNotFoundError:
        return  # Another process finished it.
    except OSError as error:
        raise ExperimentError(
            f"The experiment '{experiment}' is deleted, but not all of its files could be removed: "
            f"{error.strerror}. Remove {deleted}."
        ) from error


def finish_deletions(folder: Path) -> int:
    """Remove the renamed folders in a storage, and return their number.

    Raises:
        OSError: the storage cannot be read.
    """
    if not folder.is_dir():
        return 0
    found = [path.name for path in folder.iterdir() if _DELETED.fullmatch(path.name)]
    removed = 0
    for name in found:
        # Another process may be removing it, or it belongs to another user.
        with suppress(OSError):
            (EnclosedPath(folder) / name).remove_all()
            removed += 1
    return removed
