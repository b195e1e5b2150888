"""Reviews that are too long, cut to the ends that a config keeps; unknown words left out.

Shapes: n reviews, N tokens of all reviews together, M of them kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.vocabulary import UNK

Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]


def truncate(ids: Ids, offsets: Offsets, limit: int, keep: str) -> tuple[Ids, Offsets]:
    """Cuts every review to at most ``limit`` tokens.

    Args:
        ids: ``(N,)``, the reviews one after the other.
        offsets: ``(n + 1,)``; review i is ``ids[offsets[i]:offsets[i + 1]]``.
        limit: at least 1.
        keep: head, tail, or both: half of each, the head's half being the larger.

    Returns:
        ``(M,)`` ids and ``(n + 1,)`` offsets of what is left.
    """
    lengths = np.diff(offsets)
    longer = np.flatnonzero(lengths > limit)
    if not len(longer):
        return ids, offsets
    front = {"head": limit, "tail": 0, "both": limit - limit // 2}[keep]
    # One hole a longer review; a running sum over their edges is 1 inside them.
    edges = np.zeros(len(ids) + 1, dtype=np.int8)
    edges[offsets[longer] + front] += 1
    edges[offsets[longer + 1] - (limit - front)] -= 1
    left = np.zeros_like(offsets)
    np.cumsum(np.minimum(lengths, limit), out=left[1:])
    return ids[np.cumsum(edges[:-1], dtype=np.int8) == 0], left


def without_unknown(ids: Ids, offsets: Offsets) -> tuple[Ids, Offsets]:
    """Leaves unknown words out; a review of nothing else keeps one of them.

    Args:
        ids: ``(N,)``, the reviews one after the other; an empty one stays empty.
        offsets: ``(n + 1,)``; review i is ``ids[offsets[i]:offsets[i + 1]]``.

    Returns:
        ``(M,)`` ids and ``(n + 1,)`` offsets of what is left.
    """
    stays = ids != UNK
    before = np.concatenate([[0], np.cumsum(stays)])
    counts = np.diff(before[offsets])
    lonely = (counts == 0) & (np.diff(offsets) > 0)
    stays[offsets[:-1][lonely]] = True
    left = np.zeros_like(offsets)
    np.cumsum(counts + lonely, out=left[1:])
    return ids[stays], left
