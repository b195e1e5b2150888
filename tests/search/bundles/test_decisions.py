"""Bundles of models with a temperature and a threshold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from celltune import ensemble, export_ensemble, load_model
from celltune.data_prep.config import DataConfig
from celltune.data_prep.text.encoder import TextRules
from celltune.models.config import ModelConfig
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.bundles.export import export
from celltune.search.bundles.model_card_sections import decision_sentences
from celltune.search.bundles.predictor import TrainedModel
from celltune.search.bundles.trial_model import TrialModel, checked_decision
from celltune.search.decisions import Decision, Fit
from celltune.search.ensembles import ensemble as selecting
from celltune.search.errors import ModelError
from celltune.search.ledger.events import EpochReported
from celltune.search.storage.local import LocalExperiment

TEXTS = ["the plot was great .", "the plot was awful .", "the cast was not dull"]
DECISION = Decision(2.0, 0.97)


@pytest.fixture
def decided(trained: LocalExperiment, monkeypatch: pytest.MonkeyPatch) -> LocalExperiment:
    """An experiment whose models have a temperature and a threshold."""
    monkeypatch.setattr(TrialModel, "decision", DECISION)
    return trained


def odds(model: TrainedModel) -> np.ndarray:
    values = [list(one.probabilities.values()) for one in model.predict(TEXTS)]
    logs: np.ndarray = np.log(np.array(values))
    return logs[:, 1] - logs[:, 0]


def test_a_bundle_keeps_temperature_and_threshold(
    decided: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export("small", tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert (manifest["format"], manifest["temperature"], manifest["threshold"]) == (4, 2.0, 0.97)
    bundle, own = load_model(tmp_path / "model"), load_model("small")
    assert bundle.predict(TEXTS) == own.predict(TEXTS)
    labels = [one.label for one in bundle.predict(TEXTS)]
    monkeypatch.setattr(TrialModel, "decision", Decision())
    plain = load_model("small")
    np.testing.assert_allclose(odds(bundle), odds(plain) / 2, rtol=1e-6)
    assert labels[0] == "negative", "more probably positive, but not by the threshold"
    assert plain.predict_one(TEXTS[0]).label == "positive"
    # Without them, the bundle has the first format.
    export("small", tmp_path / "plain")
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert manifest.keys() == {"format", "files"}
    assert manifest["format"] == 1
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert not {"temperature", "threshold"} & config.keys()


def test_the_explanation_is_about_the_predicted_class(decided: LocalExperiment) -> None:
    explanation = load_model("small").explain(TEXTS[0])
    assert explanation.prediction.label == "negative"
    assert explanation.steps[-1].probability == pytest.approx(explanation.prediction.probability)


def test_the_model_card_states_both(decided: LocalExperiment, tmp_path: Path) -> None:
    export("small", tmp_path / "model")
    card = " ".join((tmp_path / "model" / "README.md").read_text().split())
    assert "`positive` is predicted if its probability is at least 0.9700" in card
    assert "the logits are divided by the temperature 2.0000" in card
    assert "not calibrated" not in card


def test_the_card_shows_the_calibration_error_before_and_after() -> None:
    fitted = {
        "valid_ece": 0.08,
        "valid_calibrated_ece": 0.02,
        "valid_loss": 0.5,
        "valid_calibrated_loss": 0.4,
    }
    tested = [{"test_ece": 0.03, "test_uncalibrated_ece": 0.07}, {"test_ece": 0.01}]
    text = " ".join(decision_sentences(Decision(1.5), ["a", "b"], fitted, tested))
    assert "changes from 8.00 % to 2.00 % there, and the cross-entropy from 0.5000 to" in text
    assert "On the test split, the error changes from 7.00 % to 3.00 %." in text
    assert list(decision_sentences(Decision(), ["a", "b"], {}, [])) == [
        "The probabilities are not calibrated."
    ]


def test_an_ensemble_has_its_own(
    small: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "fit_of", lambda _: Fit("valid_macro_f1", temperature=True))
    selected = ensemble("small").selected
    decision = Decision.of(selected.fitted)
    assert decision.threshold is not None
    assert decision.temperature != 1
    export_ensemble("small", tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert (manifest["format"], manifest["temperature"]) == (4, decision.temperature)
    bundle = load_model(tmp_path / "model")
    assert bundle.decision == decision == load_model("small", ensemble=True).decision
    assert "the temperature" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature: Input should be greater than or equal to 0.05"),
        ({"threshold": 1.0}, "threshold: Input should be less than 1"),
        ({"threshold": 0.5, "classes": ["a", "b", "c"]}, "has a threshold, but 3 classes"),
    ],
)
def test_a_forged_decision_is_rejected(
    changes: dict[str, Any], message: str, decided: LocalExperiment, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    export("small", folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    content = json.dumps(config).encode()
    (folder / "config.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["config.json"] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_threshold_in_a_ledger_of_more_classes_is_rejected() -> None:
    assert checked_decision({"threshold": 0.3}, 2, "demo") == Decision(threshold=0.3)
    with pytest.raises(
        ModelError, match=r"ledger of 'demo' contains a threshold of 0.3, but the model has 3 class"
    ):
        checked_decision({"threshold": 0.3}, 3, "demo")
    metrics = {"valid_accuracy": 0.5, "threshold": 0.0}
    with pytest.raises(ValidationError, match="'threshold' is 0, but it is between 0 and 1"):
        EpochReported(at=1.0, number=0, epoch=1, metrics=metrics, checkpoint=None)


def test_three_classes_have_no_threshold() -> None:
    with pytest.raises(ValidationError, match="has a threshold, but 3 classes instead of 2"):
        BundleConfig(
            model=ModelConfig(cell="gru"),
            text=TextRules.of(DataConfig(source="synthetic")),
            classes=("a", "b", "c"),
            threshold=0.4,
        )
