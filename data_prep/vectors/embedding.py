"""The embedding that training starts from: pretrained vectors in the order of the vocabulary.

Shapes: V ids of the vocabulary, E numbers a vector, M distinct tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import PAD
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.download import fetch
from celltune.data_prep.io.files import file_digest, reading
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.vector_config import VectorsConfig
from celltune.data_prep.vectors.files import Vector, read_vectors

Sentences = Sequence[Sequence[str]]


class VectorSource(Protocol):
    """Where vectors come from."""

    def digest(self) -> str:
        """A hexadecimal digest of all that they depend on beside config and reviews."""

    def vectors(self, words: Sequence[str], corpus: _Corpus) -> tuple[Mapping[str, Vector], int]:
        """``(E,)`` vectors of as many of ``words`` as there are, and E."""


def open_vectors(
    config: DataConfig, *, cache_dir: Path, progress: Progress | None = None
) -> VectorSource | None:
    """What a config names; reads nothing yet, but may download.

    Args:
        config: names vectors, or None.
        cache_dir: downloads lie in its folder ``downloads``.
        progress: told about a download, and about training.

    Raises:
        DataError: a file that isn't there, or a download that fails.
    """
    wanted = config.vectors
    if wanted is None:
        return None
    if wanted.train is not None:
        return _Trained(wanted, config.seed, progress)
    if wanted.name is not None:
        url, name, member = _torchtext(wanted.name)
        advice = f"Get {name} by hand and set data.vectors.path to it instead of data.vectors.name."
        path = cache_dir / "downloads" / name
        if not path.exists():
            fetch(url, path, md5=None, advice=advice, progress=progress)
        return _Filed(path, member)
    path = wanted.path or Path()
    with reading(path):
        present = path.is_file()
    if not present:
        raise DataError(
            f"{path} isn't a file (looked in {Path.cwd()}); set data.vectors.path to one"
        )
    return _Filed(path, wanted.member)


def check_vectors(config: DataConfig) -> None:
    """Looks whether what a config names is there, without downloading, reading or learning it.

    Raises:
        DataError: a file or a library that isn't there.
    """
    if config.vectors is not None and config.vectors.name is None:
        source = open_vectors(config, cache_dir=Path())
        if isinstance(source, _Trained):
            source.digest()


def embedding(
    source: VectorSource,
    config: DataConfig,
    words: Sequence[str],
    tokens: Sequence[str],
    train: TensorizedSplit,
    unlabelled: Sequence[str],
) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[str, JSON]]:
    """The embedding of a vocabulary.

    Args:
        source: gives the vectors.
        config: says what unknown words get.
        words: the vocabulary, in the order of its ids.
        tokens: what the ids of ``train`` mean.
        train: the training part before cutting, as ids of ``tokens``.
        unlabelled: further texts to learn vectors from.

    Returns:
        ``(V, E)``, the row of padding zero; the ids with a vector, unk and pad among them, in
        rising order; and the coverage: ``types``, the share of the
        vocabulary's words that have a vector, and ``tokens``, the share of all tokens of the
        training part that do.

    Raises:
        DataError: a file that can't be used, or one with no word of the vocabulary.
    """
    corpus = _Corpus(config, tokens, train, unlabelled)
    known = words[PAD + 1 :]
    found, width = source.vectors(known, corpus)
    if not found:
        raise DataError(
            f"none of the {len(known)} words of the vocabulary has a vector; the vectors are of "
            f"another language or case. Check data.vectors, data.tokenizer and data.lowercase"
        )
    matrix = np.zeros((len(words), width), dtype=np.float32)
    has = np.zeros(len(words), dtype=bool)
    for index, word in enumerate(known, start=PAD + 1):
        if word in found:
            matrix[index], has[index] = found[word], True
    if config.vectors is not None and config.vectors.unknown == "drawn":
        unknown = ~has
        unknown[PAD] = False  # padding stays nothing at all
        spread = float(matrix[has].std())
        rng = np.random.default_rng((config.seed, 1))
        matrix[unknown] = rng.normal(0, spread, (int(unknown.sum()), width))
    counts = np.bincount(train.ids, minlength=len(tokens))
    covered = sum(int(count) for token, count in zip(tokens, counts, strict=True) if token in found)
    has[: PAD + 1] = True
    return (
        matrix,
        np.flatnonzero(has),
        {
            "size": width,
            "types": float(has[PAD + 1 :].mean()),
            "tokens": covered / max(1, train.tokens),
        },
    )


@dataclass(frozen=True)
class _Corpus:
    """What vectors can be learned from: the training part and the unlabelled reviews."""

    config: DataConfig
    tokens: Sequence[str]
    train: TensorizedSplit
    unlabelled: Sequence[str]

    def sentences(self) -> list[list[str]]:
        """The tokens of each text."""
        config = self.config
        more = index_texts(self.unlabelled, config.tokenizer, lowercase=bool(config.lowercase))
        return [
            *_texts(self.train.ids, self.train.offsets, self.tokens),
            *_texts(more.ids, more.offsets, more.tokens),
        ]


def _texts(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], tokens: Sequence[str]
) -> Iterator[list[str]]:
    for begin, end in pairwise(offsets.tolist()):
        yield [tokens[index] for index in ids[begin:end]]


@dataclass(frozen=True)
class _Filed:
    path: Path
    member: str | None

    def digest(self) -> str:
        with reading(self.path):
            return file_digest(self.path)

    def vectors(self, words: Sequence[str], corpus: _Corpus) -> tuple[Mapping[str, Vector], int]:  # noqa: ARG002
        return read_vectors(self.path, words, member=self.member)


@dataclass(frozen=True)
class _Trained:
    wanted: VectorsConfig
    seed: int
    progress: Progress | None

    def digest(self) -> str:
        # The config and the reviews stand for the rest; the library's version is in its results.
        from celltune.data_prep.vectors.word2vec import library_version

        return hashlib.sha256(library_version().encode()).hexdigest()

    def vectors(self, words: Sequence[str], corpus: _Corpus) -> tuple[Mapping[str, Vector], int]:
        from celltune.data_prep.vectors.word2vec import learn

        return learn(
            corpus.sentences(),
            words,
            size=self.wanted.size,
            epochs=self.wanted.epochs,
            seed=self.seed,
            progress=self.progress,
        ), self.wanted.size


def _torchtext(name: str) -> tuple[str, str, str | None]:
    """Address, file name and zip member of vectors that torchtext knows by name."""
    # Imported here: torchtext brings torch along, seconds that only a download need wait.
    from torchtext.vocab import FastText, GloVe

    kind, *rest = name.split(".")
    if kind == "fasttext":
        url = FastText.url_base.format(rest[0])
        return url, url.rpartition("/")[2], None
    corpus = ".".join(rest[:-1])
    url = GloVe.url[corpus]
    return url, url.rpartition("/")[2], f"{name}.txt"
