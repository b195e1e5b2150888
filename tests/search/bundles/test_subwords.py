"""Bundles of a model that reads subwords: the vocabulary is all they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.preparation.pipeline import read_training_documents
from celltune.search.bundles.export import export, load_model
from celltune.search.bundles.predictor import UNKNOWN
from celltune.search.bundles.trial_model import load_data, load_trial_model
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment
from tests.search.trained_experiment import make_experiment

GOOD, BAD = "The plot was great .", "the plot was awful ."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("subwords")
    data = {"tokenizer": "bpe", "lowercase": True, "vocabulary_size": 400, "max_tokens": 90}
    make_experiment(root / "storage", root / "cache", "subwords", **data)
    return root


@pytest.fixture
def experiment(root: Path, monkeypatch: pytest.MonkeyPatch) -> LocalExperiment:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(root / "storage"))
    monkeypatch.setenv("CELLTUNE_CACHE", str(root / "cache"))
    return find_experiment("subwords", root / "storage")


def test_bundle_predicts_like_the_experiment_without_more_files(
    experiment: LocalExperiment, tmp_path: Path
) -> None:
    export("subwords", tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *("manifest.json", "model.safetensors", "config.json", "vocabulary.json"),
        *("README.md", "DATA-TERMS.md"),
    }
    texts = [GOOD, BAD, "greatest plots", "привет мир", ""]
    model = load_model(tmp_path / "model")
    predictions = model.predict(texts)
    assert predictions == load_model("subwords").predict(texts)
    assert all(prediction.label for prediction in predictions[:3])
    assert predictions[3].note == UNKNOWN
    steps = model.explain("great plottings ☃").steps
    assert "".join(step.word for step in steps) == "▁great▁plottings▁☃"
    assert len(steps) > 3
    assert [step.known for step in steps] == [True] * (len(steps) - 1) + [False]


def test_exported_model_has_the_recorded_validation_accuracy(experiment: LocalExperiment) -> None:
    model = load_trial_model(experiment, None)
    texts = [document.text for document in read_training_documents(model.config.data).valid]
    labels = load_data(model).valid.labels.tolist()
    classes = load_data(model).classes
    predicted = [prediction.label for prediction in load_model("subwords").predict(texts)]
    right = [classes[label] == name for label, name in zip(labels, predicted, strict=True)]
    assert sum(right) / len(right) == pytest.approx(model.epoch.metrics["valid_accuracy"])


def test_data_are_prepared_again_if_the_cache_is_lost(
    experiment: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_trial_model(experiment, None)
    kept = load_data(model)
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "empty"))
    again = load_data(model)
    assert again.fingerprint == kept.fingerprint
    assert list(again.words) == list(kept.words)
    assert again.valid.ids.tolist() == kept.valid.ids.tolist()
