from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.text.truncation import truncate

DOCUMENTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), max_size=8)


def truncated(tokens: list[int], limit: int, keep: str) -> list[int]:
    """Truncate one document by slicing."""
    if len(tokens) <= limit:
        return tokens
    head = {"head": limit, "tail": 0, "both": limit - limit // 2}[keep]
    return [*tokens[:head], *tokens[len(tokens) - (limit - head) :]]


@given(DOCUMENTS, st.integers(1, 14), st.sampled_from(["head", "tail", "both"]))
def test_truncation_keeps_the_configured_ends(
    documents: list[list[int]], limit: int, keep: str
) -> None:
    ids = np.array([token for document in documents for token in document], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    ids, offsets = truncate(ids, offsets, limit, keep)
    left = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert left == [truncated(document, limit, keep) for document in documents]
    assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)
