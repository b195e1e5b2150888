from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from celltune.search.tuning.asha import Asha, AshaSettings
from celltune.search.tuning.base import make_rule
from celltune.testing.early_stopping import EarlyStoppingContract
from tests.search.simulated_search import make_config

REPORTS = st.lists(
    st.tuples(st.integers(0, 9), st.floats(-100, 100, allow_nan=False)), max_size=120
)


class TestContract(EarlyStoppingContract):
    rule = "asha"
    settings: ClassVar = {"grace_period": 1, "reduction_factor": 2}


def asha(max_epochs: int, **settings: Any) -> Asha:
    return Asha(AshaSettings(**settings), max_epochs)


def metrics(accuracy: float, loss: float) -> dict[str, float]:
    return {"valid_accuracy": accuracy, "valid_loss": loss}


@given(REPORTS, st.integers(1, 3), st.sampled_from([1.2, 1.5, 2.0, 3.0, 4.0]), st.integers(3, 30))
def test_decides_like_ray_tunes_asha(
    reports: list[tuple[int, float]], grace_period: int, factor: float, max_epochs: int
) -> None:
    rule = asha(max_epochs, grace_period=grace_period, reduction_factor=factor, by="valid_accuracy")
    reference = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="value",
        mode="max",
        max_t=max_epochs,
        grace_period=grace_period,
        reduction_factor=factor,
    )
    epochs = dict.fromkeys(range(10), 0)
    best: dict[int, float] = {}
    for number in epochs:
        reference.on_trial_add(None, SimpleNamespace(trial_id=number))
    for number, value in reports:
        if number not in epochs:
            continue
        epochs[number] += 1
        if epochs[number] >= max_epochs:
            del epochs[number]
            continue
        best[number] = max(value, best.get(number, value))
        action = reference.on_trial_result(
            None,
            SimpleNamespace(trial_id=number),
            {"epoch": epochs[number], "value": best[number]},
        )
        continues = rule.take(number, epochs[number], {"valid_accuracy": value})
        assert continues == (action == TrialScheduler.CONTINUE)
        if not continues:
            del epochs[number]


@pytest.mark.parametrize(
    ("grace_period", "factor", "max_epochs", "rungs"),
    [
        (1, 2.0, 8, (1, 2, 4)),
        (1, 2.0, 4, (1, 2)),
        (2, 3.0, 20, (2, 6, 18)),
        (1, 1.5, 5, (1, 2, 3, 4)),
        (4, 2.0, 4, ()),
    ],
)
def test_rungs(grace_period: int, factor: float, max_epochs: int, rungs: tuple[int, ...]) -> None:
    rule = asha(max_epochs, grace_period=grace_period, reduction_factor=factor)
    assert rule.rungs == rungs


def test_compares_a_trial_with_those_that_reached_the_rung_before_it() -> None:
    rule = asha(4, reduction_factor=2, by="valid_accuracy")
    reports = [
        (0, 1, 0.5, True),
        (1, 1, 0.5, True),
        (2, 1, 0.49, False),
        (3, 1, 0.6, True),
        (0, 2, 0.7, True),
        (3, 2, 0.65, False),
        (0, 3, 0.0, True),
    ]
    for trial, epoch, accuracy, continues in reports:
        assert rule.take(trial, epoch, {"valid_accuracy": accuracy}) == continues


def test_compares_losses_by_default() -> None:
    by_loss = asha(4, reduction_factor=2)
    by_accuracy = asha(4, reduction_factor=2, by="valid_accuracy")
    for rule in (by_loss, by_accuracy):
        assert rule.take(0, 1, metrics(0.50, 0.60))
    assert by_loss.take(1, 1, metrics(0.49, 0.55))
    assert not by_accuracy.take(1, 1, metrics(0.49, 0.55))
    assert not by_loss.take(2, 1, metrics(0.70, 0.65))
    assert by_accuracy.take(2, 1, metrics(0.70, 0.65))


def test_compares_the_best_value_so_far() -> None:
    rule = asha(4, reduction_factor=2)
    for epoch, loss in ((1, 0.5), (2, 0.4)):
        assert rule.take(0, epoch, metrics(0.8, loss))
    assert rule.take(1, 1, metrics(0.9, 0.3))
    assert rule.take(1, 2, metrics(0.9, 0.7)), "it was better one epoch before"
    assert rule.may_extend(1)
    assert not rule.may_extend(0)


def test_make_rule_uses_the_config() -> None:
    assert make_rule(make_config(early_stopping=None)) is None
    rule = make_rule(make_config(budget={"trials": 2, "max_epochs": 9}))
    assert rule is not None
    assert rule.rungs == (1, 2, 4, 8)
