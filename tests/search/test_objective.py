from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.training.metrics import Predictions
from celltune.registry import ExtensionError
from celltune.search.objective import check_classes, majority_scores, objective_metric, sign
from celltune.search.tuning.trial import make_trainer
from celltune.testing.metric import MetricContract


class TestAccuracy(MetricContract):
    metric = "valid_accuracy"


class TestLoss(MetricContract):
    metric = "valid_loss"


class TestMacroF1(MetricContract):
    metric = "valid_macro_f1"


class TestBalancedAccuracy(MetricContract):
    metric = "valid_balanced_accuracy"


class TestAuroc(MetricContract):
    metric = "valid_auroc"


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 40))
def test_definitions_agree_with_scikit_learn(seed: int, classes: int, documents: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, documents)
    # Few different scores, so that some are equal.
    logits = rng.integers(0, 4, (documents, classes)).astype(float)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    predicted, present = logs.argmax(1), np.unique(labels)
    expected = {
        "valid_macro_f1": sklearn_metrics.f1_score(
            labels, predicted, labels=present, average="macro", zero_division=0
        ),
        "valid_balanced_accuracy": sklearn_metrics.recall_score(
            labels, predicted, labels=present, average="macro"
        ),
    }
    if classes == 2 and len(present) == 2:
        odds = np.round(logits[:, 1] - logits[:, 0])
        expected["valid_auroc"] = sklearn_metrics.roc_auc_score(labels, odds)
        logs = np.stack([np.zeros(documents), odds], axis=1)
    for name, value in expected.items():
        assert objective_metric(name).compute(labels, logs) == pytest.approx(value)


def test_auroc_distinguishes_probabilities_that_round_to_one() -> None:
    logs = np.array([[-50.0, 0.0], [-60.0, 0.0]])
    assert objective_metric("valid_auroc").compute(np.array([0, 1]), logs) == 1


def test_metrics_of_confusion_matrices_are_those_of_the_predictions() -> None:
    labels, logs = np.array([0, 0, 1, 2]), np.log(np.eye(3)[[0, 1, 1, 2]] * 0.9 + 0.03)
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    for name in ("valid_accuracy", "valid_macro_f1", "valid_balanced_accuracy"):
        metric = objective_metric(name)
        assert metric.of_confusion is not None
        assert metric.of_confusion()(np.stack([matrix] * 2)) == pytest.approx(
            [metric.compute(labels, logs)] * 2
        )
    assert objective_metric("valid_auroc").of_confusion is None


def test_metrics_of_two_classes_are_rejected_for_more() -> None:
    check_classes("valid_auroc", 2)
    check_classes("valid_macro_f1", 5)
    with pytest.raises(
        ValueError,
        match=r"metric is valid_auroc, which needs 2 classes, but the data has 5. Set metric to a",
    ):
        check_classes("valid_auroc", 5)


def test_the_majority_class_has_scores_by_other_metrics_than_accuracy_and_loss() -> None:
    names = ("valid_accuracy", "valid_loss", "valid_macro_f1", "valid_auroc")
    train, valid = np.array([0] * 9 + [1]), np.array([0] * 8 + [1] * 2)
    scores = majority_scores(names, train, valid)
    assert scores == pytest.approx({"valid_macro_f1": 8 / 9 / 2, "valid_auroc": 0.5})


@pytest.mark.parametrize("classes", [2, 3])
def test_definitions_agree_with_the_trainer(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "documents.csv"
    names = tuple(f"class {label}" for label in range(classes))
    rows = [f"word{index % 7},{names[index % classes]}" for index in range(60)]
    path.write_text("\n".join(["text,label", *rows]))
    config = DataConfig(source="csv", path=path, classes=names)
    prepared = prepare(config, cache_dir=tmp_path / "cache")
    trainer = make_trainer({"cell": "gru", "hidden_size": 4}, prepared, seed=1, device="cpu")
    predictions = Predictions()
    metrics = trainer.run_epoch(predictions)
    arrays = predictions.arrays()
    assert arrays[1].shape == (len(prepared.valid), classes)
    for name in ("valid_accuracy", "valid_loss"):
        computed = objective_metric(name).compute(*arrays)
        assert computed == pytest.approx(getattr(metrics, name), rel=1e-5)


def test_unknown_metrics_are_rejected() -> None:
    assert (sign("valid_accuracy"), sign("valid_loss")) == (1, -1)
    with pytest.raises(ExtensionError, match="'valid_f1' is not a metric"):
        sign("valid_f1")
