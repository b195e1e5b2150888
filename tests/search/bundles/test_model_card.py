"""The model card of a bundle, and the terms of the data."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.search.baselines.comparison import Comparison, LinearScore
from celltune.search.bundles.model_card import data_terms, model_card
from celltune.search.bundles.trial_model import load_data, load_trial_model
from celltune.search.ledger.events import (
    BaselineReported,
    BaselineValidated,
    EvaluationReported,
    ExperimentCreated,
)
from celltune.search.objective import VALID_ACCURACY
from celltune.search.storage.local import LocalExperiment
from celltune.search.wording import percent_text
from tests.search.ensemble_events import COSTS
from tests.search.outcomes import packed_outcomes

GOOD, BAD = "the plot was great .", "the plot was awful ."


def test_model_card_reports_the_test_accuracy_over_seeds(trained: LocalExperiment) -> None:
    model = load_trial_model(trained, 0)
    data = load_data(model)
    assert "was not evaluated" in model_card(model, data, has_onnx=False)
    two_seeds = (evaluation(0.8, seed=1), evaluation(0.9, seed=2))
    text = model_card(replace(model, evaluations=two_seeds), data, has_onnx=False)
    label = "Test accuracy after retraining on train (mean of 2 seeds, minimum to maximum)"
    assert f"| {label} | 85.00 % (80.00 to 90.00 %) |" in text
    assert "was not evaluated" not in text


def baseline(name: str, accuracy: float, on: str = "train") -> BaselineReported:
    fields = evaluation(accuracy, seed=1).model_dump(exclude={"event", "number", "seed", "epoch"})
    return BaselineReported(name=name, **{**fields, "on": on})


def test_model_card_says_when_a_baseline_was_better(trained: LocalExperiment) -> None:
    model = load_trial_model(trained, 0)
    data = load_data(model)
    evaluated = replace(model, evaluations=(evaluation(0.8, seed=1), evaluation(0.9, seed=2)))
    alone = model_card(evaluated, data, has_onnx=False)
    assert "was not compared with a linear baseline on the test split." in alone
    better = (baseline("tfidf_logistic", 0.86), baseline("nb_svm", 0.87))
    text = model_card(replace(evaluated, baselines=better), data, has_onnx=False)
    assert "| Test accuracy of the linear baseline 'nb_svm', trained on train | 87.00 % |" in text
    assert (
        "**A linear baseline was better:** trained on train, `nb_svm` exceeds the retrained model "
        "by 2.00 points of test accuracy; the difference is not larger than its standard error "
        "(about 4.91 points)."
    ) in text
    assert "was not compared" not in text
    for others in ((baseline("nb_svm", 0.85),), (baseline("nb_svm", 0.9, "train+valid"),)):
        text = model_card(replace(evaluated, baselines=others), data, has_onnx=False)
        assert "A linear baseline was better" not in text


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [
        (0.3, "**The model is 30.00 points worse than the best linear model (nb_svm, "),
        (-0.3, "The model is 30.00 points better than the best linear model (nb_svm, "),
    ],
)
def test_model_card_compares_the_validation_accuracies(
    margin: float, verdict: str, trained: LocalExperiment
) -> None:
    model = load_trial_model(trained, 0)
    data = load_data(model)
    assert "linear baseline" not in model_card(model, data, has_onnx=False)
    accuracy = model.epoch.metrics["valid_accuracy"]
    event = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=accuracy + margin, valid_macro_f1=0.5, seconds=1.0
    )
    linear = LinearScore("nb_svm", accuracy + margin)
    compared = replace(model, validated=(event,), comparison=Comparison(accuracy, linear, 400))
    text = model_card(compared, data, has_onnx=False)
    row = f"Validation accuracy of the linear baseline 'nb_svm' | {percent_text(accuracy + margin)}"
    assert row in text
    assert verdict in text
    assert ("**The model is" in text) == (margin > 0)


@pytest.mark.parametrize(("above", "labelled"), [(0.0, True), (0.01, False), (None, False)])
def test_model_card_says_when_the_majority_class_is_as_good(
    above: float | None, labelled: bool, trained: LocalExperiment
) -> None:
    model = load_trial_model(trained, 0)
    share = None if above is None else model.epoch.metrics["valid_accuracy"] - above
    created = ExperimentCreated(
        at=1.0, fingerprint="f", majority_class="a|b\n", majority_accuracy=share
    )
    text = model_card(replace(model, created=created), load_data(model), has_onnx=False)
    label = "**The model is no better than the majority class; it should not be used.**"
    assert (label in text) == labelled
    row = r"| Validation accuracy of always predicting 'a\|b\\n' | "
    assert (row in text) == (share is not None)


def test_model_card_compares_by_the_metric_of_the_search(trained: LocalExperiment) -> None:
    model = load_trial_model(trained, 0)
    data = load_data(model)
    config = model.config.model_copy(update={"metric": "valid_macro_f1"})
    metrics = {**model.epoch.metrics, "valid_macro_f1": 0.75}
    created = ExperimentCreated(
        at=1.0,
        fingerprint="f",
        majority_class="negative",
        majority_accuracy=0.9,
        majority_scores={"valid_macro_f1": 0.47},
    )
    validated = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=0.9, valid_macro_f1=0.6, seconds=1.0
    )
    compared = replace(
        model,
        config=config,
        epoch=model.epoch.model_copy(update={"metrics": metrics}),
        created=created,
        validated=(validated,),
        evaluations=(evaluation(0.8, 1), evaluation(0.9, 2)),
        baselines=(baseline("nb_svm", 0.95),),
    )
    text = model_card(compared, data, has_onnx=False)
    for row in (
        "| valid_macro_f1 | 75.00 % |",
        "| valid_macro_f1 of always predicting 'negative' | 47.00 % |",
        "| valid_macro_f1 of the linear baseline 'nb_svm' | 60.00 % |",
        "| Test macro_f1 after retraining on train (mean of 2 seeds, minimum to maximum) | ",
        "| Test macro_f1 of the linear baseline 'nb_svm', trained on train | ",
    ):
        assert row in text
    assert "**A linear baseline was better:** trained on train, `nb_svm` exceeds the ret" in text
    assert " points of test macro_f1." in text
    assert "no better than the majority class" not in text


def test_model_card_reports_the_metric_of_another_package(
    trained: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celltune.search.wording.objective_metric", lambda name: VALID_ACCURACY)
    model = load_trial_model(trained, 0)
    config = model.config.model_copy(update={"metric": "valid_f1"})
    epoch = model.epoch.model_copy(update={"metrics": {**model.epoch.metrics, "valid_f1": 0.75}})
    text = model_card(replace(model, config=config, epoch=epoch), load_data(model), has_onnx=False)
    assert "| valid_f1 | 75.00 % |" in text


def evaluation(test_accuracy: float, seed: int) -> EvaluationReported:
    """Return a result on 100 documents, 50 of each class."""
    correct = round(100 * test_accuracy)
    matrix = [[correct - 50, 100 - correct], [0, 50]]
    return EvaluationReported(
        at=9.0,
        number=0,
        seed=seed,
        epoch=3,
        on="train",
        metrics={**COSTS, "test_accuracy": test_accuracy},
        classes=["negative", "positive"],
        train_confusion=[[9, 0], [0, 9]],
        test_confusion=matrix,
        test_outcomes=packed_outcomes(matrix),
        test_fingerprint="",
    )


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        ({"source": "imdb"}, "Maas et al."),
        ({"source": "amazon", "path": "a.gz"}, "DLStudio"),
        ({"source": "csv", "path": "x/mine.csv"}, "named 'mine.csv'.*State them here"),
        ({"source": "imdb", "vectors": {"name": "glove.6B.100d"}}, "glove.6B.100d.*PDDL"),
    ],
)
def test_every_source_has_terms(data: dict[str, Any], pattern: str) -> None:
    text = data_terms(DataConfig.model_validate(data))
    assert re.search(pattern, text, re.DOTALL)
    assert "x/mine.csv" not in text
