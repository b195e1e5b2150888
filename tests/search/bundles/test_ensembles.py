"""Ensembles: loaded from an experiment, exported, loaded from a bundle, and described."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load, save

from celltune import ensemble, export_ensemble, load_model
from celltune.data_prep.text.encoder import TextRules
from celltune.models.config import ModelConfig
from celltune.search.bundles.bundle_config import BundleConfig, BundleMember
from celltune.search.bundles.ensemble_model import load_ensemble_model
from celltune.search.bundles.predictor import TrainedModel
from celltune.search.errors import ExperimentError, ModelError
from celltune.search.ledger.events import (
    Event,
)
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.storage.local import LocalExperiment
from tests.search.command_line import run

TEXTS = ["the plot was great .", "the plot was awful .", "the cast was not dull"]


@pytest.fixture
def wide(wide_trials: LocalExperiment, tmp_path: Path) -> LocalExperiment:
    """A copy of the experiment whose trial 0 is the wide part alone."""
    shutil.copytree(wide_trials.path, tmp_path / "wide")
    return LocalExperiment(tmp_path / "wide")


def probabilities(model: TrainedModel) -> np.ndarray:
    return np.array([list(one.probabilities.values()) for one in model.predict(TEXTS)])


def append(experiment: LocalExperiment, *events: Event) -> None:
    with experiment.open_ledger() as ledger:
        ledger.append(*events)


def test_an_ensemble_averages_the_probabilities_of_its_trials(small: LocalExperiment) -> None:
    members = ensemble("small").selected.members
    expected = sum(
        member.weight * probabilities(load_model("small", trial=member.number))
        for member in members
    )
    np.testing.assert_allclose(probabilities(load_model("small", ensemble=True)), expected)


def test_members_of_other_experiments_are_loaded_from_them(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    event = ensemble("small", "other").selected
    assert {member.experiment for member in event.members} == {None, "other"}
    assert len(load_ensemble_model(small).members) == len(event.members)
    shutil.rmtree(other.path)
    with pytest.raises(ExperimentError, match="has no experiment 'other'"):
        load_model("small", ensemble=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": {"unknown": 1}}, "another checkpoint or other hyperparameters than epoch"),
        ({"params": {"hidden_size": "x"}}, "another checkpoint or other hyperparameters than"),
        ({"checkpoint": "epoch-9"}, "another checkpoint or other hyperparameters than epoch"),
        ({"number": 9}, "trial 9 was never created"),
    ],
)
def test_members_that_another_experiment_does_not_have_are_rejected(
    small: LocalExperiment, other: LocalExperiment, changes: dict[str, Any], message: str
) -> None:
    event = ensemble("small", "other").selected
    members = list(event.members)
    index = [member.experiment for member in members].index("other")
    members[index] = members[index].model_copy(update=changes)
    append(small, event.model_copy(update={"members": members}))
    with pytest.raises(ExperimentError, match=f"of 'small' does not fit 'other': .*{message}"):
        load_ensemble_model(small)


@pytest.mark.parametrize("kind", ["small", "wide"])
def test_a_bundle_predicts_like_the_experiment(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    experiment: LocalExperiment = request.getfixturevalue(kind)
    storage = experiment.path.parent
    event = ensemble(kind, storage=storage).selected
    assert len(event.members) > 1
    exported = export_ensemble(kind, tmp_path / "bundle", storage=storage)
    assert exported.selected == event
    loaded = load_model(tmp_path / "bundle")
    assert (loaded.wide is None) == (kind == "small")
    np.testing.assert_array_equal(
        probabilities(loaded), probabilities(load_model(kind, ensemble=True, storage=storage))
    )
    explanation = loaded.explain(TEXTS[0])
    assert explanation.prediction == loaded.predict_one(TEXTS[0])
    assert [step.word for step in explanation.steps] == TEXTS[0].split()
    assert explanation.steps[-1].probability == pytest.approx(explanation.prediction.probability)
    assert (explanation.ngrams == ()) == (kind == "small")


def test_a_single_model_without_a_network_can_be_an_ensemble(
    wide: LocalExperiment, tmp_path: Path
) -> None:
    tensors = wide.checkpoints(1).folder
    shutil.rmtree(tensors)
    ensemble("wide", storage=tmp_path)
    export_ensemble("wide", tmp_path / "bundle", storage=tmp_path)
    loaded = load_model(tmp_path / "bundle")
    np.testing.assert_array_equal(
        probabilities(loaded), probabilities(load_model("wide", trial=0, storage=tmp_path))
    )
    assert not (tmp_path / "bundle" / "model.safetensors").exists()
    assert loaded.explain(TEXTS[0]).steps == ()


def test_a_bundle_is_loaded_without_torch(small: LocalExperiment, tmp_path: Path) -> None:
    ensemble("small")
    export_ensemble("small", tmp_path / "bundle")
    code = (
        "import sys, celltune; "
        f"print(celltune.load_model({str(tmp_path / 'bundle')!r} + '/').predict_one('good').label);"
        "print(*({'torch', 'ray', 'optuna', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.splitlines()[1] == ""


def test_without_an_ensemble_nothing_is_written(small: LocalExperiment, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"'small' has no ensemble. Select one first, or use"):
        export_ensemble("small", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_damaged_member_is_named(small: LocalExperiment, tmp_path: Path) -> None:
    member = ensemble("small", trials_considered=1).selected.members[0]
    folder = small.checkpoints(member.number).folder / member.checkpoint
    (folder / "state.json").write_text("{}")
    with pytest.raises(ModelError, match=f"epoch {member.epoch} of trial {member.number} of"):
        export_ensemble("small", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_weights_of_another_model_are_rejected(small: LocalExperiment) -> None:
    member = ensemble("small", trials_considered=1).selected.members[0]
    checkpoints = small.checkpoints(member.number)
    tensors, values = checkpoints.load(member.checkpoint)
    del tensors["model.embedding"]
    checkpoints.save((tensors, values), member.checkpoint)
    with pytest.raises(ModelError, match=r"embedding is missing.*Select the ensemble again"):
        load_model("small", ensemble=True)


def test_an_unreadable_checkpoint_is_an_error(
    small: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble("small")

    def fail(self: LocalCheckpoints, name: str) -> None:
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(LocalCheckpoints, "load", fail)
    with pytest.raises(ModelError, match="cannot be used: Connection timed out"):
        load_model("small", ensemble=True)


def test_data_without_the_wide_part_is_an_error(
    wide: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    ensemble("wide", storage=tmp_path)
    model = load_ensemble_model(wide)
    without = replace(model, data=replace(model.data, wide=None))
    with pytest.raises(ModelError, match="The ensemble of 'wide' has a wide part, but the prepar"):
        without.trained()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trial": 1}, "`trial` is 1, but `ensemble` was given as well"),
        ({"source": "bundle/"}, "`ensemble` was given, but bundle is a bundle"),
    ],
)
def test_contradictory_arguments_are_rejected(
    small: LocalExperiment, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(**{"source": "small", "ensemble": True, **arguments})


# ---------------------------------------------------------------------------------------------
# Damaged bundles


def test_a_manifest_of_a_later_format_is_rejected(small: LocalExperiment, tmp_path: Path) -> None:
    ensemble("small")
    export_ensemble("small", tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["format"] == 3
    path.write_text(json.dumps({**manifest, "format": 5}))
    with pytest.raises(ModelError, match="has the format '5'; this version supports 1 to 4"):
        load_model(tmp_path / "bundle")


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the weights of a bundle together with their checksum, as an attacker would."""
    arrays = load((folder / "model.safetensors").read_bytes())
    change(arrays)
    content = save(arrays)
    (folder / "model.safetensors").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["model.safetensors"] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("0.embedding"), "embedding is missing"),
        (lambda arrays: arrays.update({"9.x": np.zeros(1)}), "'9.x', which belongs to no model"),
    ],
)
def test_weights_that_do_not_match_the_members_are_rejected(
    change: Callable[[dict[str, Any]], None],
    message: str,
    small: LocalExperiment,
    tmp_path: Path,
) -> None:
    ensemble("small")
    export_ensemble("small", tmp_path / "bundle")
    change_weights(tmp_path / "bundle", change)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "bundle")


