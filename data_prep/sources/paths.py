"""Checks of the files and folders that a config names."""

from __future__ import annotations

from pathlib import Path

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import reading
from celltune.data_prep.io.regular import NotRegularFileError


def existing_path(key: str, path: Path, *, kind: str = "file or folder") -> Path:
    """Return the path if it is that of an existing file or folder.

    Args:
        key: the key of `DataConfig` that contains the path.
        path: a file or folder.
        kind: what the path should name, for the message.

    Raises:
        DataError: it does not exist, is not accessible, or is that of a pipe, socket or device.
    """
    with reading(path):
        exists = path.exists()
        if exists and not (path.is_file() or path.is_dir()):
            raise NotRegularFileError(path)
    if not exists:
        raise DataError(
            f"{path} does not exist (working directory: {Path.cwd()}). Set data.{key} to an "
            f"existing {kind}."
        )
    return path


def existing_file(key: str, path: Path) -> Path:
    """Return the path if it is a file.

    Raises:
        DataError: as for `existing_path`, or it is a folder.
    """
    if existing_path(key, path, kind="file").is_dir():
        raise DataError(f"{path} is a folder, but data.{key} must be a file.")
    return path
