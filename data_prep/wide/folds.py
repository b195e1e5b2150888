"""Parts of the training split for cross-fitting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError

Integers = NDArray[np.int64]


def assign_folds(
    texts: Sequence[str],
    labels: Integers,
    groups: Sequence[str | None],
    *,
    folds: int,
    seed: int,
) -> Integers:
    """Divide documents into parts of similar size in which the classes have similar shares.

    Documents with the same text or of the same group are in the same part.

    Args:
        texts: `(n,)` normalized texts.
        labels: `(n,)` class of each document.
        groups: `(n,)` group of each document; None if it has none.
        folds: largest number of parts; there are fewer if there are fewer separate documents.
        seed: equal arguments give the same parts on every machine.

    Returns:
        `(n,)` part of each document, from 0.

    Raises:
        DataError: all documents belong together.
    """
    units = _units(texts, groups)
    total = int(units.max()) + 1
    if total < 2:
        raise DataError(
            f"data.wide needs training documents that can be divided into two parts, but the "
            f"{len(units)} training documents have the same text or are of the same group. Provide "
            f"documents of other groups, or remove data.wide."
        )
    classes, indices = np.unique(labels, return_inverse=True)
    counts = np.zeros((total, len(classes)))
    np.add.at(counts, (units, indices), 1)
    shuffled = np.random.default_rng(seed).permutation(total)
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    weights = counts / counts.sum(axis=0)
    filled = np.zeros((min(folds, total), len(classes)))
    sizes = np.zeros(len(filled))
    parts = np.empty(total, np.int64)
    for unit in order.tolist():
        # This choice keeps the sum of the squared class shares of the parts as low as possible.
        overlap = filled @ weights[unit]
        part = np.lexsort((sizes, overlap))[0]
        parts[unit] = part
        filled[part] += counts[unit]
        sizes[part] += counts[unit].sum()
    return parts[units]


def _units(texts: Sequence[str], groups: Sequence[str | None]) -> Integers:
    """Number the sets of documents that belong together, `(n,)`."""
    leaders: dict[tuple[str, str], int] = {}
    parents = list(range(len(texts)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for index, (text, group) in enumerate(zip(texts, groups, strict=True)):
        keys = [("text", text)] if group is None else [("text", text), ("group", group)]
        for key in keys:
            parents[root(index)] = root(leaders.setdefault(key, index))
    roots = [root(index) for index in range(len(texts))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
