"""The way from raw text to tensorized, cached data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.cache import load_or_build
from data_prep.config import DataConfig
from data_prep.dataset import JSON, PreparedData, TensorizedSplit
from data_prep.errors import DataError
from data_prep.files import default_cache_dir
from data_prep.rows import Progress, Row, Source
from data_prep.sources import open_source
from data_prep.splits import split
from data_prep.tokenizers import TOKENIZERS
from data_prep.vocabulary import UNK, Vocabulary

PREPARATION_VERSION = 1
"""Raised whenever the same config and content would give other data: old caches go stale."""

PROGRESS_EVERY = 500

Item = TypeVar("Item")
Tokens = Sequence[str]


def prepare(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> PreparedData:
    """Loads, splits, tokenizes and indexes a data set, or opens what was prepared before.

    Args:
        config: what to load and how.
        cache_dir: where prepared data are kept; ``$CELLTUNE_CACHE`` or ``~/.cache/celltune`` if
            not given.
        progress: told ``(stage, done, total)``; stages are download, read and tokenize. Only
            what is really done is told.

    Raises:
        DataError: input that can't be used, or a cache that can't be written; the cache is then
            as it was.
    """
    folder = cache_dir or default_cache_dir()
    source = open_source(config, cache_dir=folder, progress=progress)
    digest = source.digest()
    name = fingerprint(config, digest)
    return load_or_build(folder, name, lambda: _build(config, source, name, digest, progress))


def survey(config: DataConfig, *, progress: Progress | None = None) -> dict[str, int]:
    """Reads a data set through without keeping anything: how many reviews each class has.

    Args:
        config: what to load; a source that would have to be downloaded first can't be surveyed.
        progress: as for `prepare`.

    Raises:
        DataError: input that can't be used, as `prepare` would find it before it tokenizes.
    """
    source = open_source(config, cache_dir=default_cache_dir(), progress=progress)
    rows = list(_told(source.rows(), "read", None, progress))
    _check_classes(rows, source.classes, config)
    labels = np.array([row.label for row in rows], dtype=np.int64)
    split(labels, config.train_size, config.valid_size, config.seed)
    return {name: int(np.sum(labels == index)) for index, name in enumerate(source.classes)}


def fingerprint(config: DataConfig, content_digest: str) -> str:
    """Names the prepared data: everything that shapes them, and nothing else.

    The path isn't part of it; the content behind it is, as ``content_digest``. Keys at their
    default aren't either, so that a key added in a later release leaves old fingerprints valid.
    """
    shaping: dict[str, JSON] = {
        "version": PREPARATION_VERSION,
        "config": config.model_dump(mode="json", exclude={"path"}, exclude_defaults=True),
        "content": content_digest,
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:32]


def _build(
    config: DataConfig, source: Source, name: str, digest: str, progress: Progress | None
) -> PreparedData:
    rows = list(_told(source.rows(), "read", None, progress))
    _check_classes(rows, source.classes, config)
    labels = np.array([row.label for row in rows], dtype=np.int64)
    train, valid = split(labels, config.train_size, config.valid_size, config.seed)
    chosen = [rows[index] for index in (*train, *valid)]
    tokens = list(_told(_tokenized(chosen, config), "tokenize", len(chosen), progress))
    train_tokens, valid_tokens = tokens[: len(train)], tokens[len(train) :]
    vocabulary = Vocabulary.build(
        train_tokens, size=config.vocabulary_size, min_count=config.min_count
    )
    parts = {
        "train": _tensorize(train_tokens, labels[train], vocabulary, config),
        "valid": _tensorize(valid_tokens, labels[valid], vocabulary, config),
    }
    info: dict[str, JSON] = {
        "source": config.source,
        "content": digest,
        "reviews": len(rows),
        "train": _summary(parts["train"], train_tokens, source.classes),
        "valid": _summary(parts["valid"], valid_tokens, source.classes),
    }
    return PreparedData(
        name, parts["train"], parts["valid"], source.classes, vocabulary.words, info
    )


def _check_classes(rows: list[Row], classes: tuple[str, ...], config: DataConfig) -> None:
    seen = {row.label for row in rows}
    missing = [name for index, name in enumerate(classes) if index not in seen]
    if missing:
        held = ", ".join(repr(classes[index]) for index in sorted(seen)) or "no class at all"
        raise DataError(
            f"{config.path or config.source}: none of the {len(rows)} reviews has the class "
            f"{missing[0]!r}, all are of {held}; a classifier needs reviews of every class"
        )


def _tokenized(rows: Iterable[Row], config: DataConfig) -> Iterator[Tokens]:
    tokenize = TOKENIZERS[config.tokenizer]
    for row in rows:
        tokens = tokenize(row.text)
        if not tokens:
            raise DataError(
                f"{config.path or config.source}, {row.id}: the review is empty, it holds nothing "
                f"that {config.tokenizer} calls a token ({row.text[:40]!r}); remove it"
            )
        yield tokens


def _tensorize(
    texts: list[Tokens], labels: NDArray[np.int64], vocabulary: Vocabulary, config: DataConfig
) -> TensorizedSplit:
    cut = [cut_tokens(tokens, config.max_tokens, config.keep) for tokens in texts]
    offsets = np.zeros(len(cut) + 1, dtype=np.int64)
    np.cumsum([len(tokens) for tokens in cut], out=offsets[1:])
    ids = np.empty(offsets[-1], dtype=np.int32)
    for index, tokens in enumerate(cut):
        ids[offsets[index] : offsets[index + 1]] = vocabulary.encode(tokens)
    return TensorizedSplit(ids, offsets, labels)


def cut_tokens(tokens: Tokens, limit: int, keep: str) -> Tokens:
    """At most ``limit`` tokens: the head, the tail, or half of each (the head's half is larger)."""
    if len(tokens) <= limit:
        return tokens
    head = {"head": limit, "tail": 0, "both": limit - limit // 2}[keep]
    return [*tokens[:head], *tokens[len(tokens) - (limit - head) :]]


def _summary(part: TensorizedSplit, texts: list[Tokens], classes: tuple[str, ...]) -> JSON:
    counts = np.bincount(part.labels, minlength=len(classes))
    return {
        "reviews": len(part),
        "classes": {name: int(count) for name, count in zip(classes, counts, strict=True)},
        "tokens": part.tokens,
        "unknown_share": float(np.mean(part.ids == UNK)),
        "cut_reviews": int(np.sum(part.lengths < [len(text) for text in texts])),
        "longest": int(part.lengths.max()),
    }


def _told(
    items: Iterable[Item], stage: str, total: int | None, progress: Progress | None
) -> Iterator[Item]:
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if progress and done % PROGRESS_EVERY == 0:
            progress(stage, done, total)
    if progress and done % PROGRESS_EVERY:
        progress(stage, done, total)