GRU = ModelConfig(cell="gru")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, "must contain either a model or the members of an ensemble"),
        ({"model": GRU, "members": (BundleMember(model=GRU, weight=1.0),)}, "must contain either"),
        ({"members": (BundleMember(model=GRU, weight=0.5),)}, "sum to 0.5 instead of 1"),
    ],
)
def test_invalid_configs_are_rejected(models: dict[str, Any], message: str) -> None:
    rules = TextRules(tokenizer="basic_english", lowercase=False, max_tokens=4, keep="both")
    with pytest.raises(ValidationError, match=message):
        BundleConfig(text=rules, classes=("a", "b"), **models)


# ---------------------------------------------------------------------------------------------
# Model card and commands


def test_the_commands_use_the_ensemble(
    small: LocalExperiment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, out, _ = run(capsys, monkeypatch, "ensemble", "small")
    assert "celltune export small --ensemble -o FOLDER" in out
    bundle = tmp_path / "bundle"
    code, out, err = run(capsys, monkeypatch, "export", "small", "--ensemble", "-o", bundle)
    assert (code, err) == (0, "")
    assert "Exported the ensemble of 8 (" in out
    assert f"celltune predict {bundle} TEXT" in out
    _, own, _ = run(capsys, monkeypatch, "predict", "small", TEXTS[0], "--ensemble")
    assert run(capsys, monkeypatch, "predict", bundle, TEXTS[0])[1] == own
    _, explained, _ = run(capsys, monkeypatch, "predict", bundle, TEXTS[0], "--explain")
    assert "after each word" in explained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--onnx"], "--onnx was given with --ensemble, but an ensemble has no ONNX form"),
        (["--trial", "1"], "--trial is 1, but --ensemble was given as well"),
        (["--baseline"], "--baseline and --ensemble were given, which are two models"),
    ],
)
def test_an_export_rejects_other_forms_of_an_ensemble(
    options: list[str],
    message: str,
    small: LocalExperiment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ["export", "small", "--ensemble", "-o", tmp_path / "bundle", *options]
    code, _, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "bundle").exists()
