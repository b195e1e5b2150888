from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.wide.folds import assign_folds

DOCUMENTS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2), st.sampled_from([None, *"xyz"])),
    min_size=2,
    max_size=40,
)


def fold_sizes(labels: list[int], folds: int, seed: int = 1) -> np.ndarray:
    texts = [str(index) for index in range(len(labels))]
    assigned = assign_folds(texts, np.array(labels), [None] * len(labels), folds=folds, seed=seed)
    counts = np.zeros((assigned.max() + 1, max(labels) + 1), int)
    np.add.at(counts, (assigned, labels), 1)
    return counts


@given(DOCUMENTS, st.integers(2, 6), st.integers(0, 3))
def test_documents_that_belong_together_are_in_the_same_fold(
    documents: list[tuple[str, int, str | None]], folds: int, seed: int
) -> None:
    texts, labels, groups = (list(column) for column in zip(*documents, strict=True))
    try:
        assigned = assign_folds(texts, np.array(labels), groups, folds=folds, seed=seed)
    except DataError:
        return
    for keys in (texts, groups):
        folds_of: dict[str, set[int]] = {}
        for key, fold in zip(keys, assigned.tolist(), strict=True):
            if key is not None:
                folds_of.setdefault(key, set()).add(fold)
        assert all(len(found) == 1 for found in folds_of.values())
    used = set(assigned.tolist())
    assert used == set(range(len(used)))
    assert 2 <= len(used) <= folds
    again = assign_folds(texts, np.array(labels), groups, folds=folds, seed=seed)
    assert assigned.tolist() == again.tolist()


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(2, 5))
def test_folds_have_equal_sizes_and_class_shares(labels: list[int], folds: int) -> None:
    counts = fold_sizes(labels, folds)
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 2


def test_a_small_data_set_has_fewer_folds() -> None:
    assert fold_sizes([0, 1, 1], 5).sum(axis=1).tolist() == [1, 1, 1]


def test_seed_changes_the_folds() -> None:
    texts, labels = [str(index) for index in range(40)], np.arange(40) % 2
    first, second = (
        assign_folds(texts, labels, [None] * 40, folds=4, seed=seed).tolist() for seed in (1, 2)
    )
    assert first != second


def test_documents_that_all_belong_together_are_rejected() -> None:
    with pytest.raises(DataError, match="but the 3 training documents have the same text or are"):
        assign_folds(["a", "a", "b"], np.array([0, 1, 1]), [None, "x", "x"], folds=5, seed=1)
