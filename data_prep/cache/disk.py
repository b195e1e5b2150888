"""Prepared data on disk: one folder with checksums per fingerprint.

::

    <cache>/<fingerprint>/manifest.json   format, classes, info, and the SHA-256 of all files
                                          including itself
                          words.json      the vocabulary
                          train-ids.npy   and the other arrays of each split
                          vectors.npy     word vectors, if any
                          wide-words.npy  and the other arrays of the wide part, if any
    <cache>/<fingerprint>.lock            locked while the folder is written

The test split has a folder of its own, which contains test-ids.npy etc.

A folder is written under a temporary name and renamed, so it is either complete or missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.cache.files import read_array, read_json
from celltune.data_prep.cache.validation import check_prepared, check_test
from celltune.data_prep.dataset.names import check_classes, check_words
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.files import file_digest, locked, writing
from celltune.data_prep.types import JSON
from celltune.data_prep.wide.model import WideModel
from celltune.printable import printable, quoted

FORMAT_VERSION = 1
MANIFEST, WORDS, VECTORS = "manifest.json", "words.json", "vectors"
WIDE_PREFIX, WIDE_TRAIN_VALID = "wide-", "test-wide-train-valid"
_OWN_DIGEST = "manifest_sha256"
_ARRAYS = {"ids": np.int32, "offsets": np.int64, "labels": np.int64, "wide": np.float32}
_OPTIONAL_ARRAYS = ("wide",)
_ARRAY_FILE = re.compile(r"[a-z][a-z0-9_-]{0,99}\.npy")

log = logging.getLogger(__name__)

Data = TypeVar("Data")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Codec(Generic[Data]):
    """Conversion of a type of data to arrays and JSON, and back.

    Attributes:
        pack: returns the arrays by file name without `.npy`, and entries for the manifest.
        unpack: converts fingerprint, arrays, manifest and the content of words.json to data; raises
            any of `_DAMAGE_ERRORS` if they are invalid.
        words: returns the content of words.json, or None for no such file.
    """

    pack: Callable[[Data], tuple[Arrays, dict[str, JSON]]]
    unpack: Callable[[str, Arrays, Mapping[str, Any], Any], Data]
    words: Callable[[Data], list[str] | None] = lambda _: None


_DAMAGE_ERRORS = (OSError, ValueError, DataError, MemoryError)


def _pack_prepared(data: PreparedData) -> tuple[Arrays, dict[str, JSON]]:
    arrays = {**_split_arrays("train", data.train), **_split_arrays("valid", data.valid)}
    entries: dict[str, JSON] = {"classes": list(data.classes), "info": data.info}
    if data.vectors is not None:
        arrays[VECTORS] = data.vectors
        entries["vectors_tuned"] = data.vectors_tuned
    if data.wide is not None:
        arrays.update({f"{WIDE_PREFIX}{key}": value for key, value in data.wide.arrays().items()})
    return arrays, entries


def _unpack_prepared(
    fingerprint: str, arrays: Arrays, manifest: Mapping[str, Any], words: Any
) -> PreparedData:
    data = PreparedData(
        fingerprint=fingerprint,
        train=_split_of("train", arrays),
        valid=_split_of("valid", arrays),
        classes=check_classes(manifest.get("classes")),
        words=check_words(words),
        info=manifest.get("info", {}),
        vectors=arrays.get(VECTORS),
        vectors_tuned=manifest.get("vectors_tuned", True),
        wide=_wide_of(arrays),
    )
    check_prepared(data)
    return data


def _wide_of(arrays: Arrays) -> WideModel | None:
    wide = {
        name.removeprefix(WIDE_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(WIDE_PREFIX)
    }
    return WideModel.from_arrays(wide) if wide else None


def _pack_test(data: PreparedTest) -> tuple[Arrays, dict[str, JSON]]:
    arrays = _split_arrays("test", data.split)
    if data.wide_train_valid is not None:
        arrays[WIDE_TRAIN_VALID] = data.wide_train_valid
    return arrays, {"info": data.info}


PREPARED = Codec(_pack_prepared, _unpack_prepared, lambda data: list(data.words))


def codec_of_test(vocabulary_size: int, num_classes: int) -> Codec[PreparedTest]:
    """Return the codec of a test split.

    Args:
        vocabulary_size: number of ids of the vocabulary that encodes it.
        num_classes: number of classes.
    """

    def unpack(
        fingerprint: str, arrays: Arrays, manifest: Mapping[str, Any], _: Any
    ) -> PreparedTest:
        split, info = _split_of("test", arrays), manifest.get("info", {})
        data = PreparedTest(fingerprint, split, info, arrays.get(WIDE_TRAIN_VALID))
        check_test(data, vocabulary_size, num_classes)
        return data

    return Codec(_pack_test, unpack)


def load_or_build(
    cache_dir: Path,
    fingerprint: str,
    build: Callable[[], Data],
    codec: Codec[Data],
) -> Data:
    """Return the data of a fingerprint; build and store it if the cache does not have it.

    If several processes need the same data at the same time, one of them builds. A damaged folder
    is rebuilt with a warning in the log.

    Args:
        cache_dir: folder of all prepared data; it is created if missing.
        fingerprint: identifies the data.
        build: creates the data; its errors are passed on and leave the cache unchanged.
        codec: converts the data to files.

    Raises:
        DataError: the disk is full or not writable.
    """
    folder = cache_dir / fingerprint
    # Try without the lock first: complete folders never change, and the disk may be read-only.
    data, _ = _load(folder, fingerprint, codec)
    if data is not None:
        return data
    with ExitStack() as stack:
        with writing(cache_dir):
            stack.enter_context(locked(cache_dir / f"{fingerprint}.lock"))
        data, damage = _load(folder, fingerprint, codec)
        if data is not None:
            return data
        if damage:
            log.warning("%s is damaged (%s); it is prepared again.", folder, damage)
        # Outside of `writing`: an `OSError` of a source is not an error of the cache.
        built = build()
        with writing(cache_dir):
            _remove_leftovers(cache_dir, fingerprint)
            _store(built, folder, codec)
        return built


def find(cache_dir: Path, fingerprint: str, codec: Codec[Data]) -> Data | None:
    """Return the data of a fingerprint, or None if it is missing or damaged; changes nothing."""
    return _load(cache_dir / fingerprint, fingerprint, codec)[0]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a manifest.
    """
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} is not a mapping")  # noqa: TRY004 (a damaged file)
    return manifest


