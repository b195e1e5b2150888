from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.extensions import METRICS
from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialCreated
from celltune.search.ledger.order import Standing, sort_keys
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.ranking import (
    RankedSearch,
    label_of,
    passed_over_sentence,
    ranking,
)

Trial = tuple[str, float, float | None, float | None]
"""The hyperparameter `wide`, the accuracy, and the gain over the wide part with its error."""

WIDE_ONLY: Trial = ("only", 0.8, None, None)


def state_of(
    *trials: Trial, documents: int | None = 5000, losses: Any = (), data: str = "f"
) -> ExperimentState:
    events: list[Event] = [ExperimentCreated(at=0.0, fingerprint=data, valid_reviews=documents)]
    for number, (wide, accuracy, gain, error) in enumerate(trials):
        params: Mapping[str, Any] = {"wide": wide}
        events.append(TrialCreated(at=0.0, number=number, params=params, max_epochs=1))
        measured = {} if gain is None else {"wide_gain": gain, "wide_gain_error": error}
        loss = losses[number] if losses else 1 - accuracy
        metrics = {"valid_accuracy": accuracy, "valid_loss": loss, **measured}
        events.append(
            EpochReported.model_validate(
                {"at": 1.0, "number": number, "epoch": 1, "metrics": metrics, "checkpoint": None}
            )
        )
    return ExperimentState(events)


def order_of(*trials: Trial, **settings: Any) -> list[int]:
    state = state_of(*trials, **settings)
    return [trial.number for trial in state.ranked("valid_accuracy")]


def test_trials_that_do_not_improve_on_the_wide_part_come_after_it() -> None:
    trials: list[Trial] = [
        ("add", 0.9, 0.01, 0.02),  # the gain is noise
        WIDE_ONLY,
        ("add", 0.82, 0.05, 0.01),
        ("add", 0.85, 0.05, 0.01),
        ("add", 0.79, 0.05, 0.01),  # a smaller loss, but not a better metric
        ("none", 0.81, None, None),
        ("none", 0.8, None, None),
    ]
    assert order_of(*trials) == [3, 2, 5, 1, 0, 6, 4]
    state = state_of(*trials)
    labels = [label_of(state, trial, "valid_accuracy") for trial in state.trials]
    no_better = "not better than the wide part beyond noise"
    assert labels == [no_better, "", "", "", no_better, "", no_better]
    rows = ranking([RankedSearch("one", state)], "valid_accuracy")
    assert [row["trial"] for row in rows] == [3, 2, 5, 1, 0, 6, 4]
    assert [row["note"] for row in rows] == [None] * 4 + [no_better] * 3
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("documents", "gain", "first"),
    [(1000, 0.011, 1), (1000, 0.01, 0), (999, 0.011, 0), (999, 0.021, 1), (None, 0.011, 0)],
)
def test_few_documents_need_a_larger_gain(documents: int | None, gain: float, first: int) -> None:
    assert order_of(WIDE_ONLY, ("add", 0.9, gain, 0.01), documents=documents)[0] == first


def test_without_the_wide_part_alone_the_metric_ranks() -> None:
    trials: list[Trial] = [
        ("add", 0.8, 0.0, 0.1),
        ("add", 0.9, -1.0, 0.1),
        ("none", 0.85, None, None),
    ]
    assert order_of(*trials) == [1, 2, 0]
    state = state_of(*trials)
    assert state.beats_wide(state.trials[0], "valid_accuracy") is None
    assert label_of(state, state.trials[1], "valid_accuracy") == ""


def test_a_wide_part_without_an_epoch_is_no_reference() -> None:
    state = state_of(("add", 0.9, 0.0, 0.1))
    state.apply(TrialCreated(at=0.0, number=1, params={"wide": "only"}, max_epochs=1))
    assert state.beats_wide(state.trials[0], "valid_accuracy") is None
    assert state.beats_wide(state.trials[1], "valid_accuracy") is None
    assert [trial.number for trial in state.ranked("valid_accuracy")] == [0]


def test_every_gain_over_the_wide_part_counts_by_other_metrics_than_accuracy_and_loss() -> None:
    """Weighted classes raise the loss, so that the gain of the loss is negative."""
    state = state_of(WIDE_ONLY, ("add", 0.9, -0.2, 0.01))
    for trial, value in zip(state.trials, (0.6, 0.7), strict=True):
        trial.epochs[0].metrics["valid_macro_f1"] = value
    assert [trial.number for trial in state.ranked("valid_accuracy")] == [0, 1]
    assert [trial.number for trial in state.ranked("valid_macro_f1")] == [1, 0]
    assert state.beats_wide(state.trials[1], "valid_macro_f1")
    state.trials[1].epochs[0].metrics["valid_macro_f1"] = 0.6
    assert [trial.number for trial in state.ranked("valid_macro_f1")] == [0, 1]


