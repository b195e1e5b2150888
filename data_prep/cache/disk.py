"""Prepared data on disk: one verified folder for each fingerprint.

::

    <cache>/<fingerprint>/manifest.json   version, classes, info, the SHA-256 of the other files
                                          and of itself
                          words.json      the vocabulary
                          train-ids.npy   and so on: each array of each part
                          vectors.npy     pretrained vectors, where there are some
    <cache>/<fingerprint>.lock            held while the folder is being made

A test part has a folder of its own, which holds test-ids.npy and so on.

A folder is written aside and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.io.files import file_digest, locked, writing
from celltune.data_prep.types import JSON

FORMAT_VERSION = 1
MANIFEST, WORDS, VECTORS = "manifest.json", "words.json", "vectors"
_OWN_DIGEST = "manifest_sha256"
_ARRAYS = {"ids": np.int32, "offsets": np.int64, "labels": np.int64}

log = logging.getLogger(__name__)

Data = TypeVar("Data")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Kind(Generic[Data]):
    """What a folder holds, and how it becomes arrays and JSON and comes back.

    Attributes:
        pack: the arrays by their file's name, without ``.npy``; and what the manifest keeps.
        unpack: takes fingerprint, arrays, manifest and the folder; raises any of `_BROKEN`.
        words: what is written to words.json, None for nothing.
    """

    pack: Callable[[Data], tuple[Arrays, dict[str, JSON]]]
    unpack: Callable[[str, Arrays, Mapping[str, Any], Path], Data]
    words: Callable[[Data], list[str] | None] = lambda _: None


_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _pack_prepared(data: PreparedData) -> tuple[Arrays, dict[str, JSON]]:
    arrays = {**_split_arrays("train", data.train), **_split_arrays("valid", data.valid)}
    kept: dict[str, JSON] = {"classes": list(data.classes), "info": data.info}
    if data.vectors is not None:
        arrays[VECTORS] = data.vectors
        kept["vectors_tuned"] = data.vectors_tuned
    return arrays, kept


def _unpack_prepared(
    fingerprint: str, arrays: Arrays, manifest: Mapping[str, Any], folder: Path
) -> PreparedData:
    return PreparedData(
        fingerprint=fingerprint,
        train=_split_of("train", arrays),
        valid=_split_of("valid", arrays),
        classes=tuple(manifest["classes"]),
        words=tuple(json.loads((folder / WORDS).read_text("utf-8"))),
        info=manifest["info"],
        vectors=arrays.get(VECTORS),
        vectors_tuned=manifest.get("vectors_tuned", True),
    )


def _unpack_test(
    fingerprint: str, arrays: Arrays, manifest: Mapping[str, Any], _: Path
) -> PreparedTest:
    return PreparedTest(fingerprint, _split_of("test", arrays), manifest["info"])


PREPARED = Kind(_pack_prepared, _unpack_prepared, lambda data: list(data.words))
TEST = Kind[PreparedTest](
    lambda data: (_split_arrays("test", data.split), {"info": data.info}), _unpack_test
)


def load_or_build(
    cache_dir: Path,
    fingerprint: str,
    build: Callable[[], Data],
    kind: Kind[Data],
) -> Data:
    """The prepared data of a fingerprint, built and kept if it isn't there whole.

    Processes that need the same at one time build it once. A damaged folder is rebuilt with a
    warning in the log.

    Args:
        cache_dir: where all prepared data lie; made if it isn't there.
        fingerprint: names the data.
        build: makes the data; what it raises goes through and leaves the cache as it was.
        kind: what the folder holds.

    Raises:
        DataError: a disk without room or that can't be written.
    """
    folder = cache_dir / fingerprint
    with writing(cache_dir):
        # Without the lock first: a whole folder never changes, and the disk may be read-only.
        found, _ = _load(folder, fingerprint, kind)
        if found is not None:
            return found
        with locked(cache_dir / f"{fingerprint}.lock"):
            found, damage = _load(folder, fingerprint, kind)
            if found is not None:
                return found
            if damage:
                log.warning("%s is damaged (%s); it is prepared again", folder, damage)
            built = build()
            _remove_leftovers(cache_dir, fingerprint)
            _store(built, folder, kind)
            return built


def find(cache_dir: Path, fingerprint: str, kind: Kind[Data]) -> Data | None:
    """The prepared data of a fingerprint if they are there whole; nothing is built or changed."""
    return _load(cache_dir / fingerprint, fingerprint, kind)[0]


def _load(folder: Path, fingerprint: str, kind: Kind[Data]) -> tuple[Data, str] | tuple[None, str]:
    """The data, or None and what is wrong with the folder (nothing if there is none)."""
    try:
        if not folder.exists():
            return None, ""
        manifest = read_manifest(folder)
        if (manifest["format"], manifest["fingerprint"]) != (FORMAT_VERSION, fingerprint):
            return None, f"format {manifest['format']}, fingerprint {manifest['fingerprint']}"
        written = manifest.pop(_OWN_DIGEST, None)
        # Folders from before it was written have none.
        if written is not None and written != _digest(manifest):
            return None, f"{MANIFEST} isn't what was written"
        arrays: Arrays = {}
        for name, digest in manifest["sha256"].items():
            if file_digest(folder / name) != digest:
                return None, f"{name} isn't what was written"
            if name.endswith(".npy"):
                arrays[name.removesuffix(".npy")] = np.load(folder / name, allow_pickle=False)
        return kind.unpack(fingerprint, arrays, manifest, folder), ""
    except _BROKEN as error:
        return None, f"{type(error).__name__}: {error}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of itself.

    Raises:
        OSError: it can't be read.
        ValueError: it isn't JSON.
        TypeError: it isn't a manifest.
    """
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    if not isinstance(manifest, dict):
        raise TypeError("the manifest isn't a mapping")
    return manifest


def _split_of(part: str, arrays: Arrays) -> TensorizedSplit:
    return TensorizedSplit(**{name: arrays[f"{part}-{name}"] for name in _ARRAYS})


def _split_arrays(part: str, split: TensorizedSplit) -> Arrays:
    return {
        f"{part}-{name}": getattr(split, name).astype(dtype, copy=False)
        for name, dtype in _ARRAYS.items()
    }


def _store(data: Data, folder: Path, kind: Kind[Data]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=_aside_prefix(folder.name), dir=folder.parent))
    try:
        arrays, kept = kind.pack(data)
        for name, array in arrays.items():
            _save(aside / f"{name}.npy", array)
        words = kind.words(data)
        if words is not None:
            (aside / WORDS).write_text(json.dumps(words, ensure_ascii=False), "utf-8")
        manifest: dict[str, JSON] = {
            "format": FORMAT_VERSION,
            "fingerprint": folder.name,
            **kept,
            "sha256": {file.name: file_digest(file) for file in sorted(aside.iterdir())},
        }
        manifest[_OWN_DIGEST] = _digest(manifest)
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _digest(manifest: Mapping[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _save(path: Path, array: NDArray[Any]) -> None:
    # Not np.save: of a full disk it tells two counts, and not that there is no room.
    npy: Any = np.lib.format
    whole = np.ascontiguousarray(array)
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(whole))
        file.write(whole.data)


def _remove_leftovers(cache_dir: Path, fingerprint: str) -> None:
    # Of a process that was killed while it wrote; the lock says that none is writing now.
    for leftover in cache_dir.glob(f"{_aside_prefix(fingerprint)}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _aside_prefix(fingerprint: str) -> str:
    return f".{fingerprint}-"
