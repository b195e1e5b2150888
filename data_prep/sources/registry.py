"""Which reader a config asks for."""

from __future__ import annotations

from pathlib import Path

from celltune.data_prep.config import DEFAULT_LABEL_NOISE, DEFAULT_REVIEWS, DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import reading
from celltune.data_prep.sources.amazon import AmazonSource
from celltune.data_prep.sources.base import Source
from celltune.data_prep.sources.groups import GroupedSource
from celltune.data_prep.sources.imdb import ImdbArchiveSource, ImdbFolderSource, imdb_archive
from celltune.data_prep.sources.synthetic import SyntheticSource
from celltune.data_prep.sources.table import UNNAMED_CLASSES, TableSource
from celltune.data_prep.types import Progress


def open_source(config: DataConfig, *, cache_dir: Path, progress: Progress | None = None) -> Source:
    """The source that a config names; reads nothing yet, but may download.

    Args:
        config: what to load.
        cache_dir: downloads lie in its folder ``downloads``.
        progress: told about a download.

    Raises:
        DataError: a path that isn't there or isn't of the right kind, or a failed download.
    """
    source = _source(config, cache_dir, progress)
    return GroupedSource(source, _file("groups", config.groups)) if config.groups else source


def _source(config: DataConfig, cache_dir: Path, progress: Progress | None) -> Source:
    if config.source == "synthetic":
        noise = DEFAULT_LABEL_NOISE if config.label_noise is None else config.label_noise
        return SyntheticSource(config.reviews or DEFAULT_REVIEWS, noise, config.seed)
    if config.source == "imdb":
        if config.path is None:
            return ImdbArchiveSource(imdb_archive(cache_dir, progress=progress))
        path = _present("path", config.path)
        return ImdbFolderSource(path) if path.is_dir() else ImdbArchiveSource(path)
    path = _file("path", config.path or Path(), config.source)
    test = _file("test_path", config.test_path, config.source) if config.test_path else None
    if config.source == "amazon":
        return AmazonSource(path, test)
    return TableSource(
        form=config.source,
        path=path,
        text_column=config.text_column,
        label_column=config.label_column,
        classes=config.classes or UNNAMED_CLASSES,
        id_column=config.id_column,
        group_column=config.group_column,
        test_path=test,
    )


def check_files_exist(config: DataConfig) -> None:
    """Look whether the file or folder that a config names is there; opens nothing.

    Raises:
        DataError: it isn't.
    """
    for key in ("path", "test_path"):
        named = getattr(config, key)
        if named is not None:
            _present(key, named)


def _file(key: str, path: Path, source: str | None = None) -> Path:
    if _present(key, path).is_dir():
        what = f"source {source}" if source else f"data.{key}"
        raise DataError(f"{path} is a folder; {what} needs a file. Set data.{key} to it")
    return path


def _present(key: str, path: Path) -> Path:
    with reading(path):
        present = path.exists()
    if not present:
        raise DataError(
            f"{path} doesn't exist (looked in {Path.cwd()}); set data.{key} to a file that does"
        )
    return path
