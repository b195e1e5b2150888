"""Batches of reviews of nearly one length.

Shapes: T steps (the longest review of the batch), B reviews.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.dataset import TensorizedSplit
from data_prep.errors import DataError
from data_prep.vocabulary import PAD

LENGTH_JITTER = 0.03
"""How far a review may stray from its place in the order of lengths, as a share of its length:
enough that batches differ from epoch to epoch, little enough that padding stays under 5 % on all
of IMDB in batches of 64, cut or uncut."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Reviews side by side; the arrays are the receiver's own, to be changed at will.

    Attributes:
        ids: ``(T, B)``, word ids, time first; ``PAD`` behind a review's end.
        lengths: ``(B,)``, the tokens of each review, between 1 and T.
        labels: ``(B,)``.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of reviews, B."""
        return len(self.labels)


def batches(split: TensorizedSplit, batch_size: int, *, seed: int, epoch: int) -> Iterator[Batch]:
    """The batches of one epoch of training: every review once, in an order of its own.

    Args:
        split: what to train on.
        batch_size: reviews a batch, at least 1; one batch may be smaller.
        seed: the run's seed, at least 0.
        epoch: at least 0. The same seed and epoch give the same batches everywhere.

    Raises:
        DataError: a batch size below 1.
    """
    rng = np.random.default_rng((seed, epoch))
    jitter = rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(split))
    order = np.argsort(split.lengths * jitter, kind="stable")
    ends = _batch_ends(len(split), batch_size)
    if len(ends) > 1:
        # The small batch stands anywhere, or it would always hold the longest reviews.
        sizes = np.diff(ends, prepend=0)
        ends = np.cumsum(rng.permutation(sizes))
    parts = np.split(order, ends[:-1])
    for index in rng.permutation(len(ends)):
        yield _gather(split, parts[index])


def ordered_batches(split: TensorizedSplit, batch_size: int) -> Iterator[Batch]:
    """The batches of an evaluation: every review once, from the shortest to the longest.

    Raises:
        DataError: a batch size below 1.
    """
    order = np.argsort(split.lengths, kind="stable")
    for part in np.split(order, _batch_ends(len(split), batch_size)[:-1]):
        if len(part):
            yield _gather(split, part)


def _batch_ends(count: int, batch_size: int) -> NDArray[np.int64]:
    if batch_size < 1:
        raise DataError(f"a batch size of {batch_size} can't be used; it must be at least 1")
    starts = np.arange(0, count, batch_size, dtype=np.int64)
    return np.minimum(starts + batch_size, count)


def _gather(split: TensorizedSplit, chosen: NDArray[np.int64]) -> Batch:
    starts = split.offsets[chosen]  # (B,)
    lengths = split.offsets[chosen + 1] - starts  # (B,)
    steps = np.arange(lengths.max(), dtype=np.int64)[:, None]  # (T, 1)
    # Behind a review's end this reads its neighbours, and the padding is written over them.
    ids = split.ids.take(starts + steps, mode="clip").astype(np.int64)  # (T, B)
    ids[steps >= lengths] = PAD
    return Batch(ids, lengths, split.labels[chosen])
