from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.wide_config import WideConfig
from celltune.search.baselines.comparison import (
    Comparison,
    best_baseline,
    compare_best_trial,
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
            "It is 5.00 points worse than the best linear baseline (nb, 90.00 %) on 400 validation "
            "documents; the difference is larger than its standard error (2.33 points).",
        ),
        (
            0.84,
            400,
            "It is 1.00 points better than the best linear baseline (nb, 84.00 %) on 400 "
            "validation documents; the difference is not larger than its standard error "
            "(2.56 points).",
        ),
        (0.85, 400, "It is as good as the best linear baseline (nb, 85.00 %) on 400 validation"),
        (0.9, None, "It is 5.00 points worse than the best linear baseline (nb, 90.00 %)."),
    ],
)
def test_the_sentence_states_difference_and_standard_error(
    accuracy: float, documents: int | None, expected: str
) -> None:
    comparison = Comparison(0.85, baseline("nb", accuracy), documents)
    assert comparison.sentence("It").startswith(expected)
    assert comparison.baseline_wins == (accuracy > 0.85)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6))
def test_the_standard_error_is_that_of_two_independent_shares(
    first: float, second: float, documents: int
) -> None:
    error = Comparison(first, baseline("nb", second), documents).standard_error
    assert error is not None
    variances = [share * (1 - share) / documents for share in (first, second)]
    assert error**2 == pytest.approx(sum(variances))


def test_the_best_baseline_is_compared_with_the_best_trial() -> None:
    state = ExperimentState([CREATED, *TRIAL, baseline("low", 0.7), baseline("high", 0.9)])
    best = best_baseline(state)
    assert best is not None
    assert best.name == "high"
    comparison = compare_best_trial(state, "valid_accuracy")
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


def test_the_next_step_is_named_if_the_baseline_wins() -> None:
    config = make_config()
    losing = ExperimentState([CREATED, *TRIAL, baseline("nb", 0.9)])
    assert "set data.wide to true and space.wide to add" in next_step(config, losing)
    data = config.data.model_copy(update={"wide": WideConfig()})
    with_wide = config.model_copy(update={"data": data})
    assert "The linear model is the better choice" in next_step(with_wide, losing)
    for events in ([CREATED, *TRIAL], [CREATED, *TRIAL, baseline("nb", 0.8)]):
        assert next_step(config, ExperimentState(events)) == ""


def test_the_line_of_accuracies_omits_what_is_unknown() -> None:
    def line(*events: Event) -> str:
        return standing(ExperimentState(events), "valid_accuracy")

    assert line(CREATED, *TRIAL, baseline("nb", 0.8)) == (
        "validation accuracy: best trial 85.00 %, baseline nb 80.00 %, majority class 50.00 %"
    )
    assert line(CREATED) == "validation accuracy: majority class 50.00 %"
    older = CREATED.model_copy(update={"majority_accuracy": None})
    assert line(older, *TRIAL) == ""
    assert line(older, baseline("nb", 0.8)) == "validation accuracy: baseline nb 80.00 %"
