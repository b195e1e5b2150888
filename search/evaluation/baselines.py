"""Linear models over word counts: what a recurrent model must beat to be worth its training.

Both see words and pairs of words of the whole review, uncut. Shapes: n reviews, F features,
C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.search.errors import OptionError
from celltune.search.evaluation.metrics import Scores, combine_scores, score_split

Fitted = Callable[[Any], tuple[NDArray[np.int64], NDArray[np.float64] | None]]
"""Takes features and gives answers, (n,), and log probabilities, (n, C), where there are any."""


@dataclass(frozen=True)
class Labelled:
    """Reviews as they were written, and their labels, (n,)."""

    texts: Sequence[str]
    labels: NDArray[np.int64]


def check_installed() -> None:
    """Look whether scikit-learn is there.

    Raises:
        OptionError: it isn't.
    """
    if util.find_spec("sklearn") is None:
        raise OptionError(
            "The baselines need scikit-learn, which isn't installed; run "
            "pip install 'celltune[baselines]', or leave them out with --no-baselines."
        )


def plain(text: str) -> str:
    """The text in lower case, without HTML's line breaks."""
    return text.replace("<br />", " ").lower()


def run(name: str, train: Labelled, test: Labelled, classes: int) -> Scores:
    """Fit a baseline and measure it.

    Args:
        name: a key of `BASELINES`.
        train: what to learn from.
        test: what it is tested on.
        classes: C.

    Returns:
        Its measures; `seconds` are those of counting and fitting.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    begun = time.perf_counter()
    counter = CountVectorizer(
        preprocessor=plain,
        token_pattern=r"\w+|[^\w\s]",  # noqa: S106
        ngram_range=(1, 2),
        min_df=2,
        dtype=np.float32,
    )
    features = counter.fit_transform(train.texts)
    fitted = BASELINES[name](features, train.labels, classes)
    seconds = time.perf_counter() - begun
    learned = score_split(train.labels, *fitted(features), classes)
    begun = time.perf_counter()
    tested = score_split(test.labels, *fitted(counter.transform(test.texts)), classes)
    more = {
        "seconds": seconds,
        "milliseconds_per_review": 1e3 * (time.perf_counter() - begun) / len(test.labels),
        "parameters": float((1 if classes == 2 else classes) * (features.shape[1] + 1)),
    }
    return combine_scores(learned, tested, more)


def _tfidf_logistic(features: Any, labels: NDArray[np.int64], classes: int) -> Fitted:  # noqa: ARG001
    """Logistic regression on weighted counts: their logarithm, rare words more, length 1.

    The penalty was chosen on IMDB's validation part.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    weigh = TfidfTransformer(sublinear_tf=True)
    # liblinear's dual form takes a tenth of the default solver's time on so many features.
    one = LogisticRegression(C=30.0, solver="liblinear", dual=True, random_state=0)
    model = OneVsRestClassifier(one).fit(weigh.fit_transform(features), labels)

    def answer(counts: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        shares = model.predict_proba(weigh.transform(counts)).astype(np.float64)
        return shares.argmax(1), np.log(shares.clip(min=1e-12))

    return answer


def _nb_svm(features: Any, labels: NDArray[np.int64], classes: int) -> Fitted:
    """A linear SVM on which words occur, each weighted by its naive Bayes log count ratio.

    Source: Wang and Manning, Baselines and Bigrams, ACL 2012; the penalty and the interpolation of
    0.5 were chosen on IMDB's validation part. One model a class against the rest; two classes
    need one.
    """
    from sklearn.svm import LinearSVC

    present = _occurring(features)
    columns: list[NDArray[np.float64]] = []
    biases: list[float] = []
    for label in [1] if classes == 2 else range(classes):
        mine = labels == label
        inside, outside = (1.0 + present[part].sum(0) for part in (mine, ~mine))
        ratio = np.asarray(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
        model = LinearSVC(C=0.1, random_state=0)
        model.fit(present.multiply(ratio).tocsr(), mine)
        weights = model.coef_.ravel()
        mixed = 0.5 * np.abs(weights).mean() + 0.5 * weights
        columns.append(ratio.ravel() * mixed)
        biases.append(float(model.intercept_[0]))
    weights = np.stack(columns, axis=1)

    def answer(counts: Any) -> tuple[NDArray[np.int64], None]:
        scores = _occurring(counts) @ weights + np.array(biases)
        return (scores[:, 0] > 0).astype(np.int64) if classes == 2 else scores.argmax(1), None

    return answer


def _occurring(features: Any) -> Any:
    present = features.copy()
    present.data[:] = 1
    return present


BASELINES: Mapping[str, Callable[[Any, NDArray[np.int64], int], Fitted]] = MappingProxyType(
    {"tfidf_logistic": _tfidf_logistic, "nb_svm": _nb_svm}
)
"""What fits each baseline, by name."""
