"""The fitted wide part: predicts without scikit-learn, and converts to arrays and back.

Shapes: n texts, F features, L outputs: 1 for two classes, else one for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.io.native_build import available_cpus
from celltune.data_prep.wide import native_sums
from celltune.data_prep.wide.features import NgramFeatures, Presence
from celltune.data_prep.wide.native_sums import NativeSums
from celltune.data_prep.wide.regression import normalized
from celltune.data_prep.wide.storage import pack, unpack
from celltune.data_prep.wide.text import normalize

TEXTS_AT_ONCE = 1_000
"""Number of texts that a thread reads at a time."""


class Contribution(NamedTuple):
    """What an n-gram of a text adds to the outputs.

    Attributes:
        ngram: the n-gram in normalized form; words are separated by spaces, and a space at an end
            of an n-gram of characters is the start or the end of a word.
        kind: "words" or "characters".
        values: `(L,)`: for two classes, what it adds to the log-odds of class 1; else, to the
            log-odds of each class against the rest.
    """

    ngram: str
    kind: str
    values: NDArray[np.float32]


class WideModel:
    """A linear model on n-grams.

    Args:
        features: the n-grams.
        weights: `(L, F)` float32.
        intercepts: `(L,)` float32.
    """

    def __init__(
        self,
        features: NgramFeatures,
        weights: NDArray[np.float32],
        intercepts: NDArray[np.float32],
    ) -> None:
        self.features, self.intercepts = features, intercepts
        self._weights = weights

    @property
    def outputs(self) -> int:
        """Number of outputs, L."""
        return len(self.intercepts)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the outputs for texts, `(n, L)`.

        For two classes, they are the log-odds of class 1, else the log probability of each class.
        """
        starts = range(0, len(texts), TEXTS_AT_ONCE)
        groups = [texts[start : start + TEXTS_AT_ONCE] for start in starts]
        compute = self._compute
        with ThreadPoolExecutor(min(len(groups), available_cpus()) or 1) as pool:
            outputs = list(pool.map(lambda group: compute([*map(normalize, group)]), groups))
        return np.concatenate([np.empty((0, self.outputs), np.float32), *outputs])

    def logits_of(self, presence: Presence) -> NDArray[np.float32]:
        """Return the outputs for texts whose features are known, `(n, L)`; see `logits`."""
        return normalized(presence.weighted_sums(self._weights) + self.intercepts)

    @cached_property
    def _compute(self) -> Callable[[Sequence[str]], NDArray[np.float32]]:
        """Return the function that computes the outputs for normalized texts, `(n, L)`."""
        if not native_sums.available():
            return lambda texts: self.logits_of(self.features.presence(texts))
        sums = NativeSums(self.features, self._weights)
        return lambda texts: normalized(sums.of(texts) + self.intercepts)

    def contributions(self, text: str) -> list[Contribution]:
        """Return what each n-gram of a text adds to the outputs, the strongest first.

        The sum over the n-grams and the intercepts are the log-odds from which `logits` computes
        the outputs.
        """
        found = []
        for block, first in zip(self.features.blocks, self.features.first_features, strict=True):
            spelling = dict(block.occurrences(normalize(text)))
            scale = np.float32(1 / np.sqrt(max(len(spelling), 1)))
            for feature, ngram in spelling.items():
                values = self._weights[:, first + feature] * scale
                found.append(Contribution(ngram, block.kind, values))
        return sorted(found, key=lambda each: -float(np.abs(each.values).max()))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the model as arrays of numbers, for `from_arrays`."""
        return pack(self.features, self._weights, self.intercepts)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> WideModel:
        """Return the model that `arrays` returned the arrays of.

        Raises:
            DataError: the arrays are not those of a model.
        """
        return cls(*unpack(arrays))
