from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from celltune.search.config.schema import EarlyStopping
from celltune.search.tuning.asha import Rungs, SuccessiveHalving, make_rungs
from tests.search.support import make_config

REPORTS = st.lists(
    st.tuples(st.integers(0, 9), st.floats(-100, 100, allow_nan=False)), max_size=120
)


@given(REPORTS, st.integers(1, 3), st.sampled_from([1.2, 1.5, 2.0, 3.0, 4.0]), st.integers(3, 30))
def test_decides_as_ray_tunes_asha_does(
    reports: list[tuple[int, float]], grace_period: int, factor: float, max_epochs: int
) -> None:
    ours = SuccessiveHalving(
        grace_period=grace_period, reduction_factor=factor, max_epochs=max_epochs
    )
    rays = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="value",
        mode="max",
        max_t=max_epochs,
        grace_period=grace_period,
        reduction_factor=factor,
    )
    epochs = dict.fromkeys(range(10), 0)
    for number in epochs:
        rays.on_trial_add(None, SimpleNamespace(trial_id=number))
    for number, value in reports:
        if number not in epochs:
            continue
        epochs[number] += 1
        if epochs[number] >= max_epochs:
            del epochs[number]
            continue
        trial = SimpleNamespace(trial_id=number)
        action = rays.on_trial_result(None, trial, {"epoch": epochs[number], "value": value})
        goes_on = ours.record(number, epochs[number], value)
        assert goes_on == (action == TrialScheduler.CONTINUE)
        if not goes_on:
            del epochs[number]


@pytest.mark.parametrize(
    ("grace_period", "factor", "max_epochs", "rungs"),
    [
        (1, 2.0, 8, [1, 2, 4]),
        (1, 2.0, 4, [1, 2]),
        (2, 3.0, 20, [2, 6, 18]),
        (1, 1.5, 5, [1, 2, 3, 4]),
        (4, 2.0, 4, []),
    ],
)
def test_rungs(grace_period: int, factor: float, max_epochs: int, rungs: list[int]) -> None:
    asha = SuccessiveHalving(
        grace_period=grace_period, reduction_factor=factor, max_epochs=max_epochs
    )
    assert [rung.epoch for rung in asha.rungs] == rungs


def test_a_trial_is_judged_by_those_that_came_before_it() -> None:
    asha = SuccessiveHalving(grace_period=1, reduction_factor=2, max_epochs=4)
    assert asha.record(0, 1, 0.5)
    assert asha.record(1, 1, 0.5)
    assert not asha.record(2, 1, 0.49)
    assert asha.record(3, 1, 0.6)
    assert asha.record(0, 2, 0.1)
    assert not asha.record(3, 2, 0.05)
    assert asha.record(0, 3, 0.0)


def metrics(accuracy: float, loss: float) -> dict[str, float]:
    return {"valid_accuracy": accuracy, "valid_loss": loss}


def test_rungs_compare_losses_unless_told_otherwise() -> None:
    by_loss = Rungs(EarlyStopping(reduction_factor=2), 4)
    by_accuracy = Rungs(EarlyStopping(reduction_factor=2, by="valid_accuracy"), 4)
    for rungs in (by_loss, by_accuracy):
        assert rungs.epochs == [1, 2]
        assert rungs.take(0, 1, metrics(0.50, 0.60))
    assert by_loss.take(1, 1, metrics(0.49, 0.55))
    assert not by_accuracy.take(1, 1, metrics(0.49, 0.55))
    assert not by_loss.take(2, 1, metrics(0.70, 0.65))
    assert by_accuracy.take(2, 1, metrics(0.70, 0.65))


def test_a_rung_compares_the_best_until_there() -> None:
    rungs = Rungs(EarlyStopping(reduction_factor=2), 4)
    for epoch, loss in ((1, 0.5), (2, 0.4)):
        assert rungs.take(0, epoch, metrics(0.8, loss))
    assert rungs.take(1, 1, metrics(0.9, 0.3))
    assert rungs.take(1, 2, metrics(0.9, 0.7)), "it was better an epoch ago"
    assert rungs.would_pass(1)
    assert not rungs.would_pass(0)


def test_rungs_are_set_up_as_the_config_says() -> None:
    assert make_rungs(make_config(early_stopping=None)) is None
    rungs = make_rungs(make_config(budget={"trials": 2, "max_epochs": 9}))
    assert rungs is not None
    assert rungs.epochs == [1, 2, 4, 8]
