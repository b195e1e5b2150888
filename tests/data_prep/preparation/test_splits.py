from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation import splits
from celltune.data_prep.preparation.splits import stratified_split

LABELS = st.lists(st.integers(2, 60), min_size=2, max_size=6).flatmap(
    lambda counts: st.permutations(np.repeat(np.arange(len(counts)), counts).tolist())
)


def labels_of(*counts: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


@given(LABELS, st.data())
def test_splits_are_exact_disjoint_and_stratified(labels: list[int], data: st.DataObject) -> None:
    array = np.array(labels, dtype=np.int64)
    total, counts = len(array), np.bincount(array)
    # From this size on, every class has at least one document in the training split.
    train_size = data.draw(st.integers(-(-total // counts.min()), total - 1))
    valid_size = data.draw(st.integers(1, total - train_size))
    train, valid, _ = stratified_split(
        array, train_size, valid_size, seed=data.draw(st.integers(0, 9))
    )
    assert (len(train), len(valid)) == (train_size, valid_size)
    assert train.dtype == valid.dtype == np.int64
    assert not set(train) & set(valid)
    for indices in (train, valid):
        assert (np.diff(indices) > 0).all()
        actual = np.bincount(array[indices], minlength=len(counts))
        assert (np.abs(actual - counts * len(indices) / total) < 1).all()


@given(st.integers(0, 2**32), st.floats(0.01, 0.9))
def test_seed_determines_the_split_and_share_is_rounded(seed: int, share: float) -> None:
    labels = labels_of(60, 40)
    train, valid, _ = stratified_split(labels, None, share, seed)
    again = stratified_split(labels, None, share, seed)
    assert (train == again[0]).all()
    assert (valid == again[1]).all()
    assert len(valid) == max(1, round(100 * share))
    assert len(train) + len(valid) == 100


def test_another_seed_gives_another_split() -> None:
    labels = labels_of(500, 500)
    assert (
        stratified_split(labels, None, 0.2, 1)[1] != stratified_split(labels, None, 0.2, 2)[1]
    ).any()


def test_validation_does_not_depend_on_train_size() -> None:
    labels = labels_of(50, 50)
    small, large = stratified_split(labels, 20, 30, 1), stratified_split(labels, 60, 30, 1)
    assert (small[1] == large[1]).all()
    assert set(small[0]) < set(large[0])


@pytest.mark.parametrize(
    ("counts", "train_size", "valid_size", "message"),
    [
        ((5,), None, 0.2, "All 5 documents are of class 0. .* at least two classes"),
        ((), None, 0.2, "There are no documents. .* at least two classes"),
        (
            (5, 5),
            8,
            3,
            "8 and data.valid_size 3 need 11. Reduce data.train_size or data.valid_size.$",
        ),
        ((5, 5), None, 10, "10, which leaves none to train on. Reduce data.valid_size.$"),
        (
            (99, 1),
            3,
            1,
            "3 documents would contain none of class 1, which has 1 of 100 .* Increase data.train_",
        ),
        (
            (99, 1),
            None,
            97,
            "3 documents would contain none of class 1, .* documents. Reduce data.valid_size, or",
        ),
    ],
)
def test_rejects_impossible_split(
    counts: tuple[int, ...], train_size: int | None, valid_size: float, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        stratified_split(labels_of(*counts), train_size, valid_size, 1)


@pytest.mark.parametrize(
    ("train_size", "valid_size", "test_size", "keys"),
    [
        (None, 2, 9, "data.valid_size or data.test_size"),
        (8, 2, 1, "data.train_size, data.valid_size or data.test_size"),
    ],
)
def test_too_few_documents_names_the_sizes_that_can_be_reduced(
    train_size: int | None, valid_size: int, test_size: int, keys: str
) -> None:
    with pytest.raises(DataError, match=f"Reduce {keys}.$"):
        stratified_split(labels_of(5, 5), train_size, valid_size, 1, test_size=test_size)


def reference_turns(counts: list[int]) -> list[int]:
    """The algorithm as Tijdeman describes it, which looks at every class in every turn."""
    total, slack = sum(counts), 2 * len(counts) - 2
    assigned, turns = [0] * len(counts), []
    for turn in range(1, total + 1):
        due = [turn * count - total * done for count, done in zip(counts, assigned, strict=True)]
        eligible = [index for index, debt in enumerate(due) if slack * debt >= total]
        chosen = min(eligible, key=lambda i: ((slack - 1) * total - slack * due[i]) / counts[i])
        assigned[chosen] += 1
        turns.append(chosen)
    return turns


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8))
def test_order_of_classes_is_that_of_the_reference(counts: list[int]) -> None:
    assert splits._class_turns(counts).tolist() == reference_turns(counts)


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=8),
    st.floats(0.1, 0.5),
    st.sampled_from([0, 0.2]),
    st.integers(1, 3),
)
def test_each_class_has_its_least_number(
    counts: list[int], valid_size: float, test_size: float, least: int
) -> None:
    labels, classes = labels_of(*counts), len(counts)
    try:
        parts = stratified_split(
            labels, None, valid_size, 1, test_size=test_size, min_per_class=least
        )
    except DataError:
        sizes = [max(1, round(size * len(labels))) for size in (valid_size, test_size) if size]
        assert len(labels) - sum(sizes) < classes
        return
    train, valid, test = (np.bincount(labels[part], minlength=classes) for part in parts)
    assert sum(map(len, parts)) == len(labels) == len(set(np.concatenate(parts).tolist()))
    assert (train >= 1).all()
    needed = np.minimum(least, np.array(counts) - 1)
    if valid.sum() >= least * classes:
        assert (valid >= needed).all()
    if test.sum() >= least * classes:
        assert (test >= np.minimum(least, np.array(counts) - 1 - needed)).all()


def test_rare_classes_are_in_training_and_validation() -> None:
    labels = labels_of(500, 300, 2, 1)
    without = stratified_split(labels, None, 0.02, 1)
    assert np.bincount(labels[without.valid], minlength=4).tolist()[2:] == [0, 0]
    parts = stratified_split(labels, None, 0.02, 1, min_per_class=1)
    counts = [np.bincount(labels[part], minlength=4).tolist() for part in parts[:2]]
    assert counts[0][2:] == [1, 1]
    assert counts[1][2:] == [1, 0]
    assert len(parts.valid) == len(without.valid)


def test_a_thousand_classes_are_split_quickly() -> None:
    labels = np.arange(20_000) % 1_000
    parts = stratified_split(labels, None, 0.2, 1, min_per_class=1)
    assert (np.bincount(labels[parts.valid], minlength=1_000) == 4).all()


def test_own_validation_split_needs_none_of_the_documents() -> None:
    train, valid, test = stratified_split(labels_of(9, 9), None, 0, 1, test_size=4)
    assert (len(train), len(valid), len(test)) == (14, 0, 4)
    message = r"data\.test_size takes 18, which leaves none .* Reduce data\.test_size\.$"
    with pytest.raises(DataError, match=message):
        stratified_split(labels_of(9, 9), None, 0, 1, test_size=18)
