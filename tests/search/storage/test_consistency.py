"""Ledgers that contradict the config of their experiment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import LedgerError
from celltune.search.ledger.events import (
    BudgetChanged,
    EpochReported,
    Event,
    PriorTrial,
    TrialCreated,
    WarmStarted,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.consistency import check_state
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps

SPACE = {"cell": ["gru", "lstm"], "hidden_size": {"low": 4, "high": 8}, "learning_rate": 0.01}
CONFIG = make_config(space=SPACE, first_trials=[{"hidden_size": 99}])
INSIDE = {"cell": "gru", "hidden_size": 5, "learning_rate": 0.01}


def trial(number: int = 0, **params: Any) -> TrialCreated:
    return TrialCreated(at=0.0, number=number, params={**INSIDE, **params}, max_epochs=3)


def check(*events: Event, config: SearchConfig = CONFIG) -> None:
    check_state(config, ExperimentState(events), "place/demo")


def test_trials_of_the_space_and_first_trials_are_allowed() -> None:
    check(trial(hidden_size=99), trial(1), trial(2, cell="lstm", hidden_size=8))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hidden_size": 99}, "hidden_size of trial 1 is '99', which its space does not allow"),
        ({"hidden_size": 5.5}, "hidden_size of trial 1 is '5.5'"),
        ({"hidden_size": True}, "hidden_size of trial 1 is 'True'"),
        ({"hidden_size": 10**400}, "hidden_size of trial 1 is '0x"),
        ({"cell": "mgu"}, "cell of trial 1 is 'mgu'"),
        ({"cell": None}, "cell of trial 1 is 'None'"),
        ({"learning_rate": float("nan")}, "learning_rate of trial 1 is 'nan'"),
        ({"unknown\n": 1}, r"unknown\\n of trial 1 is '1'"),
    ],
)
def test_other_hyperparameters_are_rejected(params: dict[str, Any], message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        check(trial(hidden_size=99), trial(1, **params))


def test_more_epochs_than_the_budget_are_rejected() -> None:
    budget = CONFIG.budget.max_epochs
    longer = trial(hidden_size=99).model_copy(update={"max_epochs": budget + 1})
    with pytest.raises(LedgerError, match=f"trial 0 has up to {budget + 1} epochs, its budget"):
        check(longer)
    check(longer, BudgetChanged(at=0.0, trials=1, max_epochs=budget + 1))


def test_incomplete_hyperparameters_are_rejected() -> None:
    incomplete = TrialCreated(at=0.0, number=0, params={"hidden_size": 99}, max_epochs=3)
    with pytest.raises(LedgerError, match="trial 0 does not have the hyperparameters of its space"):
        check(incomplete)
    with pytest.raises(LedgerError, match="hidden_size of trial 0 is '5'"):
        check(trial())


@pytest.mark.parametrize("missing", ["valid_accuracy", "valid_loss"])
def test_every_epoch_has_the_metrics_of_the_search(missing: str) -> None:
    metrics = {"valid_accuracy": 0.5, "valid_loss": 0.5}
    del metrics[missing]
    epoch = EpochReported(at=0.0, number=0, epoch=1, metrics=metrics, checkpoint=None)
    with pytest.raises(LedgerError, match=r"of place/demo contradicts its config: epoch 1 of tri"):
        check(trial(hidden_size=99), epoch)


@pytest.mark.parametrize("params", [{"cell": "mgu"}, {"learning_rate": 0.01}, {"new": 1}])
def test_a_warm_start_is_within_the_space(params: dict[str, Any]) -> None:
    def event(**values: Any) -> WarmStarted:
        prior = PriorTrial(number=4, params=values, status="completed", values={1: 0.5})
        return WarmStarted(at=0.0, origin="a", trials=[prior], outside=0, parameters_left_out=[])

    check(event(cell="gru"))
    with pytest.raises(LedgerError, match=f"{next(iter(params))} of trial 4 of the warm start is"):
        check(event(**params))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_simulated_search_is_consistent(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = make_config(seed=seed)
    with start_ledger(tmp_path_factory.mktemp("search") / "ledger.jsonl") as ledger:
        list(steps(make_controller(config, ledger)))
        check(*ledger.events, config=config)
