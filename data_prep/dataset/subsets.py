"""New splits out of old ones: put together, or thinned out."""

from __future__ import annotations

import numpy as np

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError


def concatenate(first: TensorizedSplit, second: TensorizedSplit) -> TensorizedSplit:
    """The reviews of two splits of one vocabulary, in their order."""
    return TensorizedSplit(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.offsets, second.offsets[1:] + first.tokens]),
        np.concatenate([first.labels, second.labels]),
    )


def stratified_subset(split: TensorizedSplit, share: float, seed: int) -> TensorizedSplit:
    """A share of the reviews of each class, drawn without replacement, in their order.

    Args:
        split: what to draw from.
        share: above 0, at most 1; of each class at least one review stays.
        seed: the same split, share and seed give the same reviews everywhere.

    Raises:
        DataError: a share that isn't above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise DataError(
            f"a share of {share} of the reviews can't be taken; allowed is 0 < share <= 1"
        )
    if share == 1:
        return split
    rng = np.random.default_rng((seed, 2))
    kept = []
    for label in np.unique(split.labels):
        of_class = np.flatnonzero(split.labels == label)
        kept.append(rng.permutation(of_class)[: max(1, round(share * len(of_class)))])
    chosen = np.sort(np.concatenate(kept))
    mask = np.zeros(len(split), dtype=bool)
    mask[chosen] = True
    offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(split.lengths[chosen], out=offsets[1:])
    return TensorizedSplit(split.ids[np.repeat(mask, split.lengths)], offsets, split.labels[chosen])
