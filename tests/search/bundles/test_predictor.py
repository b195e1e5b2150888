from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.text.encoder import TextEncoder, TextRules
from celltune.models.config import ModelConfig
from celltune.models.native import library as native
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.trained import network_of
from celltune.search.bundles.export import export
from celltune.search.bundles.predictor import EMPTY, NOT_UTF8, UNKNOWN, TrainedModel
from celltune.search.errors import ModelError
from celltune.search.storage.local import LocalExperiment

WORDS = ("<unk>", "<pad>", "a", "fine", "film", "not", "dull", ".")


def make_model(
    *, classes: tuple[str, ...] = ("neg", "pos"), both: bool = False, keep: str = "both"
) -> TrainedModel:
    config = ModelConfig(
        cell="gru", hidden_size=6, embedding_size=5, embedding_std=1.0, bidirectional=both
    )
    rules = TextRules.model_validate(
        {"tokenizer": "basic_english", "lowercase": False, "max_tokens": 6, "keep": keep}
    )
    classifier = TextClassifier(config, len(WORDS), len(classes))
    return TrainedModel(network_of(classifier), TextEncoder(rules, WORDS), classes)


@pytest.mark.parametrize("classes", [("neg", "pos"), ("bad", "mixed", "good")])
def test_label_is_the_most_probable_class(classes: tuple[str, ...]) -> None:
    for prediction in make_model(classes=classes).predict(["a fine film", "not a dull film ."]):
        assert list(prediction.probabilities) == list(classes)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.label == max(
            prediction.probabilities, key=lambda name: prediction.probabilities[name]
        )
        assert prediction.probability == prediction.probabilities[prediction.label]
        assert prediction.note == ""


def test_texts_without_a_prediction_get_a_note() -> None:
    texts = ["a fine film", "", "  \n", "<br />", "xyz abc", "a \udc80", "dull"]
    predictions = make_model().predict(texts)
    assert [each.note for each in predictions] == ["", EMPTY, EMPTY, EMPTY, UNKNOWN, NOT_UTF8, ""]
    assert [each.label is None for each in predictions] == [bool(e.note) for e in predictions]
    assert all(each.probabilities == {} for each in predictions if each.note)
    assert make_model().predict([]) == []


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from([*WORDS[2:], "xyz"]), max_size=9).map(" ".join), max_size=12
    )
)
def test_prediction_does_not_depend_on_the_other_texts(texts: list[str]) -> None:
    model = make_model(both=True)
    for text, batched in zip(texts, model.predict(texts), strict=True):
        (alone,) = model.predict([text])
        assert (alone.label, alone.note) == (batched.label, batched.note)
        assert alone.probability == pytest.approx(batched.probability, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be classified: it contains no word. Give a text with at least one word"),
        ("xyz " * 30, r"'xyz xyz.*\.\.\.' cannot be classified: .*the model's vocabulary.*domain"),
        ("\udc80", "it is not valid UTF-8"),
    ],
)
def test_single_text_without_a_prediction_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model().predict_one(text)
    with pytest.raises(ModelError, match=message):
        make_model().explain(text)


@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
def test_probability_at_a_word_is_that_of_the_text_ending_there(both: bool) -> None:
    model = make_model(both=both)
    explanation = model.explain("A fine xyz film.")
    assert [step.word for step in explanation.steps] == ["a", "fine", "xyz", "film", "."]
    assert [step.known for step in explanation.steps] == [True, True, False, True, True]
    label = explanation.prediction.label
    assert label is not None
    texts = ["a", "a fine", "a fine xyz", "a fine xyz film", "a fine xyz film ."]
    expected = [each.probabilities[label] for each in model.predict(texts)]
    assert [step.probability for step in explanation.steps] == pytest.approx(expected, abs=1e-6)
    assert explanation.steps[-1].probability == pytest.approx(
        explanation.prediction.probability, abs=1e-6
    )
    assert explanation.steps[0].change is None
    changes = [step.change for step in explanation.steps[1:]]
    assert changes == pytest.approx(np.diff(expected).tolist(), abs=1e-6)


def test_explanation_reports_omitted_words() -> None:
    text = "a fine film not dull . a fine film ."
    explanation = make_model(keep="both").explain(text)
    assert len(explanation.steps) == 6
    assert (explanation.gap, explanation.gap_at) == (4, 3)
    assert (make_model(keep="head").explain(text).gap_at) == 6
    assert (make_model(keep="tail").explain(text).gap_at) == 0


@pytest.mark.skipif(not native.available(), reason="needs the native code")
def test_prediction_with_a_bundle_imports_no_heavy_library(
    trained: LocalExperiment, tmp_path: Path
) -> None:
    export("small", tmp_path / "model")
    code = (
        "import sys; from celltune import load_model\n"
        f"model = load_model({str(tmp_path / 'model')!r})\n"
        "print(model.predict(['the plot was great .'])[0].label)\n"
        "print(*({'ray', 'optuna', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["positive"]
