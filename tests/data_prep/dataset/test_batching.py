from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.dataset.batching import (
    Batch,
    DocumentIndices,
    cut_batch,
    evaluation_plan,
    training_plan,
)
from celltune.data_prep.dataset.tensorized import PAD, TensorizedSplit
from celltune.data_prep.errors import DataError

MakeSplit = Callable[[Iterable[int]], TensorizedSplit]
MakePlan = Callable[[TensorizedSplit, int], list[DocumentIndices]]

# make_split returns a stateless function, so all examples can share one.
shared_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def plan_of_epoch(split: TensorizedSplit, size: int) -> list[DocumentIndices]:
    return training_plan(split, size, seed=3, epoch=1)


def cut(split: TensorizedSplit, plan: list[DocumentIndices]) -> list[Batch]:
    return [cut_batch(split, indices) for indices in plan]


def documents(batches: Iterable[Batch]) -> list[list[int]]:
    """Return the documents of each batch; in `make_split`, document i consists of ids i + 2."""
    return [(batch.ids[0] - 2).tolist() for batch in batches]


@shared_fixture
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 70))
@pytest.mark.parametrize("make_plan", [plan_of_epoch, evaluation_plan])
def test_batches_contain_every_document_once_and_completely(
    make_split: MakeSplit, make_plan: MakePlan, lengths: list[int], size: int
) -> None:
    split = make_split(lengths)
    batches = cut(split, make_plan(split, size))
    assert sorted(chain.from_iterable(documents(batches))) == list(range(len(lengths)))
    assert sum(len(batch) == min(size, len(lengths)) for batch in batches) >= len(lengths) // size
    for batch in batches:
        steps = np.arange(len(batch.ids))[:, None]
        index = batch.ids[0] - 2
        assert batch.ids.dtype == batch.lengths.dtype == batch.labels.dtype == np.int64
        assert len(batch.ids) == batch.lengths.max()
        assert (batch.lengths == split.lengths[index]).all()
        assert (batch.labels == split.labels[index]).all()
        assert (batch.ids == np.where(steps < batch.lengths, index + 2, PAD)).all()


def test_seed_and_epoch_determine_the_training_batches(make_split: MakeSplit) -> None:
    split = make_split(np.random.default_rng(1).integers(5, 200, 2_000))

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in training_plan(split, 16, seed=seed, epoch=epoch)]

    assert plan(1, 0) == plan(1, 0)
    groups = [{frozenset(batch) for batch in plan(s, e)} for s, e in ((1, 0), (1, 1), (2, 0))]
    for other in groups[1:]:
        # The composition of batches changes, not only their order.
        assert len(groups[0] & other) <= 2


def test_evaluation_batches_are_sorted_by_length(make_split: MakeSplit) -> None:
    split = make_split([9, 2, 5, 7, 1])
    plan = evaluation_plan(split, 2)
    assert [split.lengths[indices].tolist() for indices in plan] == [[1, 2], [5, 7], [9]]


def test_small_batch_has_a_random_position(make_split: MakeSplit) -> None:
    split = make_split(range(1, 66))
    longest = [
        split.lengths[min(training_plan(split, 8, seed=1, epoch=epoch), key=len)].max()
        for epoch in range(20)
    ]
    assert len(set(longest)) > 3


def test_padding_is_below_five_percent_on_lengths_like_imdb(make_split: MakeSplit) -> None:
    # IMDB's tokens: median about 200, a long tail.
    lengths = np.random.default_rng(1).lognormal(5.35, 0.65, 4_000).astype(int).clip(10, 2_500)
    for limit in (256, 512):
        split = make_split(lengths.clip(max=limit))
        plan = training_plan(split, 64, seed=1, epoch=0)
        padded = sum(int(split.lengths[indices].max()) * len(indices) for indices in plan)
        assert 1 - split.tokens / padded <= 0.05


def test_batch_arrays_are_writable_copies(make_split: MakeSplit) -> None:
    split = make_split([3, 4])
    for array in (split.ids, split.offsets, split.labels):
        array.flags.writeable = False
    (batch,) = cut(split, evaluation_plan(split, 2))
    for copy in (batch.ids, batch.lengths, batch.labels):
        copy[:] = 0
    assert split.ids.tolist() == [2, 2, 2, 3, 3, 3, 3]


@shared_fixture
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 70), st.integers(1, 200))
@pytest.mark.parametrize("sorted_by_length", [False, True])
def test_token_budget_limits_batches_and_is_used(
    make_split: MakeSplit, sorted_by_length: bool, lengths: list[int], size: int, budget: int
) -> None:
    split = make_split(lengths)
    plan = (
        evaluation_plan(split, size, token_budget=budget)
        if sorted_by_length
        else training_plan(split, size, seed=3, epoch=1, token_budget=budget)
    )
    batches = cut(split, plan)
    assert sorted(chain.from_iterable(documents(batches))) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= size
        assert batch.ids.size <= budget or len(batch) == 1
    if sorted_by_length:
        for batch, following in pairwise(batches):
            # A batch ends only if the next document would exceed a limit.
            enlarged = following.lengths[0] * (len(batch) + 1)
            assert len(batch) == size or enlarged > budget


@pytest.mark.parametrize("make_plan", [plan_of_epoch, evaluation_plan])
def test_plans_reject_batch_size_zero(make_split: MakeSplit, make_plan: MakePlan) -> None:
    with pytest.raises(DataError, match=r"The batch size is 0\. It has to be at least 1\."):
        make_plan(make_split([1]), 0)


def test_plans_reject_token_budget_zero(make_split: MakeSplit) -> None:
    with pytest.raises(DataError, match=r"The token budget is 0\. It has to be at least 1\."):
        training_plan(make_split([1]), 4, seed=1, epoch=0, token_budget=0)


def test_a_batch_has_the_outputs_of_the_wide_part_of_its_documents(make_split: MakeSplit) -> None:
    split = make_split([3, 1, 2])
    assert cut_batch(split, np.array([2, 0])).wide is None
    marked = replace(split, wide=np.array([[0], [1], [2]], dtype=np.float32))
    wide = cut_batch(marked, np.array([2, 0])).wide
    assert wide is not None
    assert wide.tolist() == [[2], [0]]
