"""Prepared data on disk: one verified folder for each fingerprint.

::

    <cache>/<fingerprint>/manifest.json   version, classes, info, the SHA-256 of the other files
                          words.json      the vocabulary
                          train-ids.npy   and so on: each array of each part
    <cache>/<fingerprint>.lock            held while the folder is being made

A folder is written aside and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep.dataset import JSON, PreparedData, TensorizedSplit
from data_prep.files import file_digest, locked, writing

FORMAT_VERSION = 1
MANIFEST, WORDS = "manifest.json", "words.json"
_ARRAYS = {"ids": np.int32, "offsets": np.int64, "labels": np.int64}

log = logging.getLogger(__name__)


def load_or_build(
    cache_dir: Path, fingerprint: str, build: Callable[[], PreparedData]
) -> PreparedData:
    """The prepared data of a fingerprint, built and kept if it isn't there whole.

    Processes that need the same at one time build it once. A damaged folder is rebuilt with a
    warning in the log.

    Args:
        cache_dir: where all prepared data lie; made if it isn't there.
        fingerprint: names the data.
        build: makes the data; what it raises goes through and leaves the cache as it was.

    Raises:
        DataError: a disk without room or that can't be written.
    """
    folder = cache_dir / fingerprint
    with writing(cache_dir):
        # Without the lock first: a whole folder never changes, and the disk may be read-only.
        found, _ = _load(folder, fingerprint)
        if found is not None:
            return found
        with locked(cache_dir / f"{fingerprint}.lock"):
            found, damage = _load(folder, fingerprint)
            if found is not None:
                return found
            if damage:
                log.warning("%s is damaged (%s); it is prepared again", folder, damage)
            built = build()
            _remove_leftovers(cache_dir, fingerprint)
            _store(built, folder)
            return built


def _load(folder: Path, fingerprint: str) -> tuple[PreparedData | None, str]:
    """The data, or None and what is wrong with the folder (nothing if there is none)."""
    try:
        if not folder.exists():
            return None, ""
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if (manifest["format"], manifest["fingerprint"]) != (FORMAT_VERSION, fingerprint):
            return None, f"format {manifest['format']}, fingerprint {manifest['fingerprint']}"
        for name, digest in manifest["sha256"].items():
            if file_digest(folder / name) != digest:
                return None, f"{name} isn't what was written"
        data = PreparedData(
            fingerprint=fingerprint,
            train=_load_split(folder, "train"),
            valid=_load_split(folder, "valid"),
            classes=tuple(manifest["classes"]),
            words=tuple(json.loads((folder / WORDS).read_text("utf-8"))),
            info=manifest["info"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"
    return data, ""


def _load_split(folder: Path, part: str) -> TensorizedSplit:
    arrays = {name: np.load(folder / f"{part}-{name}.npy", allow_pickle=False) for name in _ARRAYS}
    return TensorizedSplit(**arrays)


def _store(data: PreparedData, folder: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=_aside_prefix(data.fingerprint), dir=folder.parent))
    try:
        for part, split in (("train", data.train), ("valid", data.valid)):
            for name, dtype in _ARRAYS.items():
                array = getattr(split, name).astype(dtype, copy=False)
                np.save(aside / f"{part}-{name}.npy", array, allow_pickle=False)
        (aside / WORDS).write_text(json.dumps(data.words, ensure_ascii=False), "utf-8")
        manifest: dict[str, JSON] = {
            "format": FORMAT_VERSION,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "info": data.info,
            "sha256": {file.name: file_digest(file) for file in sorted(aside.iterdir())},
        }
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove_leftovers(cache_dir: Path, fingerprint: str) -> None:
    # Of a process that was killed while it wrote; the lock says that none is writing now.
    for leftover in cache_dir.glob(f"{_aside_prefix(fingerprint)}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _aside_prefix(fingerprint: str) -> str:
    return f".{fingerprint}-"
