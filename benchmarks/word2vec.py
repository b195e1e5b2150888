"""Word vectors learned from IMDB: cost and quality, compared with gensim.

Usage: python benchmarks/word2vec.py [--quick] [--data FOLDER] [--epochs 5]

FOLDER contains the reviews as train.csv.gz, test.csv.gz and unsup.csv.gz. Both sides learn vectors
of 100 numbers from the training and the unlabelled reviews, with the same tokens and settings, each
in a process of its own with one thread. The quality is the accuracy of a logistic regression on the
mean vector of each review, trained on the training and measured on the test reviews. gensim is not
a dependency of celltune; its figures are missing unless it is installed (pip install 'gensim<5').
Figures:
  word2vec_seconds             CPU time of celltune, without tokenization
  gensim_seconds               CPU time of gensim
  word2vec_accuracy            accuracy with celltune's vectors in percent
  gensim_accuracy              accuracy with gensim's vectors in percent
  word2vec_quality_difference  the former minus the latter
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import time
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _measure import REVIEWS, finish
from numpy.typing import NDArray

from celltune.data_prep.text.indexing import IndexedTexts, index_texts
from celltune.data_prep.vectors import word2vec

SIZE = 100


class Reviews(NamedTuple):
    """Tokenized reviews: first those that vectors are learned from, then the test reviews."""

    texts: IndexedTexts
    learned: int
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def load(folder: Path, count: int | None) -> Reviews:
    """Read shuffled reviews; `count` limits the number of each kind."""
    train, test, unlabelled = (
        pd.read_csv(folder / f"{name}.csv.gz").sample(frac=1.0, random_state=1)[:count]
        for name in ("train", "test", "unsup")
    )
    texts = [*train["text"], *unlabelled["text"], *test["text"]]
    labels = [pd.factorize(table["label"], sort=True)[0] for table in (train, test)]
    learned = len(train) + len(unlabelled)
    return Reviews(index_texts(texts, "basic_english"), learned, *labels)


def learned_texts(reviews: Reviews) -> IndexedTexts:
    """Return the reviews that vectors are learned from."""
    texts = reviews.texts
    offsets = texts.offsets[: reviews.learned + 1]
    return IndexedTexts(texts.ids[: offsets[-1]], offsets, texts.tokens)


def own(texts: IndexedTexts, epochs: int) -> Mapping[str, NDArray[np.float32]]:
    """Return celltune's vectors."""
    return word2vec.learn(texts, texts.tokens, size=SIZE, epochs=epochs, seed=1)


def gensim(texts: IndexedTexts, epochs: int) -> Mapping[str, NDArray[np.float32]]:
    """Return gensim's vectors."""
    from gensim.models import Word2Vec

    sentences = [
        [texts.tokens[number] for number in texts.ids[begin:end].tolist()]
        for begin, end in pairwise(texts.offsets.tolist())
    ]
    model = Word2Vec(
        sentences,
        vector_size=SIZE,
        min_count=word2vec.MIN_COUNT,
        sg=1,
        workers=1,
        epochs=epochs,
        seed=1,
        hashfxn=lambda word: zlib.crc32(word.encode()),
    )
    return {word: model.wv[word] for word in model.wv.index_to_key}


def accuracy(reviews: Reviews, vectors: Mapping[str, NDArray[np.float32]]) -> float:
    """Return the test accuracy of a logistic regression on mean vectors in percent."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    texts, zero = reviews.texts, np.zeros(SIZE, np.float32)
    rows = np.array([vectors.get(token, zero) for token in texts.tokens])
    means = np.array([rows[texts.ids[a:b]].mean(0) for a, b in pairwise(texts.offsets.tolist())])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2_000))
    model.fit(means[: len(reviews.train_labels)], reviews.train_labels)
    return 100 * float(model.score(means[reviews.learned :], reviews.test_labels))


SIDES = {"word2vec": own, "gensim": gensim}


def run(side: str, folder: Path, count: int | None, epochs: int) -> dict[str, float]:
    """Measure one side in this process."""
    reviews = load(folder, count)
    texts = learned_texts(reviews)
    own(IndexedTexts(np.zeros(2, np.int32), np.array([0, 2]), ["a"]), 1)  # compiles the library
    started = time.process_time()
    vectors = SIDES[side](texts, epochs)
    seconds = time.process_time() - started
    return {f"{side}_seconds": seconds, f"{side}_accuracy": accuracy(reviews, vectors)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 reviews of each kind")
    parser.add_argument("--data", type=Path, default=REVIEWS.parent)
    parser.add_argument("--epochs", type=int, default=word2vec.MIN_EPOCHS)
    options = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    for side in SIDES:
        if side == "gensim" and importlib.util.find_spec("gensim") is None:
            print("gensim is not installed, so nothing is compared with it.")
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            job = (side, options.data, 2_000 if options.quick else None, options.epochs)
            figures |= pool.apply(run, job)
        print({name: round(value, 2) for name, value in figures.items()}, flush=True)
    if "gensim_accuracy" in figures:
        difference = figures["word2vec_accuracy"] - figures["gensim_accuracy"]
        figures["word2vec_quality_difference"] = difference
    details = {"data": options.data.name, "epochs": options.epochs, "size": SIZE}
    finish("word2vec", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
