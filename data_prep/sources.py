"""Which reader a config asks for."""

from __future__ import annotations

from pathlib import Path

from data_prep import download
from data_prep.config import DEFAULT_LABEL_NOISE, DEFAULT_REVIEWS, DataConfig
from data_prep.errors import DataError
from data_prep.files import reading
from data_prep.rows import Progress, Row, Source
from data_prep.source_csv import UNNAMED_CLASSES, CsvReviews
from data_prep.source_imdb import ImdbArchive, ImdbFolder
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
    if config.source == "synthetic":
        noise = DEFAULT_LABEL_NOISE if config.label_noise is None else config.label_noise
        return SyntheticReviews(config.reviews or DEFAULT_REVIEWS, noise, config.seed)
    if config.source == "csv":
        path = _present(config.path or Path())
        if path.is_dir():
            raise DataError(f"{path} is a folder; source csv needs a file. Set data.path to it")
        classes = config.classes or UNNAMED_CLASSES
        return CsvReviews(path, config.text_column, config.label_column, classes)
    if config.path is None:
        return ImdbArchive(download.imdb_archive(cache_dir, progress=progress))
    path = _present(config.path)
    return ImdbFolder(path) if path.is_dir() else ImdbArchive(path)


def check_present(config: DataConfig) -> None:
    """Look whether the file or folder that a config names is there; opens nothing.

    Raises:
        DataError: it isn't.
    """
    if config.path is not None:
        _present(config.path)


def _present(path: Path) -> Path:
    with reading(path):
        present = path.exists()
    if not present:
        raise DataError(
            f"{path} doesn't exist (looked in {Path.cwd()}); set data.path to a file that does"
        )
    return path
