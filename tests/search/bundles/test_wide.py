"""Models with a wide part: bundles, predictions, explanations, ONNX files and model cards."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load, save

from celltune.data_prep.text.encoder import TextEncoder, TextRules
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide.model import WideModel
from celltune.data_prep.wide_config import WideConfig
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.trained import Network, WideNetwork, network_of
from celltune.search.bundles.bundle import write_bundle
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.bundles.bundle_reading import load_bundle
from celltune.search.bundles.export import _wide_part, export, load_model
from celltune.search.bundles.model_card import model_card
from celltune.search.bundles.predictor import (
    EMPTY,
    UNKNOWN_NGRAMS,
    Explanation,
    TrainedModel,
)
from celltune.search.bundles.trial_model import load_data, load_trial_model
from celltune.search.cli.prediction.explanation import LARGEST_NGRAMS, ngram_heading, ngram_table
from celltune.search.errors import ModelError
from celltune.search.storage.local import LocalExperiment
from tests.data_prep.wide.reference import corpus

GOOD, BAD = "the plot was great .", "the plot was awful ."
WORDS = ("<unk>", "<pad>", "good", "bad", "film", ".")
RULES = TextRules(tokenizer="basic_english", lowercase=False, max_tokens=4, keep="both")
CONFIG = ModelConfig(cell="gru", hidden_size=6, embedding_size=5, embedding_std=1.0, wide="add")
ONLY = ModelConfig(wide="only")


def fit_wide(classes: int) -> WideModel:
    texts, labels = corpus(30, classes, 1)
    documents = LabelledTexts(texts, labels, [None] * len(texts))
    return WideFitter(WideConfig(), classes, 1).refit(documents, 10)


WIDE = {classes: fit_wide(classes) for classes in (2, 3)}


def make_model(classes: int = 2, wide: str = "add") -> TrainedModel:
    network: Network = WideNetwork()
    if wide == "add":
        classifier = TextClassifier(CONFIG, len(WORDS), classes)
        torch.nn.init.constant_(classifier.wide_scale, 0.5)
        network = network_of(classifier)
    names = tuple("abc"[:classes])
    return TrainedModel(network, TextEncoder(RULES, WORDS), names, WIDE[classes])


def logits_of(model: TrainedModel, text: str) -> np.ndarray:
    (prediction,) = model.predict([text])
    return np.log(list(prediction.probabilities.values()))


def write(folder: Path, model: ModelConfig = ONLY, wide: WideModel | None = WIDE[2]) -> Path:
    config = BundleConfig(model=model, text=RULES, classes=("a", "b"))
    tensors = TextClassifier(model, len(WORDS), 2).state_dict() if model.wide != "only" else {}
    write_bundle(folder, config, WORDS, tensors, {}, wide)
    return folder


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a bundle together with its checksum, as an attacker would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("trial", [0, 1], ids=["only", "add"])
def test_bundle_predicts_like_the_experiment(
    trial: int, wide_trials: LocalExperiment, tmp_path: Path
) -> None:
    export("wide", tmp_path / "model", trial=trial)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert ("model.safetensors" in files, "wide.safetensors" in files) == (trial == 1, True)
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["format"] == 2
    texts = [GOOD, BAD, "the music was not dull . the cast was warm .", ""]
    predictions = load_model(tmp_path / "model").predict(texts)
    assert predictions == load_model("wide", trial=trial).predict(texts)
    assert [prediction.label for prediction in predictions[:2]] == ["positive", "negative"]


@pytest.mark.parametrize("trial", [0, 1], ids=["only", "add"])
def test_model_has_the_recorded_validation_accuracy(
    trial: int, wide_trials: LocalExperiment
) -> None:
    model = load_trial_model(wide_trials, trial)
    predicted = load_model("wide", trial=trial)._probabilities(load_data(model).valid).argmax(1)
    accuracy = float((predicted == load_data(model).valid.labels).mean())
    assert accuracy == pytest.approx(model.epoch.metrics["valid_accuracy"])


def test_wide_part_alone_predicts_without_torch_and_scikit_learn(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    code = (
        "import sys; from celltune import load_model\n"
        f"model = load_model({str(folder)!r})\n"
        "print(model.predict(['a good film'])[0].note or 'predicted')\n"
        "print(*({'ray', 'optuna', 'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["predicted"]


def test_bundle_without_a_wide_part_keeps_its_format(tmp_path: Path) -> None:
    model = CONFIG.model_copy(update={"wide": "none"})
    folder = write(tmp_path / "model", model, None)
    assert json.loads((folder / "manifest.json").read_text())["format"] == 1
    assert "wide" not in json.loads((folder / "config.json").read_text())["model"]
    assert load_bundle(folder).wide is None


def arrays(**changes: Any) -> bytes:
    return save({**WIDE[2].arrays(), **changes})


def weights(change: Callable[[np.ndarray], None]) -> bytes:
    values = WIDE[2].arrays()["weights"].copy()
    change(values)
    return arrays(weights=values)


def nan_weight(values: np.ndarray) -> None:
    values[0, 0] = np.nan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a safetensors file", r"wide\.safetensors contains no arrays"),
        (arrays()[:-9], r"wide\.safetensors contains no arrays"),
        (weights(nan_weight), "contains no wide part: .*is NaN or above"),
        (arrays(weights=np.zeros((1, 3), np.float32)), "contains no wide part: .*shape"),
        (arrays(weights=np.zeros(3, np.float32)), "contains no wide part: .*weights"),
        (arrays(words_2=WIDE[2].arrays()["words_2"][::-1].copy()), "no wide part: .*words_2"),
        (arrays(extra=np.zeros(2)), "contains no wide part: .*extra"),
        (save(WIDE[3].arrays()), "has 3 outputs, but 2 classes need 1"),
    ],
)
def test_damaged_wide_part_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    folder = write(tmp_path / "model")
    rewrite(folder, "wide.safetensors", content)
    with pytest.raises(ModelError, match=message):
        load_bundle(folder)


def test_wide_part_that_is_missing_or_not_listed_is_rejected(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["wide.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"manifest\.json does not list wide\.safetensors"):
        load_bundle(folder)
    folder = write(tmp_path / "other")
    (folder / "wide.safetensors").unlink()
    with pytest.raises(ModelError, match=r"wide\.safetensors is missing"):
        load_bundle(folder)


def test_scale_of_another_shape_is_rejected(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", CONFIG)
    tensors = load((folder / "model.safetensors").read_bytes())
    tensors["wide_scale"] = np.ones(2, np.float32)
    rewrite(folder, "model.safetensors", save(tensors))
    with pytest.raises(ModelError, match=r"does not match the model: .*wide_scale"):
        load_bundle(folder)


@pytest.mark.parametrize("wide", ["add", "only"])
@pytest.mark.parametrize("classes", [2, 3])
def test_text_without_a_known_word_is_predicted_from_its_characters(
    wide: str, classes: int
) -> None:
    model = make_model(classes, wide)
    texts = ["terrific", "good film", "§§§ ¤¤¤", "", "never"]
    predictions = model.predict(texts)
    assert [each.note for each in predictions] == ["", "", UNKNOWN_NGRAMS, EMPTY, ""]
    with pytest.raises(ModelError, match=r"nor an n-gram of its wide part\. Give a text in the l"):
        model.predict_one("§§§ ¤¤¤")
    if wide == "only":
        assert logits_of(model, "terrific") == pytest.approx(
            np.log(np.exp(WideNetwork().log_probabilities(split_of(model, "terrific"))[0]))
        )


def split_of(model: TrainedModel, text: str) -> Any:
    from celltune.data_prep.text.encoder import as_split

    assert model.wide is not None
    ids, offsets = model.reader.encode([text])
    return replace(as_split(ids, offsets, np.array([True])), wide=model.wide.logits([text]))


@pytest.mark.parametrize("label", [0, 1])
def test_contributions_add_up_to_the_log_odds_of_the_label(label: int) -> None:
    model = make_model(wide="only")
    assert model.wide is not None
    texts, labels = corpus(30, 2, 1)
    text = next(
        text
        for text, own in zip(texts, labels, strict=True)
        if own == label and model.predict_one(text).label == "ab"[label]
    )
    explanation = model.explain(text)
    assert (explanation.steps, explanation.gap) == ((), 0)
    total = sum(ngram.contribution for ngram in explanation.ngrams)
    assert explanation.intercept is not None
    odds = explanation.prediction.probability or 0.0
    assert total + explanation.intercept == pytest.approx(np.log(odds / (1 - odds)), abs=1e-4)
    sizes = [abs(ngram.contribution) for ngram in explanation.ngrams]
    assert sizes == sorted(sizes, reverse=True)
    assert {ngram.kind for ngram in explanation.ngrams} == {"words", "characters"}


@pytest.mark.parametrize("classes", [2, 3])
def test_explanation_ends_with_the_prediction_and_scales_the_contributions(classes: int) -> None:
    text = "good film . bad film ."
    explanation = make_model(classes).explain(text)
    assert [step.word for step in explanation.steps] == ["good", "film", "film", "."]
    assert explanation.gap == 2
    assert explanation.steps[-1].probability == pytest.approx(explanation.prediction.probability)
    label = "abc".index(explanation.prediction.label or "")
    output, factor = (label, 0.5) if classes > 2 else (0, 0.5 if label else -0.5)
    expected = sorted(
        (factor * float(each.values[output]) for each in WIDE[classes].contributions(text)),
        key=lambda value: -abs(value),
    )
    assert [ngram.contribution for ngram in explanation.ngrams] == pytest.approx(expected)
    intercept = factor * float(WIDE[classes].intercepts[output])
    assert explanation.intercept == pytest.approx(intercept)


def test_explanation_lists_the_strongest_ngrams_of_the_shown_label() -> None:
    text = "good film . bad film ."
    explanation = make_model(3, "only").explain(text)
    lines = _table_lines(explanation)
    shown = [float(line.split()[0]) for line in lines[:LARGEST_NGRAMS]]
    assert np.abs(shown).tolist() == sorted(np.abs(shown), reverse=True)
    others, intercept, total = (float(line.split()[0]) for line in lines[-3:])
    assert lines[-3].endswith(f"({len(explanation.ngrams) - LARGEST_NGRAMS} other n-grams)")
    assert sum(shown) + others + intercept == pytest.approx(total, abs=2e-3)
    assert "against the rest, before the classes are normalized" in ngram_heading(explanation)


def _table_lines(explanation: Explanation) -> list[str]:
    """Return the rows of the table of n-grams, as a wide terminal shows them."""
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        console.print(ngram_table(explanation))
    return [line.rstrip() for line in shown.get().splitlines()[2:]]


def test_onnx_file_reads_the_outputs_of_the_wide_part(
    wide_trials: LocalExperiment, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export("wide", tmp_path / "model", trial=1, onnx=True)
    model = load_model(tmp_path / "model")
    assert model.wide is not None
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx")
    ids, _ = model.reader.encode([GOOD])
    inputs = {
        "ids": ids[None].astype(np.int64),
        "lengths": np.array([len(ids)]),
        "wide": model.wide.logits([GOOD]),
    }
    (probabilities,) = session.run(["probabilities"], inputs)
    expected = list(model.predict_one(GOOD).probabilities.values())
    assert probabilities[0] == pytest.approx(expected, abs=1e-5)
    assert ".wide.logits(texts)" in (tmp_path / "model" / "README.md").read_text()


def test_wide_part_alone_has_no_onnx_form(wide_trials: LocalExperiment, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Trial 0 of 'wide' is the wide part alone, .*no ONNX"):
        export("wide", tmp_path / "model", trial=0, onnx=True)
    assert not (tmp_path / "model").exists()


def test_model_card_describes_the_wide_part(wide_trials: LocalExperiment) -> None:
    alone, both = (load_trial_model(wide_trials, number) for number in (0, 1))
    data = load_data(both)
    text = model_card(alone, data, has_onnx=False)
    assert "A linear text classifier for the classes" in text
    assert "- The wide part is the whole model; there is no network." in text
    assert '{\n  "wide": "only"\n}' in text
    for absent in ("dropout", "truncated to", "after epoch", "Training time", "the epoch were"):
        assert absent not in text
    assert "- The whole texts are read; none is truncated." in text
    assert "| Accuracy on training documents, each by a model that was fitted without it |" in text
    assert re.search(r"Fitted in \d+\.\d s\.", text)
    text = model_card(replace(both, architecture=both.architecture), data, has_onnx=False)
    assert "A recurrent text classifier with a wide part" in text
    assert "- For the network, texts are split into words by the tokenizer" in text
    assert "Training accuracy (during the epoch, with dropout)" in text
    assert "the best linear model (the wide part alone, " in text
    facts: Any = data.info["wide"]
    assert f"- {facts['words']:,} n-grams of 1 to 3 words and punctuation marks" in text
    assert f"- {facts['characters']:,} n-grams of 2 to 5 characters within words" in text
    assert f"of the wide part alone: {100 * facts['valid_accuracy']:.2f} %" in text
    assert "% of the model's weights." in text
    gain = both.epoch.metrics["wide_gain"]
    assert f"lowers the validation cross-entropy of the wide part by {gain:.4f}" in text


@pytest.mark.parametrize("beats_wide", [True, False, None])
def test_model_card_says_when_the_wide_part_alone_is_as_good(
    beats_wide: bool | None, wide_trials: LocalExperiment
) -> None:
    state = wide_trials.state()
    alone, both = (load_trial_model(wide_trials, number) for number in (0, 1))
    assert alone.beats_wide is None
    assert both.beats_wide == state.beats_wide(state.trials[1], "valid_accuracy") is not None
    card = model_card(replace(both, beats_wide=beats_wide), load_data(both), has_onnx=False)
    assert ("**The model is not better than the wide part beyond noise" in card) == (
        beats_wide is False
    )


def test_data_without_the_wide_part_of_a_model_is_an_error(wide_trials: LocalExperiment) -> None:
    model = load_trial_model(wide_trials, 1)
    data = load_data(model)
    assert _wide_part(model, data) is data.wide
    with pytest.raises(ModelError, match=r"Trial 1 of 'wide' has a wide part, but the prepared"):
        _wide_part(model, replace(data, wide=None))
