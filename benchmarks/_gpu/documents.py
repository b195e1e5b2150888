"""The documents of the GPU benchmark: IMDB, or synthetic documents with its lengths and words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.dataset.vocabulary import PAD, SPECIALS
from celltune.data_prep.preparation.pipeline import prepare

MEDIAN_TOKENS, SPREAD = 201, 0.78
"""Log-normal lengths like those of IMDB, where 90 % have up to 546 tokens and the mean is 274."""
WORDS = 25_000
TRAIN, VALID = 22_500, 2_500
MAX_TOKENS = 512


def imdb_data(path: Path, cache: Path, *, quick: bool = False) -> PreparedData:
    """Prepare reviews of a csv file with the columns label (0 or 1) and text.

    The file is also the test split of the config, which no part of the benchmark opens.
    """
    config = DataConfig(
        source="csv",
        path=path,
        train_size=1_280 if quick else None,
        valid_size=128 if quick else VALID,
        max_tokens=MAX_TOKENS,
        keep="both",
    )
    return prepare(config, cache_dir=cache)


def synthetic_data(
    train: int = TRAIN,
    valid: int = VALID,
    *,
    words: int = WORDS,
    max_tokens: int = MAX_TOKENS,
    seed: int = 1,
) -> PreparedData:
    """Draw documents of independent words; the sum of the words' random scores is the label."""
    rng = np.random.default_rng(seed)
    frequencies = 1 / (np.arange(words) + 2.7)  # Zipf-Mandelbrot
    cumulative = np.cumsum(frequencies / frequencies.sum())
    scores = rng.normal(size=words)
    splits = [_split(rng, count, cumulative, scores, max_tokens) for count in (train, valid)]
    name = f"synthetic {train} {valid} {words} {max_tokens} {seed}"
    return PreparedData(
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        train=splits[0],
        valid=splits[1],
        classes=("negative", "positive"),
        words=(*SPECIALS, *(f"w{number}" for number in range(words))),
        info={"source": name},
    )


def draw_lengths(rng: np.random.Generator, count: int, max_tokens: int) -> NDArray[np.int64]:
    """Return lengths of IMDB's distribution, cut at `max_tokens`."""
    lengths = rng.lognormal(np.log(MEDIAN_TOKENS), SPREAD, count)
    return np.clip(lengths.round(), 1, max_tokens).astype(np.int64)


def _split(
    rng: np.random.Generator,
    count: int,
    cumulative: NDArray[np.float64],
    scores: NDArray[np.float64],
    max_tokens: int,
) -> TensorizedSplit:
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(draw_lengths(rng, count, max_tokens), out=offsets[1:])
    drawn = np.searchsorted(cumulative, rng.random(offsets[-1]))
    drawn = np.minimum(drawn, len(cumulative) - 1)
    labels = (np.add.reduceat(scores[drawn], offsets[:-1]) > 0).astype(np.int64)
    return TensorizedSplit((drawn + PAD + 1).astype(np.int32), offsets, labels)
