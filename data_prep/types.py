"""Types that several subpackages of `celltune.data_prep` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, Union

JSON: TypeAlias = Union[bool, int, float, str, list["JSON"], dict[str, "JSON"], None]  # noqa: UP007

Progress = Callable[[str, int, int | None], None]
"""Called as `progress(stage, done, total)`; `total` is None if it is unknown."""
