"""Baselines: linear models on n-grams, which a recurrent model should outperform.

Shapes: n documents, F features, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.sources.base import Document
from celltune.search.baselines.ngrams import CharacterNgrams, Features, TfIdf, WordNgrams
from celltune.search.metrics import Scores, SplitScores, combine_scores, score_split


class Predicted(NamedTuple):
    """Predictions of a linear model."""

    labels: NDArray[np.int64]
    """(n,) predicted classes."""
    log_probabilities: NDArray[np.float64] | None
    """(n, C); None if the model gives no probabilities."""
    scores: NDArray[np.float64]
    """(n,) larger for documents that are rather of class 1."""


Predictor = Callable[[Any], Predicted]
"""A fitted model, which reads (n, F) features."""


@dataclass(frozen=True)
class LabelledTexts:
    """Original texts of documents, and their labels, (n,)."""

    texts: Sequence[str]
    labels: NDArray[np.int64]


def labelled_texts(documents: Sequence[Document]) -> LabelledTexts:
    """Return the texts and labels of documents."""
    labels = np.array([document.label for document in documents], dtype=np.int64)
    return LabelledTexts([document.text for document in documents], labels)


def score_baseline(
    name: str, train: LabelledTexts, test: LabelledTexts, num_classes: int
) -> Scores:
    """Fit a baseline and score it on both splits.

    Args:
        name: a key of `BASELINES`.
        train: documents to fit the baseline on.
        test: documents of the test split.
        num_classes: C.

    Returns:
        The scores; the metric `seconds` is the time for counting n-grams and fitting.
    """
    baseline, start = BASELINES[name], time.perf_counter()
    extractor = baseline.features()
    features = extractor.fit_transform(train.texts)
    width = features.shape[1]
    predict = baseline.fit(features, train.labels, num_classes)
    seconds = time.perf_counter() - start
    train_scores = score_predicted(train.labels, predict(features), num_classes)
    del features  # they take as much memory as those of the test split
    start = time.perf_counter()
    predictions = predict(extractor.transform(test.texts))
    test_scores = score_predicted(test.labels, predictions, num_classes)
    other_metrics = {
        "seconds": seconds,
        "milliseconds_per_review": 1e3 * (time.perf_counter() - start) / len(test.labels),
        "parameters": float((1 if num_classes == 2 else num_classes) * (width + 1)),
    }
    return combine_scores(train_scores, test_scores, other_metrics)


def score_predicted(
    labels: NDArray[np.int64], predicted: Predicted, num_classes: int
) -> SplitScores:
    """Score the predictions of a baseline on one split.

    Args:
        labels: (n,) true classes.
        predicted: the predictions.
        num_classes: C.
    """
    logs, scores = predicted.log_probabilities, predicted.scores
    return score_split(labels, predicted.labels, logs, num_classes, scores=scores)


def _fit_logistic(
    features: Any,
    labels: NDArray[np.int64],
    num_classes: int,  # noqa: ARG001
    *,
    penalty: float,
) -> Predictor:
    """Fit a logistic regression, with more than two classes one for each class against the rest.

    Args:
        features: (n, F).
        labels: (n,).
        num_classes: C.
        penalty: scikit-learn's C: the larger, the weaker the L2 penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    # On this number of features, liblinear's dual form takes a tenth of the default solver's time.
    # Short texts need more than its 100 iterations.
    regression = LogisticRegression(
        C=penalty, solver="liblinear", dual=True, random_state=0, max_iter=1_000
    )
    model = OneVsRestClassifier(regression).fit(features, labels)

    def predict(other: Any) -> Predicted:
        probabilities = model.predict_proba(other).astype(np.float64)
        logs = np.log(probabilities.clip(min=1e-12))
        return Predicted(probabilities.argmax(1), logs, logs[:, 1] - logs[:, 0])

    return predict


def _fit_nb_svm(features: Any, labels: NDArray[np.int64], num_classes: int) -> Predictor:
    """Fit a linear SVM on word occurrences, weighted by their naive Bayes log count ratio.

    With more than two classes, one SVM is fitted for each class against the rest. The penalty and
    the interpolation factor of 0.5 were chosen on the validation split of IMDB.

    Source: Wang and Manning, Baselines and Bigrams, ACL 2012.
    """
    from sklearn.svm import LinearSVC

    occurrences = _binarize(features)
    columns: list[NDArray[np.float64]] = []
    biases: list[float] = []
    for label in [1] if num_classes == 2 else range(num_classes):
        is_label = labels == label
        inside, outside = (1.0 + occurrences[rows].sum(0) for rows in (is_label, ~is_label))
        ratio = np.asarray(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
        svm = LinearSVC(C=0.1, random_state=0)
        svm.fit(occurrences.multiply(ratio).tocsr(), is_label)
        weights = svm.coef_.ravel()
        interpolated = 0.5 * np.abs(weights).mean() + 0.5 * weights
        columns.append(ratio.ravel() * interpolated)
        biases.append(float(svm.intercept_[0]))
    weights = np.stack(columns, axis=1)

    def predict(counts: Any) -> Predicted:
        values = _binarize(counts) @ weights + np.array(biases)
        if num_classes == 2:
            return Predicted((values[:, 0] > 0).astype(np.int64), None, values[:, 0])
        return Predicted(values.argmax(1), None, values[:, 1])

    return predict


def _binarize(features: Any) -> Any:
    occurrences = features.copy()
    occurrences.data[:] = 1
    return occurrences


@dataclass(frozen=True)
class _Baseline:
    """A linear model and its features."""

    features: Callable[[], Features]
    fit: Callable[[Any, NDArray[np.int64], int], Predictor]
    """Fits the model to (n, F) features, (n,) labels and C classes."""


BASELINES: Mapping[str, _Baseline] = MappingProxyType(
    {
        "tfidf_logistic": _Baseline(
            lambda: TfIdf(WordNgrams()), partial(_fit_logistic, penalty=30.0)
        ),
        "nb_svm": _Baseline(WordNgrams, _fit_nb_svm),
        "tfidf_char_logistic": _Baseline(
            lambda: TfIdf(WordNgrams(), CharacterNgrams()), partial(_fit_logistic, penalty=5.0)
        ),
    }
)
"""The baselines by name. Their penalties were chosen on validation splits: those of the first two
on IMDB's, that of the third on those of IMDB, IMDB's first sentences and the Amazon reviews."""
