"""The linear model of an experiment, as a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import read_training_documents
from celltune.search.bundles import linear
from celltune.search.bundles.export import load_model
from celltune.search.bundles.linear import LinearModel, export_linear, load_linear_model
from celltune.search.bundles.linear_card import linear_card, versus_best_trial
from celltune.search.errors import ModelError
from celltune.search.ledger.events import BaselineValidated
from celltune.search.storage.local import LocalExperiment
from celltune.search.wording import percent_text


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("linear") / "bundle"


@pytest.fixture
def exported(trained: LocalExperiment, bundle: Path) -> LinearModel:
    """The linear model of an experiment whose data has no wide part."""
    shutil.rmtree(bundle, ignore_errors=True)
    return export_linear("small", bundle)


def test_the_bundle_predicts_like_the_validated_model(exported: LinearModel, bundle: Path) -> None:
    documents = read_training_documents(exported.config.data).valid
    model = load_model(bundle)
    predictions = model.predict([document.text for document in documents])
    right = [
        prediction.label == model.classes[document.label]
        for prediction, document in zip(predictions, documents, strict=True)
    ]
    assert np.mean(right) == pytest.approx(exported.valid_accuracy)
    assert exported.valid_accuracy > 0.7


def test_the_model_card_compares_with_the_best_trial(exported: LinearModel, bundle: Path) -> None:
    card = (bundle / "README.md").read_text()
    assert card.startswith("# small: linear model on n-grams\n")
    assert f"| Validation accuracy | {percent_text(exported.valid_accuracy)} |" in card
    assert versus_best_trial(exported) in card
    event = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=0.75, valid_macro_f1=0.5, seconds=1.0
    )
    exported.state.apply(event)
    row = "| Validation accuracy of the linear baseline 'nb_svm' | 75.00 % |"
    assert row in linear_card(exported)
    assert row not in card

    assert "It is none of its trials." in card
    assert "- The whole texts are read; none is truncated." in card
    assert "truncated to" not in card


def test_the_model_card_names_the_trial_that_is_the_same_model(
    wide_trials: LocalExperiment,
) -> None:
    model = load_linear_model(wide_trials)
    card = linear_card(model)
    assert "It is the model of its trial 0." in card
    first, best = wide_trials.state().trials[0], wide_trials.state().ranked(model.config.metric)[0]
    assert ("The linear model is the best trial (0)." in card) == (first.number == best.number)
    event = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=0.0, valid_macro_f1=0.0, seconds=1.0
    )
    model.state.apply(event)
    assert "better than the best baseline (nb_svm, 0.00 %)" in linear_card(model)
    del model.state.trials[1:]
    assert versus_best_trial(model) == "The linear model is the best trial (0)."


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(-0.1, "10.00 points better than the best trial (0, "), (0.0, "as good as the best trial (0")],
)
def test_the_difference_to_the_best_trial(
    shift: float, expected: str, exported: LinearModel
) -> None:
    trial = exported.state.ranked("valid_accuracy")[0]
    for index, epoch in enumerate(trial.epochs):
        metrics = {**epoch.metrics, "valid_accuracy": exported.valid_accuracy + shift}
        trial.epochs[index] = epoch.model_copy(update={"metrics": metrics})
    assert expected in versus_best_trial(exported)
    exported.state.trials.clear()
    assert versus_best_trial(exported) == ""


def test_changed_documents_are_rejected(
    trained: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_same_documents", lambda data, other: False)
    with pytest.raises(DataError, match="synthetic has changed since 'small' was launched, so no"):
        load_linear_model(trained)


def test_a_folder_that_is_not_empty_is_rejected(trained: LocalExperiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="a folder that is not empty"):
        export_linear("small", tmp_path)
