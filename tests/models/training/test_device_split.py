"""Batches cut on a device equal those cut on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.dataset.batching import cut_batch, training_plan
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.training.device_split import DeviceSplit
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 3))
def test_batches_cut_on_a_device_equal_those_cut_on_the_cpu(
    documents: int, size: int, seed: int
) -> None:
    split = make_split(documents, seed, wide=True)
    for array in (split.ids, split.offsets, split.labels):
        array.flags.writeable = False
    on_device = DeviceSplit(split, torch.device("cpu"))
    for indices in training_plan(split, size, seed=seed, epoch=1):
        batch = cut_batch(split, indices)
        ids, lengths, labels, wide = on_device.batch(indices)
        assert (ids.numpy() == batch.ids).all()
        assert (lengths.numpy() == batch.lengths).all()
        assert (labels.numpy() == batch.labels).all()
        assert wide is not None
        assert batch.wide is not None
        assert (wide.numpy() == batch.wide).all()
        assert ids.dtype == lengths.dtype == labels.dtype == torch.int64


def test_trainer_gives_the_same_metrics_with_splits_on_the_device() -> None:
    def metrics(keep_on_device: bool) -> list[float]:
        trainer = Trainer(
            ModelConfig(cell="gru", hidden_size=4, embedding_size=4, dropout=0.2),
            TrainingConfig(batch_size=8, batch_tokens=60),
            make_data(make_split(40, 1), make_split(12, 2)),
            seed=1,
            keep_on_device=keep_on_device,
        )
        return [value for _ in range(2) for value in (*trainer.train_epoch(), trainer.epoch)]

    assert metrics(keep_on_device=True) == metrics(keep_on_device=False)


def test_token_budget_makes_smaller_batches() -> None:
    split = make_split(40, 1)
    plan = training_plan(split, 8, seed=1, epoch=0, token_budget=30)
    sizes = [cut_batch(split, indices).ids.size for indices in plan]
    assert max(sizes) <= 30
    assert len(sizes) > 5
    assert np.sum(sizes) >= split.tokens
