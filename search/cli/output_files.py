"""Files that a command writes for people: whole or not at all, and never over another by chance."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from celltune.search.errors import OptionError


def check_output_free(path: Path, overwrite: bool) -> None:
    """Check that a file can be written, before the work for it is done.

    Raises:
        OptionError: it exists and may not be overwritten, is a folder, or its folder is missing.
    """
    if path.is_dir():
        raise OptionError(f"{path} is a folder; name a file in it.")
    if path.exists() and not overwrite:
        raise OptionError(f"{path} exists already; choose another name, or add --overwrite.")
    if not path.parent.is_dir():
        raise OptionError(f"The folder {path.parent} doesn't exist; make it first.")


def write(path: Path, content: str | bytes, overwrite: bool) -> None:
    """Write a file aside and put it in place whole.

    Raises:
        OptionError: as for `check_output_free`, or the place can't be written.
    """
    check_output_free(path, overwrite)
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            aside.chmod(0o644)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(
            f"{path} can't be written: {error.strerror}. Choose another place."
        ) from error
