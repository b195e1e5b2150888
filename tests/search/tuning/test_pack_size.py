"""The number of trials of a worker: requested, or chosen where packed trials are faster."""

from __future__ import annotations

from typing import Any

import pytest

from celltune.models.native import library as native
from celltune.search.config.schema import SearchConfig
from celltune.search.tuning.pack_size import AUTOMATIC_TRIALS, trials_per_worker
from celltune.search.tuning.tpe import TPESampler
from tests.search.simulated_search import make_config


def config_of(hidden_size: Any = 16, cell: Any = "gru", **resources: Any) -> SearchConfig:
    return make_config(space={"cell": cell, "hidden_size": hidden_size}, resources=resources)


@pytest.mark.parametrize("trials", [1, 16])
def test_the_requested_number_is_used(trials: int) -> None:
    config = config_of(hidden_size=512, gpus_per_trial=1, trials_per_worker=trials)
    assert trials_per_worker(config) == trials


@pytest.mark.parametrize(
    ("hidden_size", "trials"),
    [
        (16, AUTOMATIC_TRIALS),
        ([8, 32], AUTOMATIC_TRIALS),
        ({"low": 4, "high": 32}, AUTOMATIC_TRIALS),
        ([8, 64], 1),
        ({"low": 4, "high": 33}, 1),
    ],
)
def test_trials_are_packed_on_the_cpu_where_this_is_faster(hidden_size: Any, trials: int) -> None:
    with native.disabled():
        assert trials_per_worker(config_of(hidden_size, cell=["gru", "mgu"])) == trials


def test_trials_are_not_packed_automatically_where_native_loops_run_or_on_a_gpu() -> None:
    if native.available():
        assert trials_per_worker(config_of()) == 1
    with native.disabled():
        assert trials_per_worker(config_of(gpus_per_trial=1)) == 1
        assert trials_per_worker(make_config(space={"cell": "gru"})) == 1


def test_an_automatic_pack_respects_the_limit_of_concurrent_trials() -> None:
    with native.disabled():
        assert trials_per_worker(config_of(concurrent_trials=3)) == 3


def test_trials_are_not_packed_automatically_if_the_sampler_cannot_propose_shapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TPESampler, "proposes_given", False)
    with native.disabled():
        assert trials_per_worker(config_of()) == 1
