"""Opens the data source that a config selects."""

from __future__ import annotations

from pathlib import Path

from celltune.data_prep.config import PATHS, DataConfig
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.sources.base import Source
from celltune.data_prep.sources.groups import GroupedSource
from celltune.data_prep.sources.paths import existing_files
from celltune.data_prep.types import Progress


def open_source(config: DataConfig, *, cache_dir: Path, progress: Progress | None = None) -> Source:
    """Open the source of a config without reading its documents; may download it.

    Args:
        config: what to load.
        cache_dir: contains the folder `downloads`.
        progress: called during a download.

    Raises:
        DataError: a path does not exist or is of the wrong kind, or the download failed.
    """
    source_type = SOURCES.load(config.source) if config.groups is None else GroupedSource
    return source_type.from_config(config, cache_dir=cache_dir, progress=progress)


def check_files_exist(config: DataConfig) -> None:
    """Check that the data files of a config exist, without opening them.

    Raises:
        DataError: one of them does not exist.
    """
    for key in PATHS:
        paths = getattr(config, key)
        if paths is not None:
            # Some sources read files, others folders, so the message names neither.
            existing_files(key, paths, kind="path")
