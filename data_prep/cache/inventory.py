"""List and clear the cache on disk."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celltune.data_prep.cache.disk import read_manifest
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.files import locked, writing
from celltune.printable import printable

DOWNLOADS = "downloads"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class CachedDataset:
    """A data set in the cache.

    Attributes:
        fingerprint: name of its folder.
        description: source and number of documents by split, or that it is damaged.
        documents: number of documents by split; empty if the data set is damaged.
        nbytes: size of its files.
        modified: time of its last change in seconds since 1970.
    """

    fingerprint: str
    description: str
    documents: Mapping[str, int]
    nbytes: int
    modified: float


def cached_datasets(cache_dir: Path) -> list[CachedDataset]:
    """Return all data sets in a cache, the newest first."""
    if not cache_dir.is_dir():
        return []
    # Everything listed can be cleared, so files that are not data sets have to be left out.
    folders = [path for path in cache_dir.iterdir() if _FINGERPRINT.fullmatch(path.name)]
    datasets = [_describe(path) for path in folders if path.is_dir() and not path.is_symlink()]
    return sorted(datasets, key=lambda dataset: -dataset.modified)


def clear(
    cache_dir: Path, fingerprints: Collection[str] | None = None, *, downloads: bool = False
) -> list[str]:
    """Remove data sets; waits for a set that is being prepared.

    Args:
        cache_dir: the cache.
        fingerprints: fingerprints or unique beginnings of fingerprints; None for all.
        downloads: if true, remove downloaded files, too.

    Returns:
        The names of the removed folders.

    Raises:
        DataError: a text is the beginning of no fingerprint or of several, or a folder cannot be
            removed.
    """
    existing = [dataset.fingerprint for dataset in cached_datasets(cache_dir)]
    if fingerprints is None:
        selected = existing
    else:
        matches = (match_fingerprint(text, existing, str(cache_dir)) for text in fingerprints)
        selected = list(dict.fromkeys(matches))
    with writing(cache_dir):
        for fingerprint in selected:
            with locked(cache_dir / f"{fingerprint}.lock"):
                (EnclosedPath(cache_dir) / fingerprint).remove_all()
            (cache_dir / f"{fingerprint}.lock").unlink()
        if downloads and (cache_dir / DOWNLOADS).is_dir():
            # If it is a link, only the link is removed.
            (EnclosedPath(cache_dir) / DOWNLOADS).remove_all()
            selected = [*selected, DOWNLOADS]
    return selected


def match_fingerprint(text: str, existing: Collection[str], location: str) -> str:
    """Return the only fingerprint that begins with a text.

    Args:
        text: a fingerprint or its beginning.
        existing: all fingerprints.
        location: where they are stored, for the error message.

    Raises:
        DataError: no fingerprint or several begin with the text.
    """
    matches = [fingerprint for fingerprint in existing if fingerprint.startswith(text)]
    if len(matches) != 1:
        problem = (
            f"is the beginning of {len(matches)} fingerprints"
            if matches
            else "is not the beginning of any fingerprint"
        )
        raise DataError(
            f"`fingerprints` contains '{text}', which {problem} in {location}. Give the beginning "
            f"of exactly one."
        )
    return matches[0]


def _describe(folder: Path) -> CachedDataset:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    modified = max((stat.st_mtime for stat in files), default=0.0)
    try:
        description, documents = _summary(read_manifest(folder)["info"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        description, documents = "damaged (will be prepared again when needed)", {}
    nbytes = sum(stat.st_size for stat in files)
    return CachedDataset(folder.name, description, documents, nbytes, modified)


def _summary(info: Any) -> tuple[str, dict[str, int]]:
    """Return a description and the number of documents by split."""
    if "source" not in info:
        documents = {"test": int(info["reviews"])}
        return f"test split, {documents['test']:,} documents", documents
    documents = {split: int(info[split]["reviews"]) for split in ("train", "valid")}
    sizes = ", ".join(f"{count:,} {split}" for split, count in documents.items())
    return f"{printable(info['source'], 80)}, {sizes}", documents
