from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.text.truncation import truncate

REVIEWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), max_size=8)


def ends_of(tokens: list[int], limit: int, keep: str) -> list[int]:
    """The same, told in another way."""
    if len(tokens) <= limit:
        return tokens
    head = {"head": limit, "tail": 0, "both": limit - limit // 2}[keep]
    return [*tokens[:head], *tokens[len(tokens) - (limit - head) :]]


@given(REVIEWS, st.integers(1, 14), st.sampled_from(["head", "tail", "both"]))
def test_a_cut_keeps_the_ends_it_names(reviews: list[list[int]], limit: int, keep: str) -> None:
    ids = np.array([token for review in reviews for token in review], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, reviews)], dtype=np.int64)
    left, bounds = truncate(ids, offsets, limit, keep)
    found = [left[a:b].tolist() for a, b in pairwise(bounds)]
    assert found == [ends_of(review, limit, keep) for review in reviews]
    assert (left.dtype, bounds.dtype) == (np.int32, np.int64)
