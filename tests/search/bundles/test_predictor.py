from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.text.encoder import TextReader, TextRules
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
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
    return TrainedModel(classifier, TextReader(rules, WORDS), classes)


@pytest.mark.parametrize("classes", [("neg", "pos"), ("bad", "mixed", "good")])
def test_the_likeliest_class_is_the_label(classes: tuple[str, ...]) -> None:
    for found in make_model(classes=classes).predict(["a fine film", "not a dull film ."]):
        assert list(found.probabilities) == list(classes)
        assert sum(found.probabilities.values()) == pytest.approx(1)
        assert found.label == max(found.probabilities, key=lambda name: found.probabilities[name])
        assert found.probability == found.probabilities[found.label]
        assert found.note == ""


def test_what_cant_be_answered_gets_a_note_and_the_others_an_answer() -> None:
    texts = ["a fine film", "", "  \n", "<br />", "xyz abc", "a \udc80", "dull"]
    found = make_model().predict(texts)
    assert [each.note for each in found] == ["", EMPTY, EMPTY, EMPTY, UNKNOWN, NOT_UTF8, ""]
    assert [each.label is None for each in found] == [bool(each.note) for each in found]
    assert all(each.probabilities == {} for each in found if each.note)
    assert make_model().predict([]) == []


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from([*WORDS[2:], "xyz"]), max_size=9).map(" ".join), max_size=12
    )
)
def test_a_text_is_answered_alike_alone_and_among_others(texts: list[str]) -> None:
    model = make_model(both=True)
    for text, among in zip(texts, model.predict(texts), strict=True):
        (alone,) = model.predict([text])
        assert (alone.label, alone.note) == (among.label, among.note)
        assert alone.probability == pytest.approx(among.probability, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be classified: it holds no word. Give a text with at least one word"),
        ("xyz " * 30, r"'xyz xyz.*\.\.\.' can't be classified: .*the model knows.*domain"),
        ("\udc80", "it isn't utf-8"),
    ],
)
def test_a_single_text_without_an_answer_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model().predict_one(text)
    with pytest.raises(ModelError, match=message):
        make_model().explain(text)


@pytest.mark.parametrize("both", [False, True], ids=["forwards", "both"])
def test_a_words_probability_is_that_of_the_text_which_ends_with_it(both: bool) -> None:
    model = make_model(both=both)
    found = model.explain("A fine xyz film.")
    assert [step.word for step in found.steps] == ["a", "fine", "xyz", "film", "."]
    assert [step.known for step in found.steps] == [True, True, False, True, True]
    label = found.prediction.label
    assert label is not None
    texts = ["a", "a fine", "a fine xyz", "a fine xyz film", "a fine xyz film ."]
    wanted = [each.probabilities[label] for each in model.predict(texts)]
    assert [step.probability for step in found.steps] == pytest.approx(wanted, abs=1e-6)
    assert found.steps[-1].probability == pytest.approx(found.prediction.probability, abs=1e-6)
    assert found.steps[0].change is None
    changes = [step.change for step in found.steps[1:]]
    assert changes == pytest.approx(np.diff(wanted).tolist(), abs=1e-6)


def test_what_is_cut_out_of_a_long_text_is_told() -> None:
    text = "a fine film not dull . a fine film ."
    found = make_model(keep="both").explain(text)
    assert len(found.steps) == 6
    assert (found.gap, found.gap_at) == (4, 3)
    assert (make_model(keep="head").explain(text).gap_at) == 6
    assert (make_model(keep="tail").explain(text).gap_at) == 0


def test_predicting_needs_neither_ray_nor_optuna(trained: LocalExperiment, tmp_path: Path) -> None:
    export("small", tmp_path / "model")
    code = (
        "import sys; from celltune import load_model\n"
        "assert 'torch' not in sys.modules\n"
        f"model = load_model({str(tmp_path / 'model')!r})\n"
        "print(model.predict(['the plot was great .'])[0].label)\n"
        "print(*({'ray', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["positive"]