def _load(
    folder: Path, fingerprint: str, codec: Codec[Data]
) -> tuple[Data, str] | tuple[None, str]:
    """Return the data, or None and the damage of the folder (empty if there is no folder)."""
    try:
        if not folder.exists():
            return None, ""
        manifest = read_manifest(folder)
        identity = manifest.get("format"), manifest.get("fingerprint")
        if identity != (FORMAT_VERSION, fingerprint):
            return None, f"its format and fingerprint are {quoted(identity)}"
        digest = manifest.pop(_OWN_DIGEST, None)
        # The oldest folders do not have the entry.
        if digest is not None and digest != _digest(manifest):
            return None, f"the checksum of {MANIFEST} is wrong"
        arrays, words = _read_files(folder, manifest.get("sha256"))
        return codec.unpack(fingerprint, arrays, manifest, words), ""
    except _DAMAGE_ERRORS as error:
        return None, printable(str(error) or "memory is exhausted", 300)


def _read_files(folder: Path, digests: Any) -> tuple[Arrays, Any]:
    """Return the arrays by file name without `.npy`, and the content of words.json, if any.

    Raises:
        ValueError: the name or the content of a file is invalid.
        OSError: a file cannot be read.
    """
    arrays, words = Arrays(), None
    for name, digest in (digests if isinstance(digests, dict) else {}).items():
        if name == WORDS:
            words = read_json(folder / name, digest)
        elif _ARRAY_FILE.fullmatch(name):
            arrays[name.removesuffix(".npy")] = read_array(folder / name, digest)
        else:
            raise ValueError(f"{MANIFEST} lists {quoted(name)}, which is not the name of an array")
    return arrays, words


def _split_of(name: str, arrays: Arrays) -> TensorizedSplit:
    for array in _ARRAYS:
        if array not in _OPTIONAL_ARRAYS and f"{name}-{array}" not in arrays:
            raise ValueError(f"{name}-{array}.npy is missing")
    return TensorizedSplit(
        **{
            array: arrays[f"{name}-{array}"]
            for array in _ARRAYS
            if f"{name}-{array}" in arrays or array not in _OPTIONAL_ARRAYS
        }
    )


def _split_arrays(name: str, split: TensorizedSplit) -> Arrays:
    return {
        f"{name}-{array}": values.astype(dtype, copy=False)
        for array, dtype in _ARRAYS.items()
        if (values := getattr(split, array)) is not None
    }


def _store(data: Data, folder: Path, codec: Codec[Data]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=_temporary_prefix(folder.name), dir=folder.parent))
    try:
        arrays, entries = codec.pack(data)
        for name, array in arrays.items():
            _save(temporary / f"{name}.npy", array)
        words = codec.words(data)
        if words is not None:
            (temporary / WORDS).write_text(json.dumps(words, ensure_ascii=False), "utf-8")
        manifest: dict[str, JSON] = {
            "format": FORMAT_VERSION,
            "fingerprint": folder.name,
            **entries,
            "sha256": {file.name: file_digest(file) for file in sorted(temporary.iterdir())},
        }
        manifest[_OWN_DIGEST] = _digest(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        with suppress(FileNotFoundError):
            EnclosedPath.of(folder).remove_all()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _digest(manifest: Mapping[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _save(path: Path, array: NDArray[Any]) -> None:
    # np.save reports a full disk as two differing counts, not as "No space left on device".
    npy: Any = np.lib.format
    contiguous = np.ascontiguousarray(array)
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(contiguous))
        file.write(contiguous.data)


def _remove_leftovers(cache_dir: Path, fingerprint: str) -> None:
    """Remove folders of processes that were killed while writing; call it with the lock."""
    for leftover in cache_dir.glob(f"{_temporary_prefix(fingerprint)}*"):
        with suppress(OSError):
            EnclosedPath.of(leftover).remove_all()


def _temporary_prefix(fingerprint: str) -> str:
    return f".{fingerprint}-"
