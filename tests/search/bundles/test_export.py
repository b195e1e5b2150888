"""From a trial to a bundle and back: round trip, damage, and whatever can't be taken."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from celltune.data_prep.cache.disk import PREPARED, find
from celltune.data_prep.io.files import default_cache_dir
from celltune.errors import InputError
from celltune.search.bundles import bundle
from celltune.search.bundles.export import _largest_difference, export, load_model, load_trial_model
from celltune.search.bundles.model_card import Facts, card, terms
from celltune.search.config.loading import load_config
from celltune.search.errors import ModelError
from celltune.search.ledger.events import BudgetChanged
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.local import LocalExperiment
from tests.search.trained import make_experiment

GOOD, BAD = "the plot was great .", "the plot was awful ."


@pytest.fixture
def written(trained: LocalExperiment, tmp_path: Path) -> Path:
    export("small", tmp_path / "model")
    return tmp_path / "model"


def test_a_bundle_answers_as_the_experiment_does(written: Path, trained: LocalExperiment) -> None:
    texts = [GOOD, BAD, "the music was not dull . the cast was warm ."]
    ours, theirs = load_model("small").predict(texts), load_model(written).predict(texts)
    assert ours == theirs
    assert [each.label for each in ours[:2]] == ["positive", "negative"]
    assert {path.name for path in written.iterdir()} == {
        "manifest.json",
        "model.safetensors",
        "config.json",
        "vocabulary.json",
        "README.md",
        "DATA-TERMS.md",
    }


def test_its_answers_are_those_that_validation_measured(trained: LocalExperiment) -> None:
    """The accuracy in the ledger is met again, so weights, words and cutting are the trial's."""
    taken = load_trial_model(trained, None)
    data = find(default_cache_dir(), taken.data.fingerprint, PREPARED)
    assert data is not None
    found = taken.model()._probabilities(data.valid).argmax(1)
    accuracy = float((found == data.valid.labels).mean())
    assert accuracy == pytest.approx(taken.epoch.metrics["valid_accuracy"])


