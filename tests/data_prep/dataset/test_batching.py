from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.dataset.batching import Batch, batches, ordered_batches
from celltune.data_prep.dataset.tensorized import PAD, TensorizedSplit
from celltune.data_prep.errors import DataError

MakeSplit = Callable[[Iterable[int]], TensorizedSplit]
Cut = Callable[[TensorizedSplit, int], Iterable[Batch]]

# make_split only holds a function, so one instance serves all examples.
shared_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def trained(split: TensorizedSplit, size: int) -> Iterable[Batch]:
    return batches(split, size, seed=3, epoch=1)


def reviews(found: Iterable[Batch]) -> list[list[int]]:
    return [batch.ids[0].tolist() for batch in found]


@shared_fixture
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 70))
@pytest.mark.parametrize("cut", [trained, ordered_batches])
def test_every_review_comes_once_and_whole(
    make_split: MakeSplit, cut: Cut, lengths: list[int], size: int
) -> None:
    split = make_split(lengths)
    found = list(cut(split, size))
    assert sorted(chain.from_iterable(reviews(found))) == [i + 2 for i in range(len(lengths))]
    assert sum(len(batch) == min(size, len(lengths)) for batch in found) >= len(lengths) // size
    for batch in found:
        steps = np.arange(len(batch.ids))[:, None]
        number = batch.ids[0] - 2
        assert batch.ids.dtype == batch.lengths.dtype == batch.labels.dtype == np.int64
        assert len(batch.ids) == batch.lengths.max()
        assert (batch.lengths == split.lengths[number]).all()
        assert (batch.labels == split.labels[number]).all()
        assert (batch.ids == np.where(steps < batch.lengths, number + 2, PAD)).all()


def test_seed_and_epoch_decide_the_batches(make_split: MakeSplit) -> None:
    split = make_split(np.random.default_rng(1).integers(5, 200, 2_000))

    def epoch(seed: int, number: int) -> list[list[int]]:
        return reviews(batches(split, 16, seed=seed, epoch=number))

    assert epoch(1, 0) == epoch(1, 0)
    together = [{frozenset(batch) for batch in epoch(s, e)} for s, e in ((1, 0), (1, 1), (2, 0))]
    for other in together[1:]:
        # Not only their order changes: other reviews stand side by side.
        assert len(together[0] & other) <= 2


def test_evaluation_goes_from_short_to_long_and_never_changes(make_split: MakeSplit) -> None:
    split = make_split([9, 2, 5, 7, 1])
    found = [batch.lengths.tolist() for batch in ordered_batches(split, 2)]
    assert found == [[1, 2], [5, 7], [9]]


def test_the_small_batch_stands_anywhere(make_split: MakeSplit) -> None:
    split = make_split(range(1, 66))
    longest = [
        min(batches(split, 8, seed=1, epoch=epoch), key=len).lengths.max() for epoch in range(20)
    ]
    assert len(set(longest)) > 3


def test_padding_stays_under_five_percent_on_lengths_like_imdbs(make_split: MakeSplit) -> None:
    # IMDB's tokens: median about 200, a long tail.
    lengths = np.random.default_rng(1).lognormal(5.35, 0.65, 4_000).astype(int).clip(10, 2_500)
    for limit in (256, 512):
        split = make_split(lengths.clip(max=limit))
        read = sum(batch.ids.size for batch in batches(split, 64, seed=1, epoch=0))
        assert 1 - split.tokens / read <= 0.05


def test_batches_belong_to_the_receiver(make_split: MakeSplit) -> None:
    split = make_split([3, 4])
    for array in (split.ids, split.offsets, split.labels):
        array.flags.writeable = False
    batch = next(ordered_batches(split, 2))
    for copy in (batch.ids, batch.lengths, batch.labels):
        copy[:] = 0
    assert split.ids.tolist() == [2, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("cut", [trained, ordered_batches])
def test_a_batch_of_nothing_is_refused(make_split: MakeSplit, cut: Cut) -> None:
    with pytest.raises(DataError, match=r"a batch size of 0 can't be used; .* at least 1"):
        list(cut(make_split([1]), 0))


@shared_fixture
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 70), st.integers(1, 200))
@pytest.mark.parametrize("ordered", [False, True])
def test_a_token_budget_is_kept_and_used(
    make_split: MakeSplit, ordered: bool, lengths: list[int], size: int, budget: int
) -> None:
    split = make_split(lengths)
    found = list(
        ordered_batches(split, size, token_budget=budget)
        if ordered
        else batches(split, size, seed=3, epoch=1, token_budget=budget)
    )
    assert sorted(chain.from_iterable(reviews(found))) == [i + 2 for i in range(len(lengths))]
    for batch in found:
        assert len(batch) <= size
        assert batch.ids.size <= budget or len(batch) == 1
    if ordered:
        for batch, following in pairwise(found):
            # A batch ends only because one more would be too much.
            more = following.lengths[0] * (len(batch) + 1)
            assert len(batch) == size or more > budget


def test_a_budget_of_nothing_is_refused(make_split: MakeSplit) -> None:
    with pytest.raises(DataError, match=r"a token budget of 0 can't be used; .* at least 1"):
        batches(make_split([1]), 4, seed=1, epoch=0, token_budget=0)
