"""Fixtures of the tests of `celltune.models`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from tests.models.random_data import make_split


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For such small models, synchronizing threads takes longer than the computation."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train_split() -> TensorizedSplit:
    return make_split(50, 1)


@pytest.fixture
def valid_split() -> TensorizedSplit:
    return make_split(23, 2)
