"""Preparation of a data set, from raw texts to tensorized splits in the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from celltune.data_prep.cache.disk import PREPARED, codec_of_test, find, load_or_build
from celltune.data_prep.config import EARLIER_DEFAULTS, DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.preparation.builder import Builder
from celltune.data_prep.preparation.duplicates import SplitDocuments
from celltune.data_prep.preparation.selection import (
    load_documents,
    select_documents,
    with_normalized_texts,
)
from celltune.data_prep.sources.base import TRAIN, Source, Split
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.text.byte_pairs import LEARNER_VERSION
from celltune.data_prep.text.tokenizers import has_subwords, tokenizer_version
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.vectors.embedding import open_vectors
from celltune.data_prep.wide.fit import WIDE_VERSION

PREPARATION_VERSION = 1
"""Incremented whenever the same config and content would give other data; part of fingerprints."""


def prepare(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> PreparedData:
    """Load, split, tokenize and index a data set, or open it from the cache.

    The test split is not read, unless `duplicates: drop` needs its texts.

    Args:
        config: what to load and how.
        cache_dir: folder of the prepared data; by default `$CELLTUNE_CACHE` or
            `~/.cache/celltune`.
        progress: called as `progress(stage, done, total)` with the stages "download", "check",
            "read", "tokenize", "vector file", "vectors" and "wide"; work that the cache saves is
            not reported.

    Raises:
        DataError: the data is invalid or cannot be read, or the cache cannot be written. The cache
            is unchanged then.
    """
    return _Preparation(config, cache_dir, progress).data(TRAIN)


def prepare_test(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> PreparedTest:
    """Prepare the test split for the final evaluation, with the training split's vocabulary.

    It is stored separately from the result of `prepare`. If that is not in the cache, both are
    prepared in the same pass over the source.

    Args:
        config: as for `prepare`.
        cache_dir: as for `prepare`.
        progress: as for `prepare`.

    Raises:
        DataError: as for `prepare`, or the config defines no test split.
    """
    return _Preparation(config, cache_dir, progress).test()


def find_prepared(fingerprint: str, *, cache_dir: Path | None = None) -> PreparedData | None:
    """Return prepared data from the cache without reading the source; None if it is missing.

    Args:
        fingerprint: identifies the data; empty if it is unknown.
        cache_dir: as for `prepare`.
    """
    if not fingerprint:
        return None
    return find(cache_dir or default_cache_dir(), fingerprint, PREPARED)


def read_documents(config: DataConfig, *, progress: Progress | None = None) -> SplitDocuments:
    """Return the raw documents of each split, for models that compute their own features.

    The splits and the order of the documents are those of `prepare` and `prepare_test`. Nothing is
    stored in the cache.

    Args:
        config: as for `prepare`.
        progress: as for `prepare`.

    Raises:
        DataError: as for `prepare_test`.
    """
    return _Preparation(config, None, progress).documents()


def read_training_documents(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> SplitDocuments:
    """Return the raw documents of the training and the validation split.

    They are those of `prepare`, in the same order. The test split is empty: it is not read, unless
    `duplicates: drop` needs its texts.

    Args:
        config: as for `prepare`.
        cache_dir: as for `prepare`; where a source finds what it downloaded.
        progress: as for `prepare`.

    Raises:
        DataError: the data is invalid or cannot be read.
    """
    source = open_source(config, cache_dir=cache_dir or default_cache_dir(), progress=progress)
    splits = _with_duplicates(_with_valid(TRAIN, source), config, source)
    documents = with_normalized_texts(load_documents(source, splits, progress))
    return replace(select_documents(documents, source, config), test=())


def fingerprint(config: DataConfig, content_digest: str, vectors_digest: str | None = None) -> str:
    """Return a hash of everything that determines the prepared data.

    Paths and the largest size of files are not part of it, but the content of the files is, as a
    digest. Keys at their default are not part of it either, so that a key added in a later release
    keeps fingerprints valid; nor are values that mean the same as a default.

    Args:
        config: what to load and how.
        content_digest: digest of the source.
        vectors_digest: digest of the word vectors, or None if there are none.
    """
    without_effect: dict[str, bool | set[str]] = {
        "path": True,
        "groups": True,
        "test_path": True,
        "valid_path": True,
        "unlabelled": True,
        "max_bytes": True,
        **{key: True for key, value in EARLIER_DEFAULTS.items() if getattr(config, key) == value},
        # Digests of the source cover them.
        "test_format": True,
        "valid_format": True,
        "unlabelled_format": True,
    }
    if config.missing != "drop":
        without_effect["missing"] = True
    if not config.min_per_class:
        without_effect["min_per_class"] = True
    keys = config.model_dump(
        mode="json", exclude={**without_effect, "vectors": {"path"}}, exclude_defaults=True
    )
    inputs: dict[str, JSON] = {
        "version": PREPARATION_VERSION,
        "config": _with_named_source(config, keys),
        "content": content_digest,
    }
    if config.valid_path is not None:
        # The content of the file alone does not tell what it is used for.
        inputs["valid"] = "file"
    if vectors_digest is not None:
        inputs["vectors"] = vectors_digest
    if config.wide is not None:
        inputs["wide"] = WIDE_VERSION
    if has_subwords(config.tokenizer):
        inputs["subwords"] = LEARNER_VERSION
    version = tokenizer_version(config.tokenizer)
    if version:
        inputs["tokenizer"] = version
    return _hash(inputs)


def _with_named_source(config: DataConfig, keys: dict[str, JSON]) -> dict[str, JSON]:
    """Return keys that are the same for a table, whether its format is stated or the default.

    Earlier releases had a source for each format, and no keys for what they assumed about it.
    """
    kind = TableFormat.of(config).kind
    keys = {"source": config.source, **keys}
    if kind is None:
        return keys
    usual = TableFormat(kind).stated()
    settings = {key: getattr(usual, key) for key in ("delimiter", "quoting", "header", "encoding")}
    omitted = {key for key, value in settings.items() if keys.get(key) == value}
    return {
        **{key: value for key, value in keys.items() if key not in omitted | {"format"}},
        "source": kind,
    }


class _Preparation:
    """Prepares the data of one config, with the cache."""

    def __init__(
        self, config: DataConfig, cache_dir: Path | None, progress: Progress | None
    ) -> None:
        self._config = config
        self._cache_dir = cache_dir or default_cache_dir()
        self._source = open_source(config, cache_dir=self._cache_dir, progress=progress)
        vectors = open_vectors(config, cache_dir=self._cache_dir, progress=progress)
        self._content = self._source.digest(self._splits_to_read(TRAIN))
        vectors_digest = vectors.digest() if vectors else None
        self._fingerprint = fingerprint(config, self._content, vectors_digest)
        self._builder = Builder(config, self._source, vectors, progress)

    def data(self, splits: tuple[Split, ...], *, with_test: bool = False) -> PreparedData:
        for name in (self._fingerprint, self._normalized_fingerprint):
            if (data := find(self._cache_dir, name, PREPARED)) is not None:
                return data
        to_read = self._splits_to_read(splits)
        unchanged = self._builder.are_normalized(to_read)
        name = self._fingerprint if unchanged else self._normalized_fingerprint
        return load_or_build(
            self._cache_dir,
            name,
            lambda: self._builder.build(name, self._content, to_read, with_test=with_test),
            PREPARED,
        )

    @property
    def _normalized_fingerprint(self) -> str:
        """Fingerprint of data whose texts normalization changes.

        Earlier releases did not normalize, and gave such data other tokens under `_fingerprint`.
        """
        return _hash({"of": self._fingerprint, "texts": "NFC"})

    def test(self) -> PreparedTest:
        splits = self._splits_with_test()
        content = self._source.digest(self._splits_to_read(splits))
        data = self.data(splits, with_test=True)
        name = _hash({"of": data.fingerprint, "test": content})
        codec = codec_of_test(data.vocabulary_size, data.num_classes)
        return load_or_build(
            self._cache_dir, name, lambda: self._builder.build_test(name, data, splits), codec
        )

    def documents(self) -> SplitDocuments:
        return self._builder.select(self._splits_with_test())

    def _splits_with_test(self) -> tuple[Split, ...]:
        """Return the source's splits that the training, validation and test splits are taken from.

        Raises:
            DataError: the config defines no test split.
        """
        if self._config.test_size is not None:
            return _with_valid(TRAIN, self._source)
        if "test" not in self._source.splits:
            raise DataError(
                f"{self._config.location}: the config defines no test split. "
                f"Set data.test_path to a separate file, or data.test_size to hold out a share."
            )
        return (*_with_valid(TRAIN, self._source), "test")

    def _splits_to_read(self, splits: tuple[Split, ...]) -> tuple[Split, ...]:
        """Add the splits that duplicates and word vectors need, in the source's order."""
        needed = set(
            _with_duplicates(_with_valid(splits, self._source), self._config, self._source)
        )
        if self._config.reads_unlabelled:
            needed.add("unlabelled")
        return tuple(split for split in self._source.splits if split in needed)


def _with_valid(splits: tuple[Split, ...], source: Source) -> tuple[Split, ...]:
    """Add the source's validation split if it has one."""
    if "valid" in source.splits and "valid" not in splits:
        return (*splits, "valid")
    return splits


def _with_duplicates(
    splits: tuple[Split, ...], config: DataConfig, source: Source
) -> tuple[Split, ...]:
    """Add the source's test split if its duplicates are to be dropped from other splits."""
    if config.duplicates == "drop" and "test" in source.splits and "test" not in splits:
        return (*splits, "test")
    return splits


def _hash(inputs: dict[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]
