from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.baselines.comparison import (
    Comparison,
    LinearScore,
    best_linear_model,
    compare_trial,
    compared_metric,
    next_step,
    standing,
    verdict_sentence,
)
from celltune.search.ledger.events import (
    BaselineValidated,
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.ledger.state import ExperimentState
from tests.search.simulated_search import make_config

CREATED = ExperimentCreated(
    at=0.0, fingerprint="f", valid_reviews=400, majority_class="a", majority_accuracy=0.5
)
EPOCH = EpochReported(
    at=1.0,
    number=0,
    epoch=1,
    metrics={"valid_accuracy": 0.85, "valid_loss": 0.4},
    checkpoint=None,
)
TRIAL: list[Event] = [TrialCreated(at=0.0, number=0, params={}, max_epochs=1), EPOCH]


def baseline(name: str, accuracy: float) -> BaselineValidated:
    return BaselineValidated(
        at=1.0, name=name, valid_accuracy=accuracy, valid_macro_f1=0.5, seconds=1.0
    )


@pytest.mark.parametrize(
    ("accuracy", "documents", "expected"),
    [
        (
            0.9,
            400,
            "It is 5.00 points worse than the best linear model (nb, 90.00 %) on 400 validation "
            "documents; the difference is larger than its standard error (about 2.33 points).",
        ),
        (
            0.84,
            400,
            "It is 1.00 points better than the best linear model (nb, 84.00 %) on 400 "
            "validation documents; the difference is not larger than its standard error "
            "(about 2.56 points).",
        ),
        (0.85, 400, "It is as good as the best linear model (nb, 85.00 %) on 400 validation"),
        (0.9, None, "It is 5.00 points worse than the best linear model (nb, 90.00 %)."),
    ],
)
def test_the_sentence_states_difference_and_standard_error(
    accuracy: float, documents: int | None, expected: str
) -> None:
    comparison = Comparison(0.85, LinearScore("nb", accuracy), documents)
    assert comparison.sentence("It").startswith(expected)
    assert comparison.linear_wins == (accuracy > 0.85)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6))
def test_the_standard_error_is_that_of_two_independent_shares(
    first: float, second: float, documents: int
) -> None:
    error = Comparison(first, LinearScore("nb", second), documents).standard_error
    assert error is not None
    variances = [share * (1 - share) / documents for share in (first, second)]
    assert error**2 == pytest.approx(sum(variances))


def test_the_best_baseline_is_compared_with_the_best_trial() -> None:
    state = ExperimentState([CREATED, *TRIAL, baseline("low", 0.7), baseline("high", 0.9)])
    best = best_linear_model(state, "valid_accuracy")
    assert best == LinearScore("high", 0.9)
    comparison = compare_trial(state, state.trials[0], "valid_accuracy")
    assert comparison == Comparison(0.85, best, 400)
    assert verdict_sentence(state, "valid_accuracy").startswith("The best trial is 5.00 points wor")


def test_a_baseline_that_is_measured_again_replaces_the_earlier_score() -> None:
    state = ExperimentState([CREATED, baseline("nb", 0.7), baseline("nb", 0.8)])
    assert [event.valid_accuracy for event in state.validated.values()] == [0.8]


@pytest.mark.parametrize(
    "events", [[CREATED], [CREATED, *TRIAL], [CREATED, baseline("nb", 0.9)], []]
)
def test_there_is_no_verdict_without_both(events: list[Event]) -> None:
    assert verdict_sentence(ExperimentState(events), "valid_accuracy") == ""


def trial(number: int, accuracy: float, loss: float = 0.4, **params: Any) -> list[Event]:
    """Return the events of a trial with one epoch; `wide: add` has a clear gain."""
    metrics = {"valid_accuracy": accuracy, "valid_loss": loss}
    if params["wide"] == "add":
        metrics |= {"wide_gain": 0.1, "wide_gain_error": 0.01}
    return [
        TrialCreated(at=0.0, number=number, params=params, max_epochs=1),
        EpochReported(at=1.0, number=number, epoch=1, metrics=metrics, checkpoint=None),
    ]


