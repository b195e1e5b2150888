"""Which reader a config asks for."""

from __future__ import annotations

from pathlib import Path

from data_prep import download
from data_prep.config import DEFAULT_LABEL_NOISE, DEFAULT_REVIEWS, DataConfig
from data_prep.errors import DataError
from data_prep.files import reading
from data_prep.groups import GroupedReviews
from data_prep.rows import Progress, Row, Source
from data_prep.source_amazon import AmazonReviews
from data_prep.source_imdb import ImdbArchive, ImdbFolder
from data_prep.source_table import UNNAMED_CLASSES, TableReviews
from data_prep.synthetic import SyntheticReviews

__all__ = ["Row", "Source", "check_present", "open_source"]


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
    return GroupedReviews(source, _file("groups", config.groups)) if config.groups else source


def _source(config: DataConfig, cache_dir: Path, progress: Progress | None) -> Source:
    if config.source == "synthetic":
        noise = DEFAULT_LABEL_NOISE if config.label_noise is None else config.label_noise
        return SyntheticReviews(config.reviews or DEFAULT_REVIEWS, noise, config.seed)
    if config.source == "imdb":
        if config.path is None:
            return ImdbArchive(download.imdb_archive(cache_dir, progress=progress))
        path = _present("path", config.path)
        return ImdbFolder(path) if path.is_dir() else ImdbArchive(path)
    path = _file("path", config.path or Path(), config.source)
    test = _file("test_path", config.test_path, config.source) if config.test_path else None
    if config.source == "amazon":
        return AmazonReviews(path, test)
    return TableReviews(
        form=config.source,
        path=path,
        text_column=config.text_column,
        label_column=config.label_column,
        classes=config.classes or UNNAMED_CLASSES,
        id_column=config.id_column,
        group_column=config.group_column,
        test_path=test,
    )


def check_present(config: DataConfig) -> None:
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
