"""The release of celltune."""

from __future__ import annotations

from importlib import metadata

VERSION = metadata.version("celltune")
