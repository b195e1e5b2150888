"""The batches of a pack contain the batches of its trials."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.dataset.batching import cut_batch, training_plan
from celltune.models.packed.batches import PackedPlans
from celltune.models.training.device_split import DeviceSplit, shared_split
from tests.models.random_data import make_split

CPU = torch.device("cpu")


@given(
    st.integers(1, 30), st.integers(1, 9), st.none() | st.integers(1, 40), st.sampled_from([1, 4])
)
def test_batches_equal_those_of_each_trial(
    documents: int, size: int, budget: int | None, multiple: int
) -> None:
    split = make_split(documents, 3)
    plans = [
        training_plan(split, size, seed=seed, epoch=0, token_budget=budget) for seed in range(3)
    ]
    packed = PackedPlans(
        DeviceSplit(split, CPU), plans, step_multiple=multiple, batch_multiple=multiple
    )
    assert len(packed) == max(map(len, plans))
    for step, batch in enumerate(packed):
        assert batch.ids.shape[1] % multiple == batch.ids.shape[2] % multiple == 0
        for trial, plan in enumerate(plans):
            if step >= len(plan):
                assert batch.documents[trial] == 0
                assert not batch.present[trial].any()
                continue
            own = cut_batch(split, plan[step])
            steps, count = own.ids.shape
            assert (batch.ids[trial, :steps, :count].numpy() == own.ids).all()
            assert (batch.ids[trial, steps:] == 1).all()
            assert (batch.ids[trial, :, count:] == 1).all()
            assert (batch.sizes[trial, :count].numpy() == own.lengths).all()
            assert batch.present[trial].sum() == count == batch.documents[trial]
            assert (batch.labels[trial, :count].numpy() == own.labels).all()
            assert batch.longest[trial] == steps
            expected = torch.arange(batch.ids.shape[1])[:, None] < batch.lengths[trial]
            assert torch.equal(batch.mask[trial, :, 0], expected)


def test_trainers_share_a_split_on_a_device() -> None:
    split, other = make_split(4, 1), make_split(4, 1)
    first = shared_split(split, CPU)
    assert shared_split(split, CPU) is first
    assert shared_split(other, CPU) is not first
