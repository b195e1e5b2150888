"""The model card of an exported ensemble."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celltune import ensemble, export_ensemble
from celltune.search.ledger.ensembles import Gain
from celltune.search.ledger.events import (
    BaselineValidated,
    EnsembleReported,
    ExperimentCreated,
)
from celltune.search.storage.local import LocalExperiment
from tests.search.bundles.test_ensembles import append
from tests.search.evaluation.test_summaries import baseline, result_fields


def card_of(experiment: LocalExperiment, folder: Path) -> str:
    export_ensemble(experiment.name, folder, storage=experiment.path.parent)
    return (folder / "README.md").read_text()


def test_the_card_shows_members_gain_and_cost(small: LocalExperiment, tmp_path: Path) -> None:
    event = ensemble("small").selected
    card = card_of(small, tmp_path / "bundle")
    assert card.startswith(f"# small, ensemble of 8 ({len(event.members)} model")
    for member in event.members:
        assert f"| trial {member.number} | {member.epoch} | {member.weight:.3f} |" in card
    total = sum(member.parameters for member in event.members)
    assert f"| Parameters | {total:,} |" in card
    assert "| Estimated validation accuracy |" in card
    assert "The ensemble was not evaluated on a test split." in card
    assert "Test accuracy" not in card
    assert ("**A single model is as good, within noise.**" in card) != event.accuracy_gain.is_clear


def test_the_card_says_when_a_simpler_model_is_better(
    small: LocalExperiment, tmp_path: Path
) -> None:
    event = ensemble("small").selected
    unclear = event.model_copy(update={"accuracy_gain": Gain(mean=0.0, error=0.1)})
    append(small, unclear, EnsembleReported(members=event.members, **result_fields(300)))
    card = card_of(small, tmp_path / "without")
    assert "**A single model is as good, within noise.**" in card
    assert "The ensemble was not compared with a linear baseline on the test split." in card
    assert "| Test accuracy | 75.00 % |" in card
    append(small, baseline("nb_svm", 340))
    card = card_of(small, tmp_path / "with")
    assert "**A linear baseline was better:** `nb_svm` exceeds the ensemble by 10.00 points" in card


def test_the_card_compares_with_the_majority_class(small: LocalExperiment, tmp_path: Path) -> None:
    created, *events = small.events()
    assert isinstance(created, ExperimentCreated)
    majority = {"majority_class": "neg|", "majority_accuracy": 1.0}
    small.ledger.unlink()
    append(small, created.model_copy(update=majority), *events)
    ensemble("small")
    card = card_of(small, tmp_path / "bundle")
    assert r"| Validation accuracy of always predicting 'neg\|' | 100.00 % |" in card
    assert "**The ensemble is no better than the majority class; it should not be used.**" in card


@pytest.mark.parametrize(("accuracy", "word"), [(1.0, "worse"), (0.0, "better")])
def test_the_card_compares_with_the_baselines_of_the_validation_split(
    accuracy: float, word: str, small: LocalExperiment, tmp_path: Path
) -> None:
    measured = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=accuracy, valid_macro_f1=accuracy, seconds=0.1
    )
    append(small, measured)
    ensemble("small")
    card = card_of(small, tmp_path / "bundle")
    percent = f"{100 * accuracy:.2f} %"
    assert f"| Validation accuracy of the linear baseline 'nb_svm' | {percent} |" in card
    assert re.search(
        rf"By its estimate, the ensemble is [0-9.]+ points {word} than the best linear model "
        rf"\(nb_svm, {percent}\) on \d+ validation documents;",
        card,
    )
    assert ("**By its estimate" in card) == (word == "worse")


def test_the_card_compares_by_the_metric_of_the_search(
    small: LocalExperiment, tmp_path: Path
) -> None:
    created, *events = small.events()
    assert isinstance(created, ExperimentCreated)
    scores = {"valid_macro_f1": 0.3}
    majority = {"majority_accuracy": 1.0, "majority_class": "neg", "majority_scores": scores}
    measured = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=1.0, valid_macro_f1=0.6, seconds=0.1
    )
    small.ledger.unlink()
    append(small, created.model_copy(update=majority), *events, measured)
    selected = ensemble("small").selected
    fitted = {"metric": "valid_macro_f1", "fitted": {"valid_macro_f1": 0.8}}
    append(small, selected.model_copy(update=fitted))
    card = card_of(small, tmp_path / "bundle")
    assert "| valid_macro_f1 on the documents that selected it | 80.00 % |" in card
    assert "no better than the majority class" not in card
    assert (
        "On the documents that selected it, the ensemble is 20.00 points better than the best "
        "linear model (nb_svm, valid_macro_f1 60.00 %)" in card.replace("\\_", "_")
    )
