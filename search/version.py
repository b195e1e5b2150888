"""Versions of celltune and of the libraries that affect its results."""

from __future__ import annotations

import platform
from importlib import metadata

VERSION = metadata.version("celltune")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect the results of a search."""
    libraries = {name: metadata.version(name) for name in ("numpy", "optuna", "ray", "torch")}
    return {"python": platform.python_version(), **libraries}
