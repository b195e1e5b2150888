"""Truncation of long documents and removal of unknown words.

Shapes: n documents, N tokens in all documents, M of them left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.vocabulary import UNK

Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]


def truncate(ids: Ids, offsets: Offsets, limit: int, keep: str) -> tuple[Ids, Offsets]:
    """Truncate every document to at most `limit` tokens.

    Args:
        ids: `(N,)` token ids of all documents.
        offsets: `(n + 1,)`; document i is `ids[offsets[i]:offsets[i + 1]]`.
        limit: at least 1.
        keep: the end to keep: head, tail, or both (half of each, the larger half from the head).

    Returns:
        `(M,)` ids and `(n + 1,)` offsets.
    """
    lengths = np.diff(offsets)
    longer = np.flatnonzero(lengths > limit)
    if not len(longer):
        return ids, offsets
    head = {"head": limit, "tail": 0, "both": limit - limit // 2}[keep]
    # Mark the ends of the removed range of each longer document; their running sum is 1 inside.
    edges = np.zeros(len(ids) + 1, dtype=np.int8)
    edges[offsets[longer] + head] += 1
    edges[offsets[longer + 1] - (limit - head)] -= 1
    new_offsets = np.zeros_like(offsets)
    np.cumsum(np.minimum(lengths, limit), out=new_offsets[1:])
    return ids[np.cumsum(edges[:-1], dtype=np.int8) == 0], new_offsets


def drop_unknown(ids: Ids, offsets: Offsets) -> tuple[Ids, Offsets]:
    """Remove unknown words; a document of unknown words keeps its first one.

    Args:
        ids: `(N,)` token ids of all documents; an empty document stays empty.
        offsets: `(n + 1,)`; document i is `ids[offsets[i]:offsets[i + 1]]`.

    Returns:
        `(M,)` ids and `(n + 1,)` offsets.
    """
    kept = ids != UNK
    known_before = np.concatenate([[0], np.cumsum(kept)])
    counts = np.diff(known_before[offsets])
    all_unknown = (counts == 0) & (np.diff(offsets) > 0)
    kept[offsets[:-1][all_unknown]] = True
    new_offsets = np.zeros_like(offsets)
    np.cumsum(counts + all_unknown, out=new_offsets[1:])
    return ids[kept], new_offsets
