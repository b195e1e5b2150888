"""The features of documents: which n-grams of words and characters occur in them.

A document is one row for each block of features, words first. Each row of a block has unit length,
so that an n-gram of a row with k n-grams has the value 1 / sqrt(k).

Shapes: n documents, B blocks, F features in all blocks, K pairs of a document and a feature, L
outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.wide.blocks import Block, CharacterNgrams, WordNgrams
from celltune.data_prep.wide.ngrams import Integers
from celltune.data_prep.wide.presence import Rows, interleave, offsets_of
from celltune.data_prep.wide_config import WideConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Presence:
    """The features that occur in documents.

    Attributes:
        rows: n * B rows of features.
        blocks: B.
        features: F.
    """

    rows: Rows
    blocks: int
    features: int

    def __len__(self) -> int:
        """Return the number of documents, n."""
        return len(self.rows) // self.blocks

    def documents(self, mask: NDArray[np.bool_]) -> Presence:
        """Return the documents that the `(n,)` mask selects."""
        of_rows = np.repeat(mask, self.blocks)
        rows = Rows(
            self.rows.items[np.repeat(of_rows, self.rows.lengths)],
            offsets_of(self.rows.lengths[of_rows]),
        )
        return Presence(rows, self.blocks, self.features)

    def counts(self) -> Integers:
        """Return the number of documents that contain each feature, `(F,)`."""
        return np.bincount(self.rows.items, minlength=self.features)

    def scales(self, kept: NDArray[np.bool_] | None = None) -> Floats:
        """Return the value of the features of each row, `(n * B,)`.

        Args:
            kept: `(F,)`; other features do not count. By default, all do.
        """
        if kept is None:
            counts = self.rows.lengths
        else:
            counts = self.rows.select(kept[self.rows.items]).lengths
        scales: Floats = 1 / np.sqrt(np.maximum(counts, 1))
        return scales

    def weighted_sums(
        self, weights: NDArray[np.floating], kept: NDArray[np.bool_] | None = None
    ) -> Floats:
        """Return the product of the features and their weights, `(n, L)`.

        Args:
            weights: `(L, F)`, zero for features that are not kept.
            kept: see `scales`.
        """
        scales = self.scales(kept)
        sums = [self.rows.sums(row[self.rows.items]) * scales for row in weights]
        of_blocks = np.stack(sums, axis=1).reshape(len(self), self.blocks, len(weights))
        totals: Floats = of_blocks.sum(axis=1)
        return totals


class FittedFeatures(NamedTuple):
    """Features that were chosen by documents."""

    features: NgramFeatures
    presence: Presence
    """The features of these documents."""
    min_documents: int
    """Least number of documents that contain a feature."""


class NgramFeatures:
    """The n-grams that are features.

    Args:
        blocks: the kinds of n-grams; at least one.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        sizes = [block.table.features for block in blocks]
        self.first_features = np.cumsum([0, *sizes[:-1]]).tolist()
        """Index of the first feature of each block."""
        self.total = sum(sizes)
        """F."""

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        config: WideConfig,
        on_counted: Callable[[], None] = lambda: None,
    ) -> FittedFeatures:
        """Choose the features by normalized texts.

        If no n-gram occurs in `config.min_documents` texts, all n-grams are features.

        Args:
            texts: the texts.
            config: the kinds and lengths of n-grams.
            on_counted: is called when the n-grams of one length of one kind have been counted in
                the first pass.
        """
        fitted = cls._fit(texts, config, config.min_documents, on_counted)
        return fitted if fitted.features.total else cls._fit(texts, config, 1, lambda: None)

    @classmethod
    def _fit(
        cls,
        texts: Sequence[str],
        config: WideConfig,
        minimum: int,
        on_counted: Callable[[], None],
    ) -> FittedFeatures:
        fitted: list[tuple[Block, Rows]] = [
            WordNgrams.fit(texts, config.words, minimum, on_counted)
        ]
        if config.characters:
            fitted.append(CharacterNgrams.fit(texts, config.characters, minimum, on_counted))
        features = cls([block for block, _ in fitted])
        return FittedFeatures(features, features._join([rows for _, rows in fitted]), minimum)

    def presence(self, texts: Sequence[str]) -> Presence:
        """Return the features of normalized texts."""
        return self._join([block.rows(texts) for block in self.blocks])

    def _join(self, rows: Sequence[Rows]) -> Presence:
        shifted = [
            Rows(part.items + np.int32(first), part.offsets)
            for part, first in zip(rows, self.first_features, strict=True)
        ]
        return Presence(interleave(shifted), len(shifted), self.total)