@pytest.mark.parametrize("metric", METRICS.names())
def test_equal_values_of_every_metric_are_ordered_by_the_loss(metric: str) -> None:
    state = state_of(*[("none", 0.8, None, None)] * 3, losses=(0.6, 0.4, 0.5))
    for trial in state.trials:
        trial.epochs[0].metrics.setdefault(metric, 0.7)
    assert [trial.number for trial in state.ranked(metric)] == [1, 2, 0]


def test_equal_values_are_ordered_by_the_loss_and_then_by_number() -> None:
    trials: list[Trial] = [("none", 0.9, None, None)] * 4
    losses = [0.5, 0.3, 0.4, 0.3]
    assert order_of(*trials, losses=losses) == [1, 3, 2, 0]
    rows = ranking([RankedSearch("one", state_of(*trials, losses=losses))], "valid_accuracy")
    assert [row["rank"] for row in rows] == [1, 1, 3, 4]


def test_trials_on_other_data_are_not_compared_with_the_wide_part() -> None:
    one = state_of(WIDE_ONLY, ("add", 0.9, 0.0, 0.1))
    other = state_of(("none", 0.7, None, None), ("add", 0.6, 0.0, 0.1), data="g")
    rows = ranking([RankedSearch("one", one), RankedSearch("two", other)], "valid_accuracy")
    assert [(row["experiment"], row["trial"], row["note"]) for row in rows] == [
        ("two", 0, None),
        ("two", 1, None),
        ("one", 0, None),
        ("one", 1, "not better than the wide part beyond noise"),
    ]


def test_several_searches_are_compared_with_the_best_wide_part() -> None:
    one = state_of(WIDE_ONLY, ("add", 0.82, 0.05, 0.01))
    other = state_of(("only", 0.83, None, None), ("none", 0.81, None, None))
    rows = ranking([RankedSearch("one", one), RankedSearch("two", other)], "valid_accuracy")
    assert [(row["experiment"], row["trial"]) for row in rows] == [
        ("two", 0),
        ("one", 0),
        ("one", 1),
        ("two", 1),
    ]


TRIALS = st.lists(
    st.tuples(
        st.sampled_from(["none", "add", "only"]),
        st.sampled_from([0.7, 0.8, 0.9]),
        st.sampled_from([-0.1, 0.0, 0.1]),
        st.sampled_from([0.01, 0.2]),
    ),
    max_size=8,
)


@given(TRIALS, st.sampled_from(["valid_accuracy", "valid_loss"]))
def test_the_order_has_three_parts_and_each_is_ordered_by_the_metric(
    trials: list[Trial], metric: str
) -> None:
    state = state_of(*trials)
    ranked = state.ranked(metric)
    assert sorted(trial.number for trial in ranked) == list(range(len(trials)))
    keys = sort_keys([(state.created, trial) for trial in ranked], metric)
    assert keys == sorted(key for key in keys if key is not None)
    standings = [key[0] for key in keys if key is not None]
    wide = [trial.params["wide"] == "only" for trial in ranked]
    if any(wide):
        assert [standing == Standing.REFERENCE for standing in standings] == wide
    else:
        assert set(standings) <= {Standing.BETTER}
    for part in Standing:
        values = [
            t.best_value(metric) or 0.0 for t, s in zip(ranked, standings, strict=True) if s == part
        ]
        assert values == sorted(values, reverse=metric == "valid_accuracy")


def test_better_values_that_are_passed_over_are_explained() -> None:
    noise: Trial = ("add", 0.9, 0.01, 0.02)
    better: Trial = ("add", 0.95, 0.05, 0.01)

    def sentence(*trials: Trial) -> str:
        return passed_over_sentence(state_of(*trials), "valid_accuracy")

    assert sentence() == sentence(noise) == sentence(WIDE_ONLY, better, noise) == ""
    assert sentence(WIDE_ONLY, noise) == (
        "Trial 1 (90.00 %) has a better value, but is not better than the wide part beyond noise."
    )
    assert sentence(WIDE_ONLY, noise, noise).startswith("2 trials have better values, but are not")