def test_the_leaders_best_epoch_is_taken_unless_another_trial_is_named(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    taken = export("small", tmp_path / "leader")
    best = taken.trial.best("valid_accuracy")
    assert best is not None
    assert (taken.trial.number, taken.epoch.epoch) == (0, best.epoch)
    assert export("small", tmp_path / "other", trial=1).trial.number == 1
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert config["model"]["hidden_size"] == 4
    assert config["origin"]["trial"] == 1


def test_an_empty_folder_is_filled_and_missing_parents_are_made(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    export("small", tmp_path / "empty")
    export("small", tmp_path / "new" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


@pytest.mark.parametrize("kind", ["full", "file", "dangling"])
def test_nothing_is_written_over(kind: str, trained: LocalExperiment, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "full":
        place.mkdir()
        (place / "note").write_text("mine")
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="isn't empty" if kind == "full" else "is no folder"):
        export("small", place)
    kept = sorted(path.name for path in tmp_path.rglob("*"))
    assert kept == (["note", "place"] if kind == "full" else ["place"])


def test_a_place_that_cant_be_written_keeps_nothing(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match=r"can't be (looked at|written)"):
        export("small", tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", sorted(["manifest.json", "model.safetensors", "README.md"]))
def test_a_missing_file_is_named(written: Path, name: str) -> None:
    (written / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: it is missing"):
        load_model(str(written))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "vocabulary.json", "README.md", "DATA-TERMS.md"]
)
def test_an_altered_file_is_named(written: Path, name: str) -> None:
    content = bytearray((written / name).read_bytes())
    content[len(content) // 2] ^= 1
    (written / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: it is altered: its sha256"):
        load_model(written)
    (written / name).write_bytes(content[:-1])
    with pytest.raises(ModelError, match=rf"{name}: it has [\d,]+ bytes instead of"):
        load_model(written)


def listed(bundle_folder: Path, **files: Any) -> None:
    """Change what the manifest says of some files."""
    path = bundle_folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, entry in files.items():
        if entry is None:
            del manifest["files"][name]
        else:
            manifest["files"][name] = entry
    path.write_text(json.dumps(manifest))


def test_a_manifest_that_cant_be_used_is_named(written: Path) -> None:
    path = written / "manifest.json"
    whole = path.read_text()
    for text, message in [
        ("{", "cut short or altered"),
        ("[]", "cut short or altered"),
        (whole.replace('"format": 1', '"format": 2'), "it is of format 2, not 1"),
        (whole.replace("config.json", "other.json"), "doesn't list config.json"),
    ]:
        path.write_text(text)
        with pytest.raises(ModelError, match=f"manifest.json: .*{message}"):
            load_model(written)
    path.write_text(whole)
    listed(written, **{"../secret": {"bytes": 1, "sha256": ""}})
    with pytest.raises(ModelError, match=r"lists '../secret', which is no file of a bundle"):
        load_model(written)


def rewritten(bundle_folder: Path, name: str, content: str) -> None:
    """Change a file and its checksum, as someone who knows the format would."""
    (bundle_folder / name).write_text(content)
    data = content.encode()
    sha256 = bundle.hashlib.sha256(data).hexdigest()
    listed(bundle_folder, **{name: {"bytes": len(data), "sha256": sha256}})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{}", "this version can't use it"),
        ("vocabulary.json", "{", "it isn't JSON"),
        ("vocabulary.json", "[1]", "it isn't a list of words"),
        ("vocabulary.json", '["<unk>", "<pad>", "a"]', "weights are of another model"),
        ("model.safetensors", "no weights", "HeaderTooLarge|header"),
    ],
)
def test_content_that_doesnt_fit_is_named(
    written: Path, name: str, content: str, message: str
) -> None:
    rewritten(written, name, content)
    with pytest.raises(ModelError, match=message):
        load_model(written)


def test_a_bundle_has_no_trials_and_a_folder_isnt_one(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds one model; leave --trial out"):
        load_model(written, trial=0)
    with pytest.raises(ModelError, match=r"manifest.json: it is missing"):
        load_model(f"{tmp_path}/none")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (9, "has no trial 9. The leader is trial 0, with valid_accuracy"),
        (2, r"Trial 2 of 'small' has no finished epoch.*\(it broke\)"),
    ],
)
def test_a_trial_that_cant_be_taken_is_told(
    trained: LocalExperiment, number: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_model("small", trial=number)


def test_an_unknown_experiment_is_told(trained: LocalExperiment) -> None:
    with pytest.raises(InputError, match="Did you mean 'small'"):
        load_model("smal")


def test_a_checkpoint_that_is_gone_or_damaged_is_told(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    copy = LocalExperiment(shutil.copytree(trained.path, tmp_path / "small"))
    best = load_trial_model(copy, 0).epoch.checkpoint
    assert best is not None
    ((copy.path / "trials" / str(0)) / best / "tensors.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"Trial 0 of 'small' can't be taken: .*cut short"):
        load_trial_model(copy, 0)
    shutil.rmtree((copy.path / "trials" / str(0)) / best)
    with pytest.raises(ModelError, match=r"can't be taken: .* choose another trial with --trial"):
        load_trial_model(copy, 0)


def test_without_the_cache_the_data_are_prepared_again_if_they_are_the_same(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    assert load_model("small").predict([GOOD])[0].label == "positive"
    copy = LocalExperiment(shutil.copytree(trained.path, tmp_path / "small"))
    config = yaml.safe_load((copy.path / "experiment.yaml").read_text())
    config["data"]["reviews"] = 200
    (copy.path / "experiment.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "other"))
    with pytest.raises(InputError, match="vocabulary of 'small' can't be had"):
        load_trial_model(copy, 0)


def test_a_search_without_an_epoch_has_no_model(tmp_path: Path, trained: LocalExperiment) -> None:
    copy = LocalExperiment(shutil.copytree(trained.path, tmp_path / "small"))
    first = copy.ledger.read_bytes().splitlines(keepends=True)[:2]
    copy.ledger.write_bytes(b"".join(first))
    with pytest.raises(ModelError, match="has finished an epoch yet"):
        load_trial_model(copy, None)
    with pytest.raises(ModelError, match="No trial has one yet"):
        load_trial_model(copy, 0)


def test_onnx_goes_along_and_is_held_to_the_models_own_logits(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs celltune[onnx]")
    taken = export("small", tmp_path / "model", onnx=True)
    session = ort.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    assert _largest_difference(taken.classifier, session) < 1e-4
    assert "`model.onnx` takes" in (tmp_path / "model" / "README.md").read_text()
    monkeypatch.setattr("celltune.search.bundles.export.LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match=r"model.onnx can't be trusted"):
        export("small", tmp_path / "never", onnx=True)
    monkeypatch.setattr("celltune.models.network.onnx_export.LARGEST_BYTES", 10)
    with pytest.raises(ModelError, match=r"model.onnx can't be written: The weights take"):
        export("small", tmp_path / "never", onnx=True)
    assert not (tmp_path / "never").exists()


def test_without_onnx_its_extra_is_named(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'celltune\[onnx\]'"):
        export("small", tmp_path / "model", onnx=True)
    assert not (tmp_path / "model").exists()


def test_the_card_tells_the_numbers_and_what_they_are_worth(written: Path) -> None:
    text = (written / "README.md").read_text()
    origin = json.loads((written / "config.json").read_text())["origin"]
    accuracy, parameters = (origin["metrics"][key] for key in ("valid_accuracy", "parameters"))
    assert f"| Validation accuracy | {100 * accuracy:.2f} % |" in text
    assert f"| Parameters | {int(parameters):,} |" in text
    assert "240 reviews to learn from (negative " in text
    assert "It wasn't measured on a test split" in text
    assert "celltune made from a small grammar" in (written / "DATA-TERMS.md").read_text()


def test_the_card_tells_the_trials_of_an_extended_search(trained: LocalExperiment) -> None:
    extended = shutil.copytree(trained.path, trained.root / "extended")
    budget = trained.config().budget.model_dump(
        include={"trials", "max_epochs", "target", "patience"}
    )
    with Ledger(extended / "ledger.jsonl") as ledger:
        ledger.append(BudgetChanged(at=9.0, **{**budget, "trials": 99}, extended=[], retried=[]))
    assert load_trial_model(LocalExperiment(extended), None).config.budget.trials == 99


def test_what_was_measured_on_the_test_split_is_told_with_its_seeds(
    trained: LocalExperiment,
) -> None:
    taken = load_trial_model(trained, 0)
    measured = [
        SimpleNamespace(on="train", test_confusion=[[right, 0], [100 - right, 0]])
        for right in (80, 90)
    ]
    facts = Facts(
        experiment="small",
        config=taken.config,
        trial=taken.trial,
        epoch=taken.epoch,
        model=taken.classifier.config,
        classes=taken.data.classes,
        info=taken.data.info,
        evaluations=[*measured, SimpleNamespace(on="train", error="it broke")],
    )
    assert (
        "| Test accuracy of the same settings trained anew on train, mean of 2 seeds (smallest to "
        "largest) | 85.00 % (80.00 to 90.00 %) |" in card(facts)
    )
    assert "wasn't measured" not in card(facts)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"source": "imdb"}, "Maas et al."),
        ({"source": "amazon", "path": "a.gz"}, "DLStudio"),
        ({"source": "csv", "path": "x/mine.csv"}, "named `mine.csv`.*write here"),
        ({"source": "imdb", "vectors": {"name": "glove.6B.100d"}}, "glove.6B.100d.*PDDL"),
    ],
)
def test_every_source_has_its_terms(data: dict[str, Any], told: str) -> None:
    import re

    from celltune.data_prep.config import DataConfig

    text = terms(DataConfig.model_validate(data))
    assert re.search(told, text, re.DOTALL)
    assert "x/mine.csv" not in text


def test_the_experiment_is_left_as_it_was(trained: LocalExperiment, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")}
    export("small", tmp_path / "model")
    load_model("small").predict_one(GOOD)
    assert {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")} == before
    assert load_config(trained.path / "experiment.yaml").name == "small"


def test_words_that_start_from_vectors_keep_their_size(tmp_path: Path) -> None:
    """A trial without an embedding_size of its own has that of the vectors."""
    pytest.importorskip("gensim", reason="needs celltune[word2vec]")
    folder = make_experiment(
        tmp_path / "s", tmp_path / "c", vectors={"train": "word2vec", "size": 8}
    )
    assert load_trial_model(folder, 0).classifier.config.embedding_size == 8
