"""Export and loading of bundles: round trip, damaged files, and trials without a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from celltune.data_prep.cache.disk import PREPARED, find
from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.preparation.pipeline import prepare
from celltune.errors import InputError
from celltune.search.bundles.export import _largest_difference, export, load_model
from celltune.search.bundles.trial_model import load_data, load_trial_model
from celltune.search.config.loading import load_config
from celltune.search.errors import ModelError
from celltune.search.ledger.events import (
    BudgetChanged,
    EvaluationFailed,
    ExperimentCreated,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.local import LocalExperiment
from tests.search.bundles.test_model_card import baseline, evaluation
from tests.search.trained_experiment import make_experiment

GOOD, BAD = "the plot was great .", "the plot was awful ."


@pytest.fixture
def exported(trained: LocalExperiment, tmp_path: Path) -> Path:
    export("small", tmp_path / "model")
    return tmp_path / "model"


def test_bundle_predicts_like_the_experiment(exported: Path, trained: LocalExperiment) -> None:
    texts = [GOOD, BAD, "the music was not dull . the cast was warm ."]
    predictions = load_model(exported).predict(texts)
    assert predictions == load_model("small").predict(texts)
    assert [prediction.label for prediction in predictions[:2]] == ["positive", "negative"]
    assert {path.name for path in exported.iterdir()} == {
        "manifest.json",
        "model.safetensors",
        "config.json",
        "vocabulary.json",
        "README.md",
        "DATA-TERMS.md",
    }


def test_exported_model_has_the_recorded_validation_accuracy(trained: LocalExperiment) -> None:
    """Equal accuracies show that weights, vocabulary and truncation are those of the trial."""
    model = load_trial_model(trained, None)
    data = find(default_cache_dir(), model.fingerprint, PREPARED)
    assert data is not None
    predicted = load_model("small")._probabilities(data.valid).argmax(1)
    accuracy = float((predicted == data.valid.labels).mean())
    assert accuracy == pytest.approx(model.epoch.metrics["valid_accuracy"])


def test_default_is_the_best_epoch_of_the_best_trial(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    model = export("small", tmp_path / "best")
    best = model.trial.best("valid_accuracy")
    assert best is not None
    assert (model.trial.number, model.epoch.epoch) == (0, best.epoch)
    assert export("small", tmp_path / "other", trial=1).trial.number == 1
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert config["model"]["hidden_size"] == 4
    assert config["origin"]["trial"] == 1


def test_output_may_be_an_empty_folder_or_have_missing_parents(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    export("small", tmp_path / "empty")
    export("small", tmp_path / "new" / "child")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


@pytest.mark.parametrize("kind", ["full", "file", "dangling"])
def test_export_overwrites_nothing(kind: str, trained: LocalExperiment, tmp_path: Path) -> None:
    output = tmp_path / "output"
    if kind == "full":
        output.mkdir()
        (output / "note").write_text("mine")
    elif kind == "file":
        output.write_text("mine")
    else:
        output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="is not empty" if kind == "full" else "is not a folder"):
        export("small", output)
    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == (["note", "output"] if kind == "full" else ["output"])


def test_failed_export_leaves_nothing_behind(trained: LocalExperiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match=r"cannot be (read|written)"):
        export("small", tmp_path / "file" / "child")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", sorted(["manifest.json", "model.safetensors", "README.md"]))
def test_missing_file_is_reported(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        load_model(str(exported))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "vocabulary.json", "README.md", "DATA-TERMS.md"]
)
def test_modified_file_is_reported(exported: Path, name: str) -> None:
    content = bytearray((exported / name).read_bytes())
    content[len(content) // 2] ^= 1
    (exported / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is modified: its sha256"):
        load_model(exported)
    (exported / name).write_bytes(content[:-1])
    with pytest.raises(ModelError, match=rf"{name} has [\d,]+ bytes instead of"):
        load_model(exported)


def change_manifest(bundle_folder: Path, **files: Any) -> None:
    """Change the entries of some files in the manifest; None removes an entry."""
    path = bundle_folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, entry in files.items():
        if entry is None:
            del manifest["files"][name]
        else:
            manifest["files"][name] = entry
    path.write_text(json.dumps(manifest))


def test_invalid_manifest_is_reported(exported: Path) -> None:
    path = exported / "manifest.json"
    original = path.read_text()
    for text, message in [
        ("{", "truncated or modified"),
        ("[]", "truncated or modified"),
        (
            original.replace('"format": 1', '"format": 5'),
            "has the format '5'; this version supports 1 to 4",
        ),
        (original.replace("config.json", "other.json"), "does not list config.json"),
    ]:
        path.write_text(text)
        with pytest.raises(ModelError, match=f"manifest.json .*{message}"):
            load_model(exported)
    path.write_text(original)
    change_manifest(exported, **{"../secret": {"bytes": 1, "sha256": ""}})
    with pytest.raises(ModelError, match=r"lists '../secret', which is not a valid file name"):
        load_model(exported)


def replace_file(bundle_folder: Path, name: str, content: str) -> None:
    """Replace a file, and its checksum in the manifest."""
    (bundle_folder / name).write_text(content)
    data = content.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    change_manifest(bundle_folder, **{name: {"bytes": len(data), "sha256": sha256}})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{}", "is not supported by this version"),
        ("vocabulary.json", "{", "is not valid JSON"),
        ("vocabulary.json", "[1]", "is not a list of words"),
        ("vocabulary.json", '["<unk>", "<pad>", "a"]', "the weights belong to another model"),
        ("model.safetensors", "no weights", "HeaderTooLarge|header"),
    ],
)
def test_unsupported_content_is_reported(
    exported: Path, name: str, content: str, message: str
) -> None:
    replace_file(exported, name, content)
    with pytest.raises(ModelError, match=message):
        load_model(exported)


def test_bundle_rejects_a_trial_and_a_missing_folder(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"contains one model\. Omit"):
        load_model(exported, trial=0)
    with pytest.raises(ModelError, match="There is no bundle"):
        load_model(f"{tmp_path}/none")
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (9, "`trial` is 9, but 'small' has the trials 0 to 2. The best trial is 0, with valid_acc"),
        (2, r"Trial 2 of 'small' has no finished epoch \(it broke\)"),
    ],
)
def test_trial_without_a_model_is_reported(
    trained: LocalExperiment, number: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_model("small", trial=number)


def test_unknown_experiment_is_reported(trained: LocalExperiment) -> None:
    with pytest.raises(InputError, match="Did you mean 'small'"):
        load_model("smal")


def test_missing_or_damaged_checkpoint_is_reported(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    copy = LocalExperiment(shutil.copytree(trained.path, tmp_path / "small"))
    best = load_trial_model(copy, 0).epoch.checkpoint
    assert best is not None
    (copy.path / "trials" / "0" / best / "tensors.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model of trial 0 of 'small' cannot be loaded: "):
        load_trial_model(copy, 0)
    shutil.rmtree(copy.path / "trials" / "0" / best)
    with pytest.raises(ModelError, match=r"cannot be loaded: .* choose another `trial`"):
        load_trial_model(copy, 0)


def test_missing_cache_prepares_the_same_data_again(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    assert load_model("small").predict([GOOD])[0].label == "positive"
    copy = LocalExperiment(shutil.copytree(trained.path, tmp_path / "small"))
    config = yaml.safe_load((copy.path / "experiment.yaml").read_text())
    config["data"]["reviews"] = 200
    (copy.path / "experiment.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "other"))
    with pytest.raises(InputError, match="vocabulary of 'small' is not available"):
        load_data(load_trial_model(copy, 0))


def test_data_of_another_size_than_the_model_is_rejected(trained: LocalExperiment) -> None:
    model = load_trial_model(trained, 0)
    other = prepare(model.config.data.model_copy(update={"min_count": 40}))
    with pytest.raises(InputError, match=r"has \d+ words and 2 classes, but the data has \d+ "):
        load_data(replace(model, created=ExperimentCreated(at=1.0, fingerprint=other.fingerprint)))


def test_search_without_an_epoch_has_no_model(tmp_path: Path, trained: LocalExperiment) -> None:
    copy = LocalExperiment(shutil.copytree(trained.path, tmp_path / "small"))
    first = copy.ledger.read_bytes().splitlines(keepends=True)[:2]
    copy.ledger.write_bytes(b"".join(first))
    with pytest.raises(ModelError, match="has finished an epoch yet"):
        load_trial_model(copy, None)
    with pytest.raises(ModelError, match="No trial has finished an epoch yet"):
        load_trial_model(copy, 0)


def test_onnx_file_is_checked_against_the_models_logits(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs celltune[onnx]")
    model = export("small", tmp_path / "model", onnx=True)
    session = ort.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    assert _largest_difference(model.classifier, session) < 1e-4
    assert "inputs of `model.onnx`" in (tmp_path / "model" / "README.md").read_text()
    monkeypatch.setattr("celltune.search.bundles.export.LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match=r"model.onnx is not reliable"):
        export("small", tmp_path / "never", onnx=True)
    monkeypatch.setattr("celltune.models.network.onnx_export.MAX_BYTES", 10)
    with pytest.raises(ModelError, match=r"model.onnx cannot be written: The weights"):
        export("small", tmp_path / "never", onnx=True)
    assert not (tmp_path / "never").exists()


def test_missing_onnx_names_the_extra(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'celltune\[onnx\]'"):
        export("small", tmp_path / "model", onnx=True)
    assert not (tmp_path / "model").exists()


def test_model_card_reports_metrics_and_their_limits(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    origin = json.loads((exported / "config.json").read_text())["origin"]
    accuracy, parameters = (origin["metrics"][key] for key in ("valid_accuracy", "parameters"))
    assert f"| Validation accuracy | {100 * accuracy:.2f} % |" in text
    assert f"| Parameters | {int(parameters):,} |" in text
    assert "- train: 240 documents (negative: " in text
    assert "was not evaluated on a test split" in text
    assert "celltune generated from a small grammar" in (exported / "DATA-TERMS.md").read_text()


def test_config_has_the_budget_in_force(trained: LocalExperiment) -> None:
    extended = shutil.copytree(trained.path, trained.path.parent / "extended")
    budget = trained.config().budget.model_dump(
        include={"trials", "max_epochs", "target", "patience"}
    )
    with Ledger(extended / "ledger.jsonl") as ledger:
        ledger.append(BudgetChanged(at=9.0, **{**budget, "trials": 99}, extended=[], retried=[]))
    assert load_trial_model(LocalExperiment(extended), None).config.budget.trials == 99


def test_only_successful_evaluations_of_the_trial_are_loaded(trained: LocalExperiment) -> None:
    evaluated = shutil.copytree(trained.path, trained.path.parent / "evaluated")
    expected = evaluation(0.8, seed=1)
    latest = baseline("nb_svm", 0.7)
    with Ledger(evaluated / "ledger.jsonl") as ledger:
        ledger.append(
            expected,
            evaluation(0.9, seed=1).model_copy(update={"number": 1}),
            EvaluationFailed(at=9.0, number=0, seed=2, on="train", error="it broke"),
            baseline("nb_svm", 0.9),
            latest,
        )
    model = load_trial_model(LocalExperiment(evaluated), 0)
    assert model.evaluations == (expected,)
    assert model.baselines == (latest,)


def test_export_and_prediction_leave_the_experiment_unchanged(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")}
    export("small", tmp_path / "model")
    load_model("small").predict_one(GOOD)
    assert {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")} == before
    assert load_config(trained.path / "experiment.yaml").name == "small"


def test_model_has_the_size_of_its_word_vectors(tmp_path: Path) -> None:
    """Word vectors replace the default of embedding_size."""
    folder = make_experiment(
        tmp_path / "s", tmp_path / "c", vectors={"train": "word2vec", "size": 8}
    )
    assert load_trial_model(folder, 0).classifier.config.embedding_size == 8
