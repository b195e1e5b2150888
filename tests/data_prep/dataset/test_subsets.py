from __future__ import annotations

from dataclasses import replace
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
from celltune.data_prep.text.tokenizers import BasicEnglish
from celltune.data_prep.text.truncation import drop_unknown
from tests.models.random_data import make_split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))


DOCUMENTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8)


def texts(split: TensorizedSplit) -> list[tuple[list[int], int]]:
    ids = [split.ids[a:b].tolist() for a, b in pairwise(split.offsets)]
    return list(zip(ids, split.labels.tolist(), strict=True))


def test_concatenation_contains_the_documents_of_both_splits() -> None:
    first, second = make_split(7, 1), make_split(5, 2)
    assert texts(concatenate(first, second)) == texts(first) + texts(second)


def test_concatenation_and_subset_keep_the_outputs_of_the_wide_part() -> None:
    first, second = (
        replace(split, wide=np.arange(len(split), dtype=np.float32)[:, None])
        for split in (make_split(7, 1), make_split(5, 2))
    )
    both = concatenate(first, second).wide
    assert both is not None
    assert both[:, 0].tolist() == [*range(7), *range(5)]
    assert concatenate(first, make_split(5, 2)).wide is None
    split = make_split(60, 3)
    marked = replace(split, wide=split.labels[:, None].astype(np.float32))
    subset = stratified_subset(marked, 0.5, seed=1)
    assert subset.wide is not None
    assert subset.wide[:, 0].tolist() == subset.labels.tolist()
    assert stratified_subset(split, 0.5, seed=1).wide is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_stratified_subset_keeps_class_shares_and_order(share: float) -> None:
    split = make_split(200, 3, classes=3)
    subset = stratified_subset(split, share, seed=1)
    for label in range(3):
        assert sum(subset.labels == label) == max(1, round(share * sum(split.labels == label)))
    remaining = iter(texts(split))
    assert all(document in remaining for document in texts(subset))
    assert texts(subset) == texts(stratified_subset(split, share, seed=1))
    assert texts(subset) != texts(stratified_subset(split, share, seed=2))


def test_share_of_one_returns_the_split_itself() -> None:
    split = make_split(10, 1)
    assert stratified_subset(split, 1, seed=1) is split


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_share_outside_of_its_range_is_rejected(share: float) -> None:
    with pytest.raises(DataError, match=rf"documents is {share}\. It has to be above 0"):
        stratified_subset(make_split(10, 1), share, seed=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_dropping_unknown_words_leaves_no_document_empty(documents: list[list[int]]) -> None:
    ids = np.array([token for document in documents for token in document], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    ids, offsets = drop_unknown(ids, offsets)
    left = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert left == [[token for token in document if token] or [0] for document in documents]


def test_texts_of_the_splits_match_the_prepared_splits() -> None:
    tokenizer = BasicEnglish()
    config = DataConfig(source="synthetic", reviews=60, test_size=12, max_tokens=200)
    data, test, written = prepare(config), prepare_test(config), read_documents(config)
    known = {word: index for index, word in enumerate(data.words)}
    for split, rows in (
        (data.train, written.train),
        (data.valid, written.valid),
        (test.split, written.test),
    ):
        ids = [[known.get(word, 0) for word in tokenizer(row.text)] for row in rows]
        assert texts(split) == list(zip(ids, [row.label for row in rows], strict=True))


def test_texts_without_a_test_split_are_rejected() -> None:
    with pytest.raises(DataError, match=r"the config defines no test split\. Set data\.test_path"):
        read_documents(DataConfig(source="synthetic", reviews=60))
