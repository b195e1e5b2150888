"""The way from raw text to tensorized, cached data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from celltune.data_prep.cache.disk import PREPARED, TEST, find, load_or_build
from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.preparation.builder import (
    Builder,
    labels_of,
    load_documents,
    require_tokens,
    split_documents,
)
from celltune.data_prep.preparation.duplicates import SplitDocuments
from celltune.data_prep.sources.base import TRAIN, Source, Split
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.text.tokenizers import tokenizer_version
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.vectors.embedding import VectorSource, check_vectors, open_vectors

PREPARATION_VERSION = 1
"""Raised whenever the same config and content would give other data: old caches go stale."""


def prepare(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> PreparedData:
    """Loads, splits, tokenizes and indexes a data set, or opens what was prepared before.

    The test part isn't looked at, unless ``duplicates: drop`` needs its texts.

    Args:
        config: what to load and how.
        cache_dir: where prepared data are kept; ``$CELLTUNE_CACHE`` or ``~/.cache/celltune`` if
            not given.
        progress: told ``(stage, done, total)``; stages are download, read, tokenize and vectors.
            Only what is really done is told.

    Raises:
        DataError: input that can't be used, or a cache that can't be written; the cache is then
            as it was.
    """
    return _Preparation(config, cache_dir, progress).data(TRAIN)


def prepare_test(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> PreparedTest:
    """The test part of what `prepare` gives, for the final evaluation; kept apart from it.

    What `prepare` would do is done in the same pass over the source, if it wasn't done before.

    Args:
        config: as for `prepare`.
        cache_dir: as for `prepare`.
        progress: as for `prepare`.

    Raises:
        DataError: as for `prepare`, or a config that names no test part.
    """
    return _Preparation(config, cache_dir, progress).test()


def find_prepared(fingerprint: str, *, cache_dir: Path | None = None) -> PreparedData | None:
    """What was prepared before under a fingerprint, or None; the source isn't looked at.

    Args:
        fingerprint: names the data.
        cache_dir: as for `prepare`.
    """
    if not fingerprint:
        return None
    return find(cache_dir or default_cache_dir(), fingerprint, PREPARED)


def read_documents(config: DataConfig, *, progress: Progress | None = None) -> SplitDocuments:
    """The reviews as they were written, parted as `prepare` and `prepare_test` part them.

    For models that make features of their own. Nothing is kept.

    Args:
        config: as for `prepare`.
        progress: as for `prepare`.

    Returns:
        Training, validation and test part, in the order of the prepared ones.

    Raises:
        DataError: as for `prepare_test`.
    """
    return _Preparation(config, None, progress).texts()


def survey(config: DataConfig, *, progress: Progress | None = None) -> dict[str, int]:
    """Reads a data set through without keeping anything: how many reviews each class has.

    Args:
        config: what to load; a source that would have to be downloaded first can't be surveyed.
        progress: as for `prepare`.

    Raises:
        DataError: input that can't be used, as `prepare` would find it. Vectors are only looked
            for; they aren't read, downloaded or learned.
    """
    source = open_source(config, cache_dir=default_cache_dir(), progress=progress)
    check_vectors(config)
    rows = load_documents(source, TRAIN, progress)
    labels = labels_of(rows, source, config)
    found = split_documents(rows, labels, config)
    require_tokens((rows[i] for i in (*found.train, *found.valid)), config)
    return {name: int(np.sum(labels == index)) for index, name in enumerate(source.classes)}


def fingerprint(config: DataConfig, content_digest: str, vectors_digest: str | None = None) -> str:
    """Names the prepared data: everything that shapes them, and nothing else.

    No path is part of it; the content behind it is, as a digest. Keys at their default aren't
    either, so that a key added in a later release leaves old fingerprints valid.
    """
    paths: dict[str, bool | set[str]] = {"path": True, "groups": True, "test_path": True}
    shaping: dict[str, JSON] = {
        "version": PREPARATION_VERSION,
        "config": config.model_dump(
            mode="json", exclude={**paths, "vectors": {"path"}}, exclude_defaults=True
        ),
        "content": content_digest,
    }
    if vectors_digest is not None:
        shaping["vectors"] = vectors_digest
    version = tokenizer_version(config.tokenizer)
    if version:
        shaping["tokenizer"] = version
    return _digest(shaping)


class _Preparation:
    """One config's way through source and cache."""

    def __init__(
        self, config: DataConfig, cache_dir: Path | None, progress: Progress | None
    ) -> None:
        self._config, self._progress = config, progress
        self._folder = cache_dir or default_cache_dir()
        self._source: Source = open_source(config, cache_dir=self._folder, progress=progress)
        self._vectors: VectorSource | None = open_vectors(
            config, cache_dir=self._folder, progress=progress
        )
        self._content = self._source.digest(self._needed(TRAIN))
        found = self._vectors.digest() if self._vectors else None
        self._name = fingerprint(config, self._content, found)
        self._builder = Builder(config, self._source, self._vectors, progress)

    def data(self, parts: tuple[Split, ...], *, with_test: bool = False) -> PreparedData:
        return load_or_build(
            self._folder,
            self._name,
            lambda: self._builder.build(
                self._name, self._content, self._needed(parts), with_test=with_test
            ),
            PREPARED,
        )

    def test(self) -> PreparedTest:
        parts = self._with_test()
        name = _digest({"of": self._name, "test": self._source.digest(self._needed(parts))})
        data = self.data(parts, with_test=True)
        return load_or_build(
            self._folder, name, lambda: self._builder.build_test(name, data, parts), TEST
        )

    def texts(self) -> SplitDocuments:
        return self._builder.chosen(self._with_test())

    def _with_test(self) -> tuple[Split, ...]:
        config, held_out = self._config, self._config.test_size is not None
        if not held_out and "test" not in self._source.splits:
            raise DataError(
                f"{config.path or config.source}: the config names no test part; set "
                f"data.test_path to a file of its own, or data.test_size to hold a share out"
            )
        return TRAIN if held_out else ("train", "test")

    def _needed(self, parts: tuple[Split, ...]) -> tuple[Split, ...]:
        """The parts to read, in one order."""
        wanted = set(parts)
        if self._config.duplicates == "drop" and "test" in self._source.splits:
            wanted.add("test")
        if self._config.vectors is not None and self._config.vectors.unlabelled:
            wanted.add("unlabelled")
        return tuple(part for part in self._source.splits if part in wanted)


def _digest(shaping: dict[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:32]
