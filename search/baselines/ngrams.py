"""Features of linear models: counts and TF-IDF weights of word and character n-grams.

All features are computed from the whole, untruncated document. scikit-learn is imported when it is
used. Shapes: n documents, F features, W distinct words; matrices are sparse, with one row per
document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SIZES = (3, 4, 5)
"""Lengths of character n-grams."""
MIN_DOCUMENTS = 2
"""An n-gram is a feature if at least this many documents contain it."""
MAX_SHARE = 0.2
"""A character n-gram is a feature if at most this share of the documents contains it. More frequent
ones, mostly parts of function words, take up to half of the memory. Without them, accuracy on the
validation splits of IMDB's first sentences, 2,000 IMDB reviews and the Amazon reviews was equal or
higher."""
MAX_STORED = 100_000_000
"""Largest number of different character n-grams per document, summed over the training split: four
times that of IMDB's 25,000 reviews. It limits the memory of these features to about 4 GB."""
_DOCUMENTS_PER_BLOCK = 1_000


class Features(Protocol):
    """Turns texts into sparse features."""

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Choose the features by the texts of the training split, and return them, (n, F)."""

    def transform(self, texts: Sequence[str]) -> Any:
        """Return the features of other texts, (n, F)."""


def normalize(text: str) -> str:
    """Return the text in lower case, without HTML line breaks."""
    return text.replace("<br />", " ").lower()


class WordNgrams:
    """Counts of words, punctuation marks, and pairs of adjacent ones."""

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Choose the n-grams of at least `MIN_DOCUMENTS` texts, or all if no n-gram has as many."""
        try:
            return self._fit(texts, MIN_DOCUMENTS)
        except ValueError:
            return self._fit(texts, 1)

    def _fit(self, texts: Sequence[str], min_documents: int) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        self._counter = CountVectorizer(
            preprocessor=normalize,
            token_pattern=r"\w+|[^\w\s]",  # noqa: S106
            ngram_range=(1, 2),
            min_df=min_documents,
            dtype=np.float32,
        )
        return self._counter.fit_transform(texts)

    def transform(self, texts: Sequence[str]) -> Any:
        """Return the counts of the chosen n-grams, (n, F)."""
        return self._counter.transform(texts)


class CharacterNgrams:
    """Counts of the character n-grams within words.

    A word is everything between white space, with a space before and after it, so that prefixes,
    suffixes, smileys and hashtags have n-grams of their own. As no n-gram crosses words, the counts
    are the product of the words of each document, (n, W), and the n-grams of each word, (W, F).
    This takes a fraction of the time for reading every n-gram of every document.
    """

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Choose n-grams by the number of documents that contain them; F can be 0."""
        from sklearn.feature_extraction.text import CountVectorizer

        words_of_texts, words = _count_words(texts)
        counter = CountVectorizer(analyzer=_ngrams_of, dtype=np.float32)
        ngrams_of_words = counter.fit_transform(words)
        chosen = _choose(_document_counts(words_of_texts, ngrams_of_words), len(texts))
        names = counter.get_feature_names_out()[chosen]
        vocabulary = {name: index for index, name in enumerate(names)}
        self._counter = CountVectorizer(
            analyzer=_ngrams_of, vocabulary=vocabulary, dtype=np.float32
        )
        return words_of_texts @ ngrams_of_words[:, chosen]

    def transform(self, texts: Sequence[str]) -> Any:
        """Return the counts of the chosen n-grams, (n, F); there has to be one."""
        words_of_texts, words = _count_words(texts)
        return words_of_texts @ self._counter.transform(words)


def _count_words(texts: Sequence[str]) -> tuple[Any, NDArray[Any]]:
    """Return the counts of the words of each text, (n, W), and the words, (W,)."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        preprocessor=normalize,
        token_pattern=r"\S+",  # noqa: S106
        dtype=np.float32,
    )
    return counter.fit_transform(texts), counter.get_feature_names_out()


def _ngrams_of(word: str) -> list[str]:
    padded = f" {word} "
    return [
        padded[start : start + size] for size in SIZES for start in range(len(padded) - size + 1)
    ]


def _document_counts(words_of_texts: Any, ngrams_of_words: Any) -> NDArray[np.int64]:
    """Return the number of documents that contain each n-gram, (F,), with little memory."""
    counts = np.zeros(ngrams_of_words.shape[1], np.int64)
    for start in range(0, words_of_texts.shape[0], _DOCUMENTS_PER_BLOCK):
        block = words_of_texts[start : start + _DOCUMENTS_PER_BLOCK] @ ngrams_of_words
        counts += np.bincount(block.indices, minlength=len(counts))
    return counts


def _choose(documents: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Return the indices of the n-grams that become features, in ascending order.

    Above `MAX_STORED`, the most frequent ones are left out, because they take most of the memory
    and say least about the class.

    Args:
        documents: (F,) number of documents that contain each n-gram.
        total: number of documents.
    """
    chosen = np.flatnonzero((documents >= MIN_DOCUMENTS) & (documents <= MAX_SHARE * total))
    rarest_first = chosen[np.argsort(documents[chosen], kind="stable")]
    stored = np.cumsum(documents[rarest_first])
    return np.sort(rarest_first[stored <= MAX_STORED])


class TfIdf:
    """TF-IDF weights with logarithmic counts; each block of features has unit length.

    Args:
        blocks: count the n-grams of one block each. A block without features is left out.
    """

    def __init__(self, *blocks: Features) -> None:
        self._blocks = blocks

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit the blocks and the document frequencies, and return the weights, (n, F)."""
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfTransformer

        self._weighted: list[tuple[Features, Any]] = []
        features = []
        for block in self._blocks:
            counts = block.fit_transform(texts)
            if counts.shape[1] == 0:
                continue
            transformer = TfidfTransformer(sublinear_tf=True).fit(counts)
            self._weighted.append((block, transformer))
            features.append(transformer.transform(counts, copy=False))
        return features[0] if len(features) == 1 else hstack(features, format="csr")

    def transform(self, texts: Sequence[str]) -> Any:
        """Return the weights of other texts, (n, F)."""
        from scipy.sparse import hstack

        features = [
            transformer.transform(block.transform(texts), copy=False)
            for block, transformer in self._weighted
        ]
        return features[0] if len(features) == 1 else hstack(features, format="csr")
