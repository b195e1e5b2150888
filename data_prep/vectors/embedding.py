"""Initial embedding: pretrained or learned vectors in the order of the vocabulary.

Shapes: V words in the vocabulary, E components of a vector, M distinct tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.vocabulary import PAD
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import content_digest
from celltune.data_prep.io.download import fetch
from celltune.data_prep.sources.paths import existing_file
from celltune.data_prep.types import JSON, Progress
from celltune.data_prep.vector_config import VectorsConfig
from celltune.data_prep.vectors import word2vec
from celltune.data_prep.vectors.corpus import TrainingCorpus
from celltune.data_prep.vectors.files import WordVectors, read_vectors


class VectorSource(Protocol):
    """Source of word vectors."""

    def digest(self) -> str:
        """Return a hex digest of everything but config and documents that determines the vectors.

        Raises:
            DataError: the file is missing.
        """

    def vectors(self, words: Sequence[str], corpus: TrainingCorpus) -> WordVectors:
        """Return the vectors of those of `words` that have one.

        Raises:
            DataError: a file cannot be used, or nothing can be learned from the corpus.
        """


class Embedding(NamedTuple):
    """Initial embedding of a vocabulary.

    Attributes:
        matrix: `(V, E)`; the row of pad is zero.
        known: sorted ids with a vector, including unk and pad.
        coverage: E (`size`), the share of the vocabulary's words that have a vector (`types`), and
            the share of the training split's tokens that have one (`tokens`), and, if there are
            any, the number of words of the file that are not valid UTF-8 (`undecodable`).
    """

    matrix: NDArray[np.float32]
    known: NDArray[np.int64]
    coverage: dict[str, JSON]


def open_vectors(
    config: DataConfig, *, cache_dir: Path, progress: Progress | None = None
) -> VectorSource | None:
    """Return the source of vectors that a config names; downloads it if necessary.

    Args:
        config: the data's config; without data.vectors, the result is None.
        cache_dir: downloads are stored in its folder `downloads`.
        progress: is called during a download and during training.

    Raises:
        DataError: a file is missing, or a download failed.
    """
    settings = config.vectors
    if settings is None:
        return None
    if settings.train is not None:
        return _LearnedVectors(settings, config.seed, progress)
    if settings.name is not None:
        path, member = _downloaded(settings.name, cache_dir, progress)
    else:
        path, member = existing_file("vectors.path", settings.path or Path()), settings.member
    return _FileVectors(path, member, config.max_bytes, progress)


def check_vectors(config: DataConfig) -> None:
    """Check that the file of vectors exists, without downloading, reading or learning vectors.

    Raises:
        DataError: the file is missing.
    """
    if config.vectors is not None and config.vectors.name is None:
        open_vectors(config, cache_dir=Path())


def build_embedding(
    source: VectorSource, words: Sequence[str], corpus: TrainingCorpus
) -> Embedding:
    """Arrange vectors in the order of a vocabulary.

    Args:
        source: the vectors.
        words: the vocabulary in the order of the ids.
        corpus: the training split, and the config, which determines the rows of unknown words.

    Raises:
        DataError: a file cannot be used, or no word of the vocabulary has a vector.
    """
    settings, train = corpus.config.vectors, corpus.train
    vocabulary = words[PAD + 1 :]
    vectors, width, undecodable = source.vectors(vocabulary, corpus)
    if not vectors:
        raise DataError(
            f"None of the {len(vocabulary)} words of the vocabulary has a vector. The vectors may "
            f"be for another language or case. Check data.vectors, data.tokenizer and "
            f"data.lowercase."
        )
    matrix = np.zeros((len(words), width), dtype=np.float32)
    known = np.zeros(len(words), dtype=bool)
    for index, word in enumerate(vocabulary, start=PAD + 1):
        if word in vectors:
            matrix[index], known[index] = vectors[word], True
    if settings is not None and settings.unknown == "drawn":
        _draw_unknown(matrix, known, corpus.config.seed)
    counts = np.bincount(train.ids, minlength=len(corpus.tokens)).tolist()
    pairs = zip(corpus.tokens, counts, strict=True)
    covered_tokens = sum(count for token, count in pairs if token in vectors)
    known[: PAD + 1] = True
    coverage: dict[str, JSON] = {
        "size": width,
        "types": float(known[PAD + 1 :].mean()),
        "tokens": covered_tokens / max(1, train.tokens),
    }
    if undecodable:
        coverage["undecodable"] = undecodable
    return Embedding(matrix, np.flatnonzero(known), coverage)


def _draw_unknown(matrix: NDArray[np.float32], known: NDArray[np.bool_], seed: int) -> None:
    """Fill the rows of words without a vector with normal numbers of the vectors' spread."""
    unknown = ~known
    unknown[PAD] = False
    spread = float(matrix[known].std())
    rng = np.random.default_rng((seed, 1))
    matrix[unknown] = rng.normal(0, spread, (int(unknown.sum()), matrix.shape[1]))


@dataclass(frozen=True)
class _FileVectors:
    """Vectors from a file."""

    path: Path
    member: str | None
    max_bytes: int | None
    progress: Progress | None

    def digest(self) -> str:
        return content_digest(self.path, self.max_bytes, self.progress)

    def vectors(
        self,
        words: Sequence[str],
        corpus: TrainingCorpus,  # noqa: ARG002
    ) -> WordVectors:
        return read_vectors(
            self.path,
            words,
            member=self.member,
            max_bytes=self.max_bytes,
            progress=self.progress,
        )


@dataclass(frozen=True)
class _LearnedVectors:
    """Vectors that are learned from the training split."""

    settings: VectorsConfig
    seed: int
    progress: Progress | None

    def digest(self) -> str:
        # Config and documents are in the fingerprint anyway; only the algorithm is missing.
        return hashlib.sha256(word2vec.VERSION.encode()).hexdigest()

    def vectors(self, words: Sequence[str], corpus: TrainingCorpus) -> WordVectors:
        settings = self.settings
        learned = word2vec.learn(
            corpus.indexed(),
            words,
            size=settings.size,
            epochs=settings.epochs,
            seed=self.seed,
            progress=self.progress,
        )
        return WordVectors(learned, settings.size)


def _downloaded(name: str, cache_dir: Path, progress: Progress | None) -> tuple[Path, str | None]:
    """Return the file of vectors that torchtext knows by name, and the member of the archive."""
    url, file, member = _torchtext_location(name)
    fix = f"Download {file} by hand and set data.vectors.path to it instead of data.vectors.name."
    path = cache_dir / "downloads" / file
    if not path.exists():
        fetch(url, path, md5=None, advice=fix, progress=progress)
    return path, member


def _torchtext_location(name: str) -> tuple[str, str, str | None]:
    """Return the URL, file name and zip member of vectors that torchtext knows by name."""
    # torchtext imports torch, which takes seconds; only a download needs it.
    from torchtext.vocab import FastText, GloVe

    kind, *rest = name.split(".")
    if kind == "fasttext":
        url = FastText.url_base.format(rest[0])
        return url, url.rpartition("/")[2], None
    corpus = ".".join(rest[:-1])
    url = GloVe.url[corpus]
    return url, url.rpartition("/")[2], f"{name}.txt"
