"""What lies in the cache on disk, for people to look at and to clear."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celltune.data_prep.cache.disk import read_manifest
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import locked, writing

DOWNLOADS = "downloads"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class CachedDataset:
    """One folder of the cache.

    Attributes:
        name: its fingerprint.
        what: the source and the reviews by part, or why it can't be used.
        nbytes: what its files take.
        changed: when it was written, seconds since 1970.
    """

    name: str
    what: str
    nbytes: int
    changed: float


def cached_datasets(cache_dir: Path) -> list[CachedDataset]:
    """All prepared sets of a cache, the newest first, and nothing else that lies there."""
    if not cache_dir.is_dir():
        return []
    # By name: whatever else lies in the folder must never be listed, and so never be cleared.
    folders = [path for path in cache_dir.iterdir() if _FINGERPRINT.fullmatch(path.name)]
    found = [_described(path) for path in folders if path.is_dir()]
    return sorted(found, key=lambda each: -each.changed)


def clear(
    cache_dir: Path, names: Collection[str] | None = None, *, downloads: bool = False
) -> list[str]:
    """Removes prepared sets; one that is being prepared is waited for.

    Args:
        cache_dir: the cache.
        names: fingerprints, or beginnings of them; None: all.
        downloads: remove what was downloaded as well.

    Returns:
        The names of what was removed.

    Raises:
        DataError: a name that no set has or several have, or a folder that can't be removed.
    """
    known = [each.name for each in cached_datasets(cache_dir)]
    named = (
        known
        if names is None
        else (match_fingerprint(name, known, str(cache_dir)) for name in names)
    )
    chosen = list(dict.fromkeys(named))
    with writing(cache_dir):
        for name in chosen:
            with locked(cache_dir / f"{name}.lock"):
                shutil.rmtree(cache_dir / name)
            (cache_dir / f"{name}.lock").unlink()
        if downloads and (cache_dir / DOWNLOADS).is_dir():
            shutil.rmtree(cache_dir / DOWNLOADS)
            chosen = [*chosen, DOWNLOADS]
    return chosen


def match_fingerprint(name: str, known: Collection[str], place: str) -> str:
    """The fingerprint that a name means: itself, or what alone begins with it.

    Args:
        name: what a person gave.
        known: the fingerprints there are.
        place: where they are, for the message.

    Raises:
        DataError: none or several.
    """
    meant = [each for each in known if each.startswith(name)]
    if len(meant) != 1:
        raise DataError(
            f"{name!r} names {len(meant) or 'none'} of the {len(known)} sets in {place}; give "
            f"a fingerprint, or its beginning, as celltune cache list shows it"
        )
    return meant[0]


def _described(folder: Path) -> CachedDataset:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    changed = max((stat.st_mtime for stat in files), default=0.0)
    try:
        info: Any = read_manifest(folder)["info"]
        what = _what(info)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        what = "damaged; it is prepared again when it is needed"
    return CachedDataset(folder.name, what, sum(stat.st_size for stat in files), changed)


def _what(info: Any) -> str:
    if "source" not in info:
        return f"a test part, {info['reviews']:,} reviews"
    parts = ", ".join(f"{info[part]['reviews']:,} {part}" for part in ("train", "valid"))
    return f"{info['source']}, {parts}"
