"""Logistic regression on n-grams weighted by log-count ratios.

Source: S. Wang and C. Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic
Classification", ACL 2012. For each class, the columns of the features are multiplied by the log
ratio of the feature's share in the class and outside of it.

Shapes: n documents, F features, C classes, L outputs: 1 for two classes, else C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.wide.features import Presence

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_ITERATIONS, TOLERANCE = 8, 1e-4
"""More than 8 iterations take up to three times as long, for no lower loss (decision 36)."""
MAX_PAIRS = 2**31 - 1
"""liblinear numbers the values of a matrix with 32 bits."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The linear part of a model.

    Attributes:
        values: `(L, F)`, zero for features that are not kept.
        intercepts: `(L,)`.
        kept: `(F,)` the features that the model has.
    """

    values: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    kept: NDArray[np.bool_]

    def outputs(self, presence: Presence) -> NDArray[np.float32]:
        """Return the outputs for documents, `(n, L)`."""
        return normalized(presence.weighted_sums(self.values, self.kept) + self.intercepts)


def normalized(log_odds: Floats) -> NDArray[np.float32]:
    """Convert the log-odds of each class against the rest to outputs.

    Args:
        log_odds: `(n, L)`.

    Returns:
        `(n, L)`: one output stays as it is; several become log probabilities, with the normalized
        probabilities of the classes against the rest.
    """
    if log_odds.shape[1] == 1:
        return log_odds.astype(np.float32)
    log_shares = -np.logaddexp(0, -log_odds)
    shares: Floats = log_shares - np.logaddexp.reduce(log_shares, axis=1)[:, None]
    return shares.astype(np.float32)


def log_probabilities(outputs: NDArray[np.floating]) -> Floats:
    """Return the `(n, C)` log probabilities of the classes, from `(n, L)` outputs."""
    if outputs.shape[1] > 1:
        return outputs.astype(np.float64)
    log_odds = outputs.astype(np.float64)
    return -np.logaddexp(0, np.hstack([log_odds, -log_odds]))


class _Weighted(NamedTuple):
    """The features of all documents, times their weights for a class.

    Attributes:
        matrix: sparse, `(n, F)`.
        columns: the weight of each feature, `(F,)`.
    """

    matrix: Any
    columns: Floats


class Regression:
    """Fits models to the same training documents.

    Args:
        presence: features of the documents.
        labels: `(n,)` class of each document.
        classes: C.
        min_documents: features of fewer documents are left out.
        seed: determines the order in which the solver visits the documents.

    Raises:
        DataError: there are too many features.
    """

    def __init__(
        self, presence: Presence, labels: Labels, classes: int, *, min_documents: int, seed: int
    ) -> None:
        if len(presence.rows.items) > MAX_PAIRS:
            raise DataError(
                f"The documents contain {len(presence.rows.items):,} different n-grams, summed "
                f"over the documents, but the wide part can be fitted to at most {MAX_PAIRS:,}. "
                f"Reduce data.train_size, data.wide.characters or data.wide.words."
            )
        self._presence, self._labels, self._seed = presence, labels, seed
        self._problems = problems(classes)
        self._counts = presence.counts()
        self._kept = self._counts >= min_documents
        self._scales = presence.scales(self._kept)
        self._last: tuple[int, _Weighted | None] | None = None

    def fit(self, penalty: float, on_fit: Callable[[], None]) -> Weights:
        """Fit a model.

        Args:
            penalty: scikit-learn's C: the larger, the weaker the L2 penalty.
            on_fit: is called after each class.
        """
        shape = (len(self._problems), len(self._kept))
        values = np.zeros(shape, np.float32)
        intercepts = np.zeros(shape[:1], np.float32)
        for problem, label in enumerate(self._problems):
            values[problem], intercepts[problem] = self._fit_class(label, penalty)
            on_fit()
        return Weights(values, intercepts, self._kept)

    def _fit_class(self, label: int, penalty: float) -> tuple[Floats, float]:
        """Return the weights of one class against the rest, `(F,)`, and the intercept."""
        in_class = self._labels == label
        weighted = self._weighted(label)
        if weighted is None:
            # There is nothing to learn from, so the outputs are the odds of the class.
            odds = (in_class.sum() + 1) / ((~in_class).sum() + 1)
            return np.zeros(len(self._kept)), float(np.log(odds))
        coefficients, intercept = self._solve(weighted.matrix, in_class, penalty)
        return coefficients * weighted.columns, intercept

    def _weighted(self, label: int) -> _Weighted | None:
        """Return the input of the solver for a class; None if there is nothing to learn from.

        The one of the last class is kept for other penalties.
        """
        if self._last is None or self._last[0] != label:
            self._last = None  # frees memory
            self._last = label, self._weigh(self._labels == label)
        return self._last[1]

    def _weigh(self, in_class: NDArray[np.bool_]) -> _Weighted | None:
        columns = self._ratios(in_class)
        if in_class.all() or not in_class.any() or not columns.any():
            return None
        matrix = self._matrix(columns)
        # Otherwise the effect of a penalty would depend on the number of features.
        scale = np.sqrt(len(in_class) / (matrix.data @ matrix.data))
        matrix.data *= scale
        return _Weighted(matrix, columns * scale)

    def _ratios(self, in_class: NDArray[np.bool_]) -> Floats:
        """Return the log-count ratio of each feature, `(F,)`; zero if it is not kept."""
        inside = self._presence.documents(in_class).counts()
        counts = [np.where(self._kept, 1 + part, 0) for part in (inside, self._counts - inside)]
        logs = [np.log(np.maximum(count, 1) / max(count.sum(), 1)) for count in counts]
        return np.where(self._kept, logs[0] - logs[1], 0.0)

    def _matrix(self, columns: Floats) -> Any:
        """Return the features as a sparse matrix whose columns are multiplied, `(n, F)`."""
        from scipy.sparse import csr_matrix

        rows, blocks = self._presence.rows, self._presence.blocks
        values = columns[rows.items]
        values *= np.repeat(self._scales, rows.lengths)
        shape = (len(self._presence), self._presence.features)
        return csr_matrix((values, rows.items, rows.offsets[::blocks]), shape=shape)

    def _solve(
        self, matrix: Any, in_class: NDArray[np.bool_], penalty: float
    ) -> tuple[Floats, float]:
        """Return the coefficients, `(F,)`, and the intercept."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(
            C=penalty,
            solver="liblinear",
            dual=True,
            max_iter=MAX_ITERATIONS,
            tol=TOLERANCE,
            random_state=self._seed % 2**32,
        )
        with warnings.catch_warnings():
            # The solver warns that it could continue.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix, in_class)
        return model.coef_[0], float(model.intercept_[0])


def problems(classes: int) -> list[int]:
    """Return the class of each output: that of the log-odds for two classes, else every class."""
    return [1] if classes == 2 else list(range(classes))