def test_the_wide_part_alone_is_one_of_the_linear_models() -> None:
    events = [CREATED, *trial(0, 0.85, wide="only"), *trial(1, 0.8, 0.5, wide="add")]
    state = ExperimentState([*events, baseline("nb", 0.82)])
    assert best_linear_model(state, "valid_accuracy") == LinearScore("the wide part alone", 0.85)
    assert best_linear_model(state, "valid_loss", baselines_only=True) == LinearScore("nb", 0.82)
    assert verdict_sentence(state, "valid_loss").startswith("The best model is the wide part alone")
    better = ExperimentState([*events[:3], *trial(1, 0.9, wide="add"), baseline("nb", 0.82)])
    assert verdict_sentence(better, "valid_accuracy").startswith(
        "The best trial is 5.00 points better than the best linear model (the wide part alone, "
    )


def test_the_wide_part_alone_is_compared_with_the_baselines() -> None:
    events = [CREATED, *trial(0, 0.85, wide="only")]
    expected = "The best model is the wide part alone, a linear model"
    assert verdict_sentence(ExperimentState(events), "valid_accuracy") == f"{expected}."
    state = ExperimentState([*events, baseline("nb", 0.9)])
    assert verdict_sentence(state, "valid_accuracy").startswith(
        f"{expected}; it is 5.00 points worse than the best baseline (nb, 90.00 %) on 400 valid"
    )
    assert standing(state, "valid_accuracy").startswith(
        "accuracy: wide part alone 85.00 %, baseline nb 90.00 %, "
    )


def test_without_a_trial_of_it_the_accuracy_of_the_wide_part_is_that_of_the_data() -> None:
    created = CREATED.model_copy(update={"wide_accuracy": 0.9})
    state = ExperimentState([created, *TRIAL, baseline("nb", 0.7)])
    assert best_linear_model(state, "valid_accuracy") == LinearScore("the wide part alone", 0.9)
    assert "the wide part alone 90.00 %" in standing(state, "valid_accuracy")


def by_macro_f1(own: float, others: float, majority: float | None = 0.4) -> ExperimentState:
    """Return a search by macro-F1, in which the accuracy says the opposite."""
    scores = {} if majority is None else {"valid_macro_f1": majority}
    created = CREATED.model_copy(update={"majority_scores": scores, "majority_accuracy": 0.9})
    events = trial(0, 0.85, wide="none")
    events[1] = events[1].model_copy(
        update={"metrics": {**events[1].metrics, "valid_macro_f1": own, "valid_auroc": own}}
    )
    linear = baseline("nb", 0.9).model_copy(update={"valid_macro_f1": others})
    return ExperimentState([created, *events, linear])


def test_a_search_by_another_metric_is_compared_by_it() -> None:
    state = by_macro_f1(0.7, 0.6)
    assert verdict_sentence(state, "valid_macro_f1") == (
        "The best trial is 10.00 points better than the best linear model (nb, valid_macro_f1 "
        "60.00 %) on 400 validation documents."
    )
    assert standing(state, "valid_macro_f1") == (
        "valid_macro_f1: best trial 70.00 %, baseline nb 60.00 %, majority 40.00 %"
    )
    assert next_step(make_config(metric="valid_macro_f1"), state) is None
    assert state.beats_majority(state.trials[0], "valid_macro_f1")
    assert state.beats_majority(state.trials[0], "valid_accuracy") is False
    worse = by_macro_f1(0.35, 0.6)
    assert worse.beats_majority(worse.trials[0], "valid_macro_f1") is False
    assert next_step(make_config(metric="valid_macro_f1"), worse) is not None


def test_metrics_that_are_unknown_of_simple_models_are_compared_by_accuracy() -> None:
    state = by_macro_f1(0.7, 0.6, majority=None)
    # An earlier release measured the baseline without this metric.
    assert compared_metric(state, "valid_auroc") == "valid_accuracy"
    assert verdict_sentence(state, "valid_auroc").startswith("The best trial is 5.00 points worse")
    assert state.beats_majority(state.trials[0], "valid_macro_f1") is False


