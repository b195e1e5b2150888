"""New splits from existing ones: concatenation and stratified subsets."""

from __future__ import annotations

import numpy as np

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError


def concatenate(first: TensorizedSplit, second: TensorizedSplit) -> TensorizedSplit:
    """Return the documents of two splits that share a vocabulary and a wide part, in order."""
    wide = None
    if first.wide is not None and second.wide is not None:
        wide = np.concatenate([first.wide, second.wide])
    return TensorizedSplit(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.offsets, second.offsets[1:] + first.tokens]),
        np.concatenate([first.labels, second.labels]),
        wide,
    )


def stratified_subset(split: TensorizedSplit, share: float, seed: int) -> TensorizedSplit:
    """Draw a share of each class without replacement; documents keep their order.

    Args:
        split: the documents to draw from.
        share: above 0, at most 1; at least one document of each class is drawn.
        seed: the same split, share and seed give the same documents on every machine.

    Raises:
        DataError: `share` is outside of its range.
    """
    if not 0 < share <= 1:
        raise DataError(f"The share of documents is {share}. It has to be above 0 and at most 1.")
    if share == 1:
        return split
    rng = np.random.default_rng((seed, 2))
    drawn = []
    for label in np.unique(split.labels):
        of_class = np.flatnonzero(split.labels == label)
        drawn.append(rng.permutation(of_class)[: max(1, round(share * len(of_class)))])
    indices = np.sort(np.concatenate(drawn))
    mask = np.zeros(len(split), dtype=bool)
    mask[indices] = True
    offsets = np.zeros(len(indices) + 1, dtype=np.int64)
    np.cumsum(split.lengths[indices], out=offsets[1:])
    ids = split.ids[np.repeat(mask, split.lengths)]
    wide = None if split.wide is None else split.wide[indices]
    return TensorizedSplit(ids, offsets, split.labels[indices], wide)
