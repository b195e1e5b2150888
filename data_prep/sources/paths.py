"""Checks of the files and folders that a config names."""

from __future__ import annotations

import glob
from collections import Counter
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


def existing_files(
    key: str, paths: Path | tuple[Path, ...], *, kind: str = "file"
) -> tuple[Path, ...]:
    """Return the files or folders that a key names: one, a list, or a pattern such as `*.csv`.

    The matches of a pattern are sorted, so that they do not depend on the file system.

    Args:
        key: the key of `DataConfig` that contains the paths.
        paths: its value.
        kind: what each path should name; folders are rejected if it is "file".

    Raises:
        DataError: one does not exist, is of another kind or is named twice, or a pattern matches
            nothing.
    """
    found = list[Path]()
    for path in paths if isinstance(paths, tuple) else (paths,):
        if not glob.has_magic(str(path)) or path.exists():
            check = (
                existing_file(key, path) if kind == "file" else existing_path(key, path, kind=kind)
            )
            found.append(check)
            continue
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 (absolute)
        files = [match for match in matches if match.is_file()]
        if not files:
            raise DataError(
                f"No file matches {path} (working directory: {Path.cwd()}). Set data.{key} to "
                f"existing files."
            )
        found += files
    for path, count in Counter(found).items():
        if count > 1:
            raise DataError(f"data.{key} names {path} {count} times. Name it once.")
    return tuple(found)


def single_path(path: Path | tuple[Path, ...] | None) -> Path:
    """Return the path of a source that reads one; its config is checked, so that there is one."""
    return path if isinstance(path, Path) else Path()