WITH_WIDE = make_config(
    data={"source": "synthetic", "wide": True}, space={"wide": "add", "cell": "gru"}
)


@pytest.mark.parametrize(
    ("wide", "best", "nb", "expected", "can_export"),
    [
        (0.9, 0.85, 0.8, "the wide part alone is the better choice", True),
        (0.9, 0.85, 0.95, "The baseline nb cannot be exported. Of the models that can", True),
        (0.8, 0.85, 0.9, "The baseline nb cannot be exported. More trials or more tr", False),
        (0.8, 0.85, 0.84, None, False),
        (None, 0.85, 0.9, "The baseline nb cannot be exported. More trials or more tr", False),
    ],
)
def test_only_a_wide_part_that_is_better_than_the_best_trial_is_worth_an_export(
    wide: float | None, best: float, nb: float, expected: str | None, can_export: bool
) -> None:
    created = CREATED.model_copy(update={"wide_accuracy": wide})
    state = ExperimentState([created, *trial(0, best, wide="add"), baseline("nb", nb)])
    advice = next_step(WITH_WIDE, state)
    assert (advice is not None) == (expected is not None)
    if advice is not None:
        assert expected in advice.text
        assert advice.can_export == can_export


def test_the_best_trial_is_not_exported_a_second_time_if_it_is_the_wide_part() -> None:
    state = ExperimentState([CREATED, *trial(0, 0.85, wide="only"), baseline("nb", 0.9)])
    advice = next_step(WITH_WIDE, state)
    assert advice is not None
    assert not advice.can_export


def test_the_advice_says_if_metric_and_accuracy_disagree() -> None:
    events = [*trial(0, 0.85, 0.4, wide="only"), *trial(1, 0.8, 0.3, wide="add")]
    advice = next_step(
        WITH_WIDE.model_copy(update={"metric": "valid_loss"}), ExperimentState([CREATED, *events])
    )
    assert advice is not None
    assert advice.can_export
    assert advice.text == (
        "By valid_loss, which ranks the trials, the best trial is better than the wide part "
        "alone; by accuracy, the wide part alone is better, and can be exported."
    )


def test_without_a_wide_part_the_next_step_is_one() -> None:
    config = make_config()
    advice = next_step(config, ExperimentState([CREATED, *TRIAL, baseline("nb", 0.9)]))
    assert advice is not None
    assert "set data.wide to true and space.wide to add" in advice.text
    assert not advice.can_export
    for events in ([CREATED, *TRIAL], [CREATED, *TRIAL, baseline("nb", 0.8)]):
        assert next_step(config, ExperimentState(events)) is None


def test_the_line_of_accuracies_omits_what_is_unknown() -> None:
    def line(*events: Event) -> str:
        return standing(ExperimentState(events), "valid_accuracy")

    assert line(CREATED, *TRIAL, baseline("nb", 0.8)) == (
        "accuracy: best trial 85.00 %, baseline nb 80.00 %, majority 50.00 %"
    )
    assert line(CREATED) == "accuracy: majority 50.00 %"
    assert standing(ExperimentState([CREATED]), "valid_accuracy", 10) == line(CREATED)
    scores = [CREATED, *TRIAL, baseline("a_long_name", 0.8)]
    narrow = [standing(ExperimentState(scores), "valid_accuracy", width) for width in (65, 40)]
    assert narrow == [
        "accuracy: best trial 85.00 %, baseline 80.00 %, majority 50.00 %",
        "accuracy: best 85.00 %, linear 80.00 %, majority 50.00 %",
    ]
    older = CREATED.model_copy(update={"majority_accuracy": None})
    assert line(older, *TRIAL) == ""
    assert line(older, baseline("nb", 0.8)) == "accuracy: baseline nb 80.00 %"
