"""Output files of commands: written atomically, and never over an existing file by accident."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from celltune.search.errors import OptionError


def check_output_free(path: Path, overwrite: bool) -> None:
    """Check that a file can be written before its content is computed.

    Raises:
        OptionError: the path is a folder, its folder is missing, or the file exists and
            `overwrite` is false.
    """
    if path.is_dir():
        raise OptionError(f"{path} is a folder. Choose a file name.")
    if path.exists() and not overwrite:
        raise OptionError(f"{path} already exists. Choose another name or set `overwrite`.")
    if not path.parent.is_dir():
        raise OptionError(f"The folder {path.parent} does not exist. Create it first.")


def write(path: Path, content: str | bytes, overwrite: bool) -> None:
    """Write a file atomically: a temporary file in the same folder is renamed.

    Raises:
        OptionError: as for `check_output_free`, or the file cannot be written.
    """
    check_output_free(path, overwrite)
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written: {error.strerror}. Choose another path."
        ) from error
