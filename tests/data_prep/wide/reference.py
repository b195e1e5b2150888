"""The wide part in plain scikit-learn, and small corpora."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize as unit_length

TEXT = """
good bad fine dull film movie plot actor scene really very not never again ending story boring great
awful loved hated it's well-made 10/10 :) café naïve ПЛОХО 映画 <br />
"""
WORDS = TEXT.split()


def corpus(size: int, classes: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Random texts in which the class changes the frequencies of words, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % classes
    shares = rng.dirichlet(np.ones(len(WORDS)), classes)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 25), p=shares[c])) for c in labels]
    return texts, labels


def preprocess(text: str) -> str:
    """Return the text as the n-grams are counted."""
    text = unicodedata.normalize("NFC", text.replace("<br />", " "))
    return re.sub(r"\s+", " ", text).strip().lower()


def vectorizers(words: int, characters: int, minimum: int) -> list[CountVectorizer]:
    """Return the features, one object for each kind of n-grams."""
    shared: dict[str, Any] = {"preprocessor": preprocess, "binary": True, "min_df": minimum}
    of_words = CountVectorizer(
        token_pattern=r"\w+|[^\w\s]",  # noqa: S106
        ngram_range=(1, words),
        **shared,
    )
    of_characters = CountVectorizer(analyzer="char_wb", ngram_range=(2, characters), **shared)
    return [of_words, of_characters]


def log_odds(
    texts: Sequence[str],
    labels: np.ndarray,
    others: Sequence[str],
    *,
    words: int = 3,
    characters: int = 5,
    minimum: int = 2,
    penalty: float = 10,
) -> np.ndarray:
    """Fit the wide part to texts, and return the log-odds of each class for other texts, (n, L)."""
    blocks = vectorizers(words, characters, minimum)
    counts = hstack([block.fit_transform(texts) for block in blocks], format="csr")
    train = hstack([unit_length(block.transform(texts) * 1.0) for block in blocks], format="csr")
    new = hstack([unit_length(block.transform(others) * 1.0) for block in blocks], format="csr")
    columns = []
    for label in [1] if labels.max() == 1 else range(labels.max() + 1):
        p = 1 + np.asarray(counts[labels == label].sum(axis=0))[0]
        q = 1 + np.asarray(counts[labels != label].sum(axis=0))[0]
        ratios = np.log(p / p.sum()) - np.log(q / q.sum())
        matrix = csr_matrix(train.multiply(ratios))
        scale = 1 / np.sqrt(np.mean(np.asarray(matrix.power(2).sum(axis=1))))
        model = LogisticRegression(
            C=penalty, solver="liblinear", dual=True, max_iter=2_000, tol=1e-8, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix * scale, labels == label)
        columns.append(model.decision_function(csr_matrix(new.multiply(ratios)) * scale))
    return np.stack(columns, axis=1)
