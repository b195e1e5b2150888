"""Batches of reviews of nearly one length.

Shapes: T steps (the longest review of the batch), B reviews.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import PAD
from celltune.data_prep.errors import DataError

SplitArrays = NDArray[np.int64]
"""Reviews by their number in a split."""

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


def batches(
    split: TensorizedSplit,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    token_budget: int | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch of training: every review once, in an order of its own.

    Args:
        split: what to train on.
        batch_size: reviews a batch, at least 1; one batch may be smaller.
        seed: the run's seed, at least 0.
        epoch: at least 0. The same seed and epoch give the same batches everywhere.
        token_budget: the most ids of a batch, padding among them: T * B. Batches of long reviews
            then hold fewer than batch_size. None for no such limit. A single review that is
            longer makes a batch by itself.

    Raises:
        DataError: a batch size or a budget below 1.
    """
    plan = training_plan(split, batch_size, seed=seed, epoch=epoch, token_budget=token_budget)
    return (cut_batch(split, chosen) for chosen in plan)


def ordered_batches(
    split: TensorizedSplit, batch_size: int, *, token_budget: int | None = None
) -> Iterator[Batch]:
    """The batches of an evaluation: every review once, from the shortest to the longest.

    Args:
        split: what to evaluate on.
        batch_size: as for `batches`.
        token_budget: as for `batches`.

    Raises:
        DataError: a batch size or a budget below 1.
    """
    plan = evaluation_plan(split, batch_size, token_budget=token_budget)
    return (cut_batch(split, chosen) for chosen in plan)


def training_plan(
    split: TensorizedSplit,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    token_budget: int | None = None,
) -> list[SplitArrays]:
    """Which reviews stand together in each batch of `batches`, ``(B,)`` each."""
    rng = np.random.default_rng((seed, epoch))
    jitter = rng.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(split))
    order = np.argsort(split.lengths * jitter, kind="stable")
    ends = _batch_ends(split.lengths[order], batch_size, token_budget)
    if len(ends) > 1 and token_budget is None:
        # The small batch stands anywhere, or it would always hold the longest reviews.
        sizes = np.diff(ends, prepend=0)
        ends = np.cumsum(rng.permutation(sizes))
    parts = np.split(order, ends[:-1])
    return [parts[index] for index in rng.permutation(len(ends))]


def evaluation_plan(
    split: TensorizedSplit, batch_size: int, *, token_budget: int | None = None
) -> list[SplitArrays]:
    """Which reviews stand together in each batch of `ordered_batches`, ``(B,)`` each."""
    order = np.argsort(split.lengths, kind="stable")
    ends = _batch_ends(split.lengths[order], batch_size, token_budget)
    return [part for part in np.split(order, ends[:-1]) if len(part)]


def _batch_ends(
    lengths: SplitArrays, batch_size: int, token_budget: int | None
) -> NDArray[np.int64]:
    """Where batches of reviews in this order end; ``lengths`` (n,) are theirs."""
    if batch_size < 1:
        raise DataError(f"a batch size of {batch_size} can't be used; it must be at least 1")
    if token_budget is None:
        starts = np.arange(0, len(lengths), batch_size, dtype=np.int64)
        return np.minimum(starts + batch_size, len(lengths))
    if token_budget < 1:
        raise DataError(f"a token budget of {token_budget} can't be used; it must be at least 1")
    ends: list[int] = []
    size = longest = 0
    for index, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if size and (size == batch_size or longest * (size + 1) > token_budget):
            ends.append(index)
            size, longest = 0, length
        size += 1
    return np.array([*ends, len(lengths)][: len(ends) + (size > 0)], dtype=np.int64)


def cut_batch(split: TensorizedSplit, chosen: SplitArrays) -> Batch:
    """The batch of some reviews, ``(B,)`` by number, in this order."""
    starts, ends = split.offsets[chosen], split.offsets[chosen + 1]  # (B,)
    lengths = ends - starts  # (B,)
    rows = np.empty((len(chosen), lengths.max()), dtype=np.int32)  # (B, T)
    rows[:, lengths.min() :] = PAD
    flat = split.ids
    for row, start, end in zip(rows, starts.tolist(), ends.tolist(), strict=True):
        row[: end - start] = flat[start:end]
    ids = np.empty(rows.T.shape, dtype=np.int64)  # (T, B)
    ids[...] = rows.T
    return Batch(ids, lengths, split.labels[chosen])
