from __future__ import annotations

import pytest

from celltune.search.ensembles.wording import (
    cost_sentence,
    ensemble_sentences,
    gain_sentence,
    scores_sentence,
)
from celltune.search.ledger.ensembles import Gain
from tests.search.ensemble_events import member, selected

EVENT = selected(
    member(weight=0.5, parameters=1_000), member(weight=0.5, experiment="b", parameters=2_000)
)


@pytest.mark.parametrize(
    ("metric", "accuracy", "loss", "expected"),
    [
        (
            "valid_accuracy",
            Gain(mean=0.012, error=0.004),
            Gain(mean=0.02, error=0.03),
            "It is better than the best single trial: accuracy +1.20 ± 0.40 points, loss -0.0200 ± "
            "0.0300 (difference ± standard error).",
        ),
        (
            "valid_accuracy",
            Gain(mean=-0.001, error=0.004),
            Gain(mean=-0.02, error=0.03),
            "It is not better than the best single trial beyond noise: accuracy -0.10 ± 0.40 "
            "points, loss +0.0200 ± 0.0300 (difference ± standard error). Prefer the single trial.",
        ),
        (
            "valid_accuracy",
            Gain(mean=0.001, error=0.004),
            Gain(mean=0.1, error=0.03),
            "It is not better than the best single trial beyond noise: accuracy +0.10 ± 0.40 "
            "points, loss -0.1000 ± 0.0300 (difference ± standard error). Its probabilities are "
            "better.",
        ),
        (
            "valid_loss",
            Gain(mean=0.001, error=0.004),
            Gain(mean=0.1, error=0.03),
            "It is better than the best single trial: accuracy +0.10 ± 0.40 points, loss -0.1000 ± "
            "0.0300 (difference ± standard error).",
        ),
    ],
)
def test_the_verdict_depends_on_the_metric_and_its_standard_error(
    metric: str, accuracy: Gain, loss: Gain, expected: str
) -> None:
    changes = {"metric": metric, "accuracy_gain": accuracy, "loss_gain": loss}
    assert gain_sentence(EVENT.model_copy(update=changes)) == expected


def test_scores_and_cost_are_compared_with_the_best_single_trial() -> None:
    assert scores_sentence(EVENT) == (
        "The ensemble of 8 (2 models) has an estimated validation accuracy of 70.00 % (loss "
        "0.5000); the best single trial (trial 0) 70.00 % (loss 0.5000)."
    )
    assert cost_sentence(EVENT) == (
        "Its 2 models have 3,000 parameters together; trial 0 has 10. A prediction needs all of "
        "them."
    )


def test_without_an_ensemble_there_is_nothing_to_say() -> None:
    assert ensemble_sentences(None) == []
    assert len(ensemble_sentences(EVENT)) == 4
