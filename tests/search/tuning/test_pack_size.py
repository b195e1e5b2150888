"""The number of trials of a worker."""

from __future__ import annotations

from typing import Any

import pytest

from celltune.search.config.schema import SearchConfig
from celltune.search.tuning.pack_size import trials_per_worker
from tests.search.simulated_search import make_config


def config_of(**resources: Any) -> SearchConfig:
    return make_config(space={"cell": "gru", "hidden_size": 16}, resources=resources)


@pytest.mark.parametrize("trials", [1, 16])
def test_the_requested_number_is_used(trials: int) -> None:
    assert trials_per_worker(config_of(gpus_per_trial=1, trials_per_worker=trials)) == trials


@pytest.mark.parametrize("gpus", [0, 1])
def test_trials_are_not_packed_unless_requested(gpus: int) -> None:
    assert trials_per_worker(config_of(gpus_per_trial=gpus)) == 1
