"""Types that several subpackages of `celltune.data_prep` share."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeAlias, Union

from pydantic import BeforeValidator

from celltune.printable import QUOTED_CHARACTERS, printable, quoted

JSON: TypeAlias = Union[bool, int, float, str, list["JSON"], dict[str, "JSON"], None]  # noqa: UP007

Progress = Callable[[str, int, int | None], None]
"""Called as `progress(stage, done, total)`; `total` is None if it is unknown."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MAX_PATH = 4096


def shown(value: object) -> str:
    """Return an invalid value for a message: a text in quotes, everything shortened."""
    return quoted(value) if isinstance(value, str) else printable(value, QUOTED_CHARACTERS)


def quotes_hint(value: object) -> str:
    """Return how to make a value of YAML a text: a sentence; empty if quotes cannot do it."""
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return (
            f"YAML reads {words} without quotes as {str(value).lower()}. Put the text in quotes, "
            f"such as '{'yes' if value else 'no'}'."
        )
    if value is None:
        return "YAML reads null, ~ and nothing as no value. Put a text in quotes, such as 'null'."
    if isinstance(value, (int, float, date)):
        return f"Put it in quotes: '{printable(value, QUOTED_CHARACTERS)}'."
    return ""


def check_local_path(value: Any) -> Any:
    """Check the path of a file that a user names. Values other than texts are returned unchanged.

    Raises:
        ValueError: the text cannot be the path of a local file, or its user is unknown.
    """
    if not isinstance(value, str):
        return value
    # The rest of a URI is omitted, because it can contain a password.
    if scheme := _URI.match(value):
        raise ValueError(
            f"is a URI ({scheme[1]}://...). It must be the path of a local file or folder: "
            "download it, or mount its storage."
        )
    if not value or "\0" in value or len(value) > _MAX_PATH:
        raise ValueError(f"is {quoted(value)}. It must be the path of a file or folder.")
    try:
        Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"is {quoted(value)}, but there is no such user. Write a path.") from error
    return value


LocalPath = Annotated[Path, BeforeValidator(check_local_path)]
"""The path of a local file or folder; `~` is the home folder."""


def check_local_paths(value: Any) -> Any:
    """Check one path or a list of paths; see `check_local_path`.

    Raises:
        ValueError: a path is invalid, or the list is empty.
    """
    if not isinstance(value, (list, tuple)):
        return Path(checked) if isinstance(checked := check_local_path(value), str) else checked
    if not value:
        raise ValueError("is an empty list. It must name at least one file.")
    invalid = [each for each in value if not isinstance(each, (str, Path))]
    if invalid:
        raise ValueError(f"contains {shown(invalid[0])}, which is not the path of a file.")
    return tuple(Path(check_local_path(each)) for each in value)


LocalPaths = Annotated[Path | tuple[Path, ...], BeforeValidator(check_local_paths)]
"""The path of a local file or folder, a pattern such as `reviews/*.csv`, or a list of both."""


def absolute(value: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
    """Return one or several paths from the root of the file system; `~` is the home folder."""
    if isinstance(value, tuple):
        return tuple(path.expanduser().absolute() for path in value)
    return value.expanduser().absolute()
