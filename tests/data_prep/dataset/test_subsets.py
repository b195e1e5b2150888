from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.subsets import concatenate, stratified_subset
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test, read_documents
from celltune.data_prep.text.tokenizers import basic_english
from celltune.data_prep.text.truncation import without_unknown
from tests.models.model_splits import make_split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))


REVIEWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8)


def texts(split: TensorizedSplit) -> list[tuple[list[int], int]]:
    parts = [split.ids[a:b].tolist() for a, b in pairwise(split.offsets)]
    return list(zip(parts, split.labels.tolist(), strict=True))


def test_joined_splits_hold_the_reviews_of_both() -> None:
    first, second = make_split(7, 1), make_split(5, 2)
    assert texts(concatenate(first, second)) == texts(first) + texts(second)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_thinned_split_keeps_shares_of_classes_and_the_order(share: float) -> None:
    split = make_split(200, 3, classes=3)
    thin = stratified_subset(split, share, seed=1)
    for label in range(3):
        assert sum(thin.labels == label) == max(1, round(share * sum(split.labels == label)))
    left = iter(texts(split))
    assert all(review in left for review in texts(thin))
    assert texts(thin) == texts(stratified_subset(split, share, seed=1))
    assert texts(thin) != texts(stratified_subset(split, share, seed=2))


def test_all_reviews_are_the_split_itself() -> None:
    split = make_split(10, 1)
    assert stratified_subset(split, 1, seed=1) is split


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_no_share_at_all_is_refused(share: float) -> None:
    with pytest.raises(DataError, match=f"a share of {share} of the reviews can't be taken"):
        stratified_subset(make_split(10, 1), share, seed=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(REVIEWS)
def test_unknown_words_are_left_out_and_no_review_gets_empty(reviews: list[list[int]]) -> None:
    ids = np.array([token for review in reviews for token in review], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, reviews)], dtype=np.int64)
    left, bounds = without_unknown(ids, offsets)
    found = [left[a:b].tolist() for a, b in pairwise(bounds)]
    assert found == [[token for token in review if token] or [0] for review in reviews]


def test_the_texts_of_the_parts_are_those_of_the_prepared_ones() -> None:
    config = DataConfig(source="synthetic", reviews=60, test_size=12, max_tokens=200)
    data, test, written = prepare(config), prepare_test(config), read_documents(config)
    known = {word: index for index, word in enumerate(data.words)}
    for split, rows in (
        (data.train, written.train),
        (data.valid, written.valid),
        (test.split, written.test),
    ):
        ids = [[known.get(word, 0) for word in basic_english(row.text)] for row in rows]
        assert texts(split) == list(zip(ids, [row.label for row in rows], strict=True))


def test_texts_without_a_test_part_are_refused() -> None:
    with pytest.raises(DataError, match=r"the config names no test part; set data\.test_path"):
        read_documents(DataConfig(source="synthetic", reviews=60))
