"""Temperatures and thresholds are the best ones for the documents that they are fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from celltune.search.decisions import (
    DEFAULT,
    NOTHING,
    Decision,
    Fit,
    best_threshold,
    fit_temperature,
)
from celltune.search.metrics import calibration_error
from celltune.search.types import TEMPERATURES

METRICS = ("valid_accuracy", "valid_macro_f1", "valid_balanced_accuracy")


def predictions(seed: int, classes: int, documents: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, and log-probabilities that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, documents, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    logits = rng.normal(0, rng.uniform(0.5, 4), (documents, classes))
    logits[np.arange(documents), labels] += 1
    return labels, logits - np.log(np.exp(logits).sum(1, keepdims=True))


def loss(labels: np.ndarray, logs: np.ndarray, temperature: float) -> float:
    calibrated = Decision(temperature).calibrated(logs)
    assert np.exp(calibrated).sum(1) == pytest.approx(1)
    return float(-calibrated[np.arange(len(labels)), labels].mean())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 4))
def test_the_temperature_minimizes_the_cross_entropy(seed: int, classes: int) -> None:
    labels, logs = predictions(seed, classes)
    found = minimize_scalar(
        lambda inverse: loss(labels, logs, 1 / inverse),
        bounds=(1 / TEMPERATURES[1], 1 / TEMPERATURES[0]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert loss(labels, logs, fit_temperature(labels, logs)) <= found.fun + 1e-9


def test_the_temperature_undoes_a_factor_of_the_logits() -> None:
    labels, logs = predictions(1, 3, 2000)
    temperature = fit_temperature(labels, logs)
    assert fit_temperature(labels, 3 * logs) == pytest.approx(3 * temperature, rel=1e-6)


def test_temperatures_are_limited() -> None:
    labels, right = np.array([0, 1]), np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
    # Close to the limit, the loss is 0 but for rounding.
    assert fit_temperature(labels, right) == pytest.approx(TEMPERATURES[0], rel=0.1)
    assert fit_temperature(1 - labels, right) == pytest.approx(TEMPERATURES[1])
    certain = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert fit_temperature(labels, certain) > 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), metric=st.sampled_from(METRICS))
def test_no_other_threshold_is_better(seed: int, metric: str) -> None:
    labels, logs = predictions(seed, 2)
    own = Decision(threshold=best_threshold(labels, logs, metric)).metric(metric, labels, logs)
    probabilities = np.exp(logs[:, 1])
    others = [Decision(threshold=value) for value in (*probabilities, 0.5) if value < 1]
    inside = [one for one in others if len(set(one.labels(np.exp(logs)))) == 2]
    assert own >= max(one.metric(metric, labels, logs) for one in inside) - 1e-12


def test_of_equally_good_thresholds_the_closest_to_one_half_is_chosen() -> None:
    labels, probability = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    logs = np.log(np.stack([1 - probability, probability], 1))
    assert best_threshold(labels, logs, "valid_macro_f1") == 0.5
    low = np.log(np.stack([1 - probability / 4, probability / 4], 1))
    threshold = best_threshold(labels, low, "valid_accuracy")
    assert 0.05 < threshold < 0.2
    assert Decision(threshold=threshold).labels(np.exp(low)).tolist() == labels.tolist()


def test_a_threshold_needs_a_metric_of_predicted_classes() -> None:
    with pytest.raises(ValueError, match="valid_auroc does not depend on the predicted classes"):
        best_threshold(*predictions(1, 2), "valid_auroc")


def test_equal_probabilities_have_no_threshold_but_one_half() -> None:
    logs = np.log(np.full((4, 2), [0.9, 0.1]))
    assert best_threshold(np.array([0, 0, 0, 1]), logs, "valid_macro_f1") == 0.5


def test_the_calibration_error_is_the_weighted_gap_of_each_bin() -> None:
    probability = np.array([0.61, 0.65, 0.95, 1.0])
    logs = np.log(np.maximum(np.stack([1 - probability, probability], 1), 1e-300))
    labels = np.array([1, 0, 1, 1])
    # The bins (9/15, 10/15] and (14/15, 1] have two documents each.
    expected = (abs(1 - 0.61 - 0.65) + abs(2 - 0.95 - 1.0)) / 4
    assert calibration_error(labels, logs) == pytest.approx(expected)
    assert calibration_error(labels, logs, bins=1) == pytest.approx(abs(3 - 3.21) / 4)


def test_a_decision_is_kept_in_the_metrics_of_an_epoch() -> None:
    labels, logs = predictions(3, 2, 200)
    decision, metrics = Fit("valid_macro_f1", temperature=True).metrics(labels, logs)
    assert Decision.of(metrics) == decision
    assert set(metrics) == {
        *("threshold", "temperature", "valid_ece", "valid_calibrated_ece"),
        "valid_calibrated_loss",
    }
    assert metrics["valid_calibrated_loss"] < loss(labels, logs, 1.0)
    assert NOTHING.metrics(labels, logs) == (DEFAULT, {})
    assert not NOTHING
    assert Fit("valid_accuracy").metrics(labels, logs)[1].keys() == {"threshold"}


def test_scores_are_those_of_the_calibrated_probabilities_and_the_threshold() -> None:
    labels, logs = predictions(5, 2, 200)
    decision = Decision(2.0, 0.8)
    scores = decision.scores(labels, logs)
    calibrated = decision.calibrated(logs)
    assert scores.metrics["loss"] == pytest.approx(loss(labels, logs, 2.0))
    assert scores.metrics["uncalibrated_loss"] == pytest.approx(loss(labels, logs, 1.0))
    assert scores.metrics["ece"] == calibration_error(labels, calibrated)
    assert scores.metrics["uncalibrated_ece"] == calibration_error(labels, logs)
    predicted = np.exp(calibrated[:, 1]) >= 0.8
    assert scores.confusion[:, 1].sum() == predicted.sum()
    assert "uncalibrated_ece" not in DEFAULT.scores(labels, logs).metrics
