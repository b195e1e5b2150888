from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.errors import DataError
from celltune.data_prep.wide import model as model_module
from celltune.data_prep.wide import storage
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide.model import WideModel
from celltune.data_prep.wide_config import WideConfig
from tests.data_prep.wide.reference import corpus

TEXTS, LABELS = corpus(24, 3, 1)


def fitted(classes: int, **fields: Any) -> WideModel:
    labels = LABELS if classes == 3 else (LABELS > 0).astype(np.int64)
    documents = LabelledTexts(TEXTS, labels, [None] * len(TEXTS))
    return WideFitter(WideConfig(**fields), classes, 1).refit(documents, 10)


BINARY, TERNARY = fitted(2), fitted(3)
ARRAYS = BINARY.arrays()


@pytest.mark.parametrize("model", [BINARY, TERNARY, fitted(2, words=1, characters=0)])
def test_arrays_restore_the_model(model: WideModel) -> None:
    arrays = model.arrays()
    assert all(array.dtype.kind in "iuf" for array in arrays.values())
    restored = WideModel.from_arrays(arrays)
    assert restored.outputs == model.outputs
    assert restored.logits(TEXTS).tolist() == model.logits(TEXTS).tolist()
    assert restored.contributions(TEXTS[0])[0].ngram == model.contributions(TEXTS[0])[0].ngram


def changed(**arrays: Any) -> dict[str, Any]:
    return {**ARRAYS, **arrays}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "'words' of the wide part is invalid: it is missing"),
        (changed(words=np.array([0xFF], np.uint8)), "'words' .*: it is not UTF-8"),
        (changed(words=np.frombuffer(b"a\n\nb", np.uint8)), "'words' .*: a word is empty"),
        (changed(words=np.frombuffer(b"a\nb\na", np.uint8)), "'words' .*: a word is there twice"),
        (
            changed(words=ARRAYS["words"].astype(np.int64)),
            "it is int64 with 1 dimensions, but not uint8 with 1",
        ),
        (changed(words_2=ARRAYS["words_2"][::-1].copy()), "'words_2' .* do not ascend from 0 to"),
        (changed(words_2=ARRAYS["words_2"] + 10**6), "'words_2' .* do not ascend from 0 to below"),
        (
            {name: array for name, array in ARRAYS.items() if "characters" not in name},
            "'characters_2' .*: it is missing",
        ),
        (changed(alphabet=ARRAYS["alphabet"] - 100), "'alphabet' .* do not ascend from 0 to below"),
        (changed(weights=ARRAYS["weights"][:, 1:]), r"'weights' .*: its shape is \(1, \d+\), but"),
        (changed(weights=ARRAYS["weights"] * np.nan), "'weights' .*: a value is NaN or above"),
        (
            changed(intercepts=np.zeros(2, np.float32)),
            "'intercepts' .* 2 outputs. Allowed are 1 or",
        ),
        (changed(words_6=ARRAYS["words_2"]), "'words_6' .*: a model has no such array"),
        (changed(words_9=ARRAYS["words_2"]), "'words_9' .*: a model has no such array"),
        (changed(code=np.zeros(1)), "'code' .*: a model has no such array. The file that contains"),
    ],
)
def test_invalid_arrays_are_rejected(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        WideModel.from_arrays(arrays)


@pytest.mark.parametrize("model", [BINARY, TERNARY])
def test_contributions_add_up_to_the_log_odds(model: WideModel) -> None:
    text = TEXTS[5]
    contributions = model.contributions(text)
    values = np.stack([each.values for each in contributions])
    log_odds = values.sum(axis=0) + model.arrays()["intercepts"]
    outputs = model.logits([text])[0]
    if model.outputs == 1:
        assert log_odds == pytest.approx(outputs, abs=1e-5)
    else:
        shares = -np.logaddexp(0, -log_odds)
        assert shares - np.logaddexp.reduce(shares) == pytest.approx(outputs, abs=1e-5)
    strength = np.abs(values).max(axis=1)
    assert (np.diff(strength) <= 0).all()
    assert {each.kind for each in contributions} == {"words", "characters"}
    assert len({(each.kind, each.ngram) for each in contributions}) == len(contributions)


def test_ngrams_are_spelled_as_in_the_text() -> None:
    texts = ["It's  GOOD", "it's good"] * 2
    labels = np.array([0, 0, 1, 1])
    model = WideFitter(WideConfig(words=2, characters=3), 2, 1).refit(
        LabelledTexts(texts, labels, [None] * 4), 1
    )
    found: dict[str, set[str]] = {"words": set(), "characters": set()}
    for each in model.contributions("It's<br />good, maybe"):
        found[each.kind].add(each.ngram)
    assert found["words"] == {"it", "'", "s", "good", "it '", "' s", "s good"}
    assert {" i", "it", "it'", "'s ", "s ", " go", "ood"} <= found["characters"]
    assert not {"s g", "od ", "d,"} & found["characters"]


def test_unknown_and_empty_texts_get_the_intercept() -> None:
    intercept = ARRAYS["intercepts"][0]
    logits = BINARY.logits(["ΩΩ ΩΩ", "", "<br />"])
    assert logits[:, 0] == pytest.approx(np.full(3, intercept))
    assert BINARY.contributions("") == []
    assert BINARY.logits([]).shape == (0, 1)


def test_outputs_of_a_text_do_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    together = TERNARY.logits(TEXTS)
    monkeypatch.setattr(model_module, "TEXTS_AT_ONCE", 5)
    assert TERNARY.logits(TEXTS).tolist() == together.tolist()


def test_prediction_imports_neither_scikit_learn_nor_scipy() -> None:
    code = (
        "import sys, celltune.data_prep.wide.model, celltune.data_prep.dataset.tensorized; "
        "print({'scipy', 'sklearn', 'pandas', 'torch', 'pyarrow'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_more_features_than_native_code_can_number_are_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "_MOST_FEATURES", 10)
    with pytest.raises(DataError, match=r"it has [\d,]+ features. Allowed are at most 10"):
        WideModel.from_arrays(ARRAYS)
