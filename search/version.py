"""The release of celltune, and of what shapes its numbers."""

from __future__ import annotations

import platform
from importlib import metadata

VERSION = metadata.version("celltune")


def library_versions() -> dict[str, str]:
    """Give the versions of Python and of the libraries that shape a search's numbers."""
    libraries = {name: metadata.version(name) for name in ("numpy", "optuna", "ray", "torch")}
    return {"python": platform.python_version(), **libraries}
