"""The C++ code for predictions computes what the classifier computes."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from celltune.data_prep.dataset.subsets import concatenate
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig
from celltune.models.layers.base import Recurrence
from celltune.models.layers.cells import GruResetBeforeCell, MguCell
from celltune.models.native import library as native
from celltune.models.network import native_network
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.native_network import NativeNetwork, is_native
from celltune.models.network.predict import log_probabilities
from tests.models.random_data import make_split

VOCABULARY = 30

needs_compiler = pytest.mark.skipif(not native.available(), reason="needs the native code")


def make_config(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate(
        {"cell": "gru", "hidden_size": 6, "embedding_size": 5, "embedding_std": 1.0, **settings}
    )


def make_classifier(config: ModelConfig, classes: int = 2) -> TextClassifier:
    classifier = TextClassifier(config, VOCABULARY, classes).eval()
    if config.wide == "add":
        torch.nn.init.constant_(classifier.wide_scale, 0.7)
    return classifier


def arrays_of(classifier: TextClassifier) -> dict[str, Any]:
    return {name: values.numpy().copy() for name, values in classifier.state_dict().items()}


def native_of(classifier: TextClassifier) -> NativeNetwork:
    return NativeNetwork(
        classifier.config, VOCABULARY, classifier.num_classes, arrays_of(classifier)
    )


def documents(classes: int = 2) -> TensorizedSplit:
    """More documents than a panel of the kernel, some of them much longer."""
    short = make_split(60, 1, vocabulary=VOCABULARY, classes=classes, wide=True)
    long = make_split(5, 2, vocabulary=VOCABULARY, classes=classes, longest=40, wide=True)
    return concatenate(short, long)


@needs_compiler
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_before", "mgu"])
@pytest.mark.parametrize("readout", ["final", "mean", "max", "max_mean", "last_two_layers"])
@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
def test_equals_the_classifier(cell: str, readout: str, both: bool) -> None:
    for classes, size, layers in ((2, 16, 2), (3, 6, 3)):
        config = make_config(
            cell=cell, readout=readout, bidirectional=both, hidden_size=size, num_layers=layers
        )
        classifier, split = make_classifier(config, classes), documents(classes)
        expected = log_probabilities(classifier, split, batch_size=16)
        actual = native_of(classifier).log_probabilities(split)
        assert actual == pytest.approx(expected, abs=1e-5)


@needs_compiler
@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "rnn", "nonlinearity": "relu"},
        {"output_relu": True, "dropout": 0.5},
        {"wide": "add"},
        {"wide": "add", "classes": 4},
        {"readout": "max_mean", "word_dropout": 0.1, "embedding_dropout": 0.2, "output_scale": 0.1},
    ],
)
def test_settings_are_those_of_the_classifier(settings: dict[str, Any]) -> None:
    classes = settings.pop("classes", 2)
    classifier, split = make_classifier(make_config(**settings), classes), documents(classes)
    expected = log_probabilities(classifier, split, batch_size=16)
    assert native_of(classifier).log_probabilities(split) == pytest.approx(expected, abs=1e-5)


@needs_compiler
@pytest.mark.parametrize("layers", [1, 2])
def test_small_tables_and_threads_do_not_change_the_result(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, split = native_of(make_classifier(make_config(num_layers=layers))), documents()
    expected = network.log_probabilities(split)
    monkeypatch.setattr(native_network, "TABLE_BYTES", 1 << 12)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    groups = list(network._groups(split))
    assert len(groups) > 1
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(split)))
    assert network.log_probabilities(split) == pytest.approx(expected, abs=1e-6)


@needs_compiler
def test_no_documents_and_missing_outputs_of_the_wide_part() -> None:
    nothing = TensorizedSplit(np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.int64))
    assert native_of(make_classifier(make_config())).log_probabilities(nothing).shape == (0, 2)
    network = native_of(make_classifier(make_config(wide="add")))
    with pytest.raises(DataError, match="wide part, but this split has none"):
        network.log_probabilities(replace(documents(), wide=None))


@needs_compiler
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embedding", None, "embedding is missing"),
        ("extra", np.zeros(1, np.float32), "it has no 'extra'"),
        ("output_bias", np.zeros(2, np.float32), r"output_bias is float32 \(2,\) instead of .*1,"),
        ("output_bias", np.zeros(1), r"output_bias is float64 \(1,\) instead of float32"),
        ("embedding", np.zeros((VOCABULARY - 1, 5), np.float32), r"\(29, 5\) instead of .*30, 5"),
    ],
)
def test_weights_of_another_model_are_rejected(name: str, value: Any, message: str) -> None:
    classifier = make_classifier(make_config())
    arrays = {**arrays_of(classifier), name: value}
    if value is None:
        del arrays[name]
    with pytest.raises(ValueError, match=message):
        NativeNetwork(classifier.config, VOCABULARY, 2, arrays)


@needs_compiler
def test_memory_that_cannot_be_allocated_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    network = native_of(make_classifier(make_config()))
    monkeypatch.setattr(native, "function", lambda *_: lambda _: 1)
    with pytest.raises(MemoryError, match=r"hidden_size 6\) cannot allocate"):
        network.log_probabilities(documents())


def test_only_known_models_are_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: True)
    assert is_native(make_config())
    assert not is_native(ModelConfig(wide="only"))
    assert not is_native(make_config(readout="last_two_layers"))
    monkeypatch.setattr(native_network, "_KNOWN_FIELDS", native_network._KNOWN_FIELDS - {"dropout"})
    assert is_native(make_config())
    assert not is_native(make_config(dropout=0.1))
    monkeypatch.setattr(native, "available", lambda: False)
    assert not is_native(make_config())


def test_numbers_of_the_recurrences_are_those_of_the_cells() -> None:
    numbers = {name.upper(): cell.number for name, cell in native_network._CELLS.items()}
    assert numbers.pop("RNN") == Recurrence.RNN_TANH
    assert numbers == {name: Recurrence[name].value for name in numbers}
    assert native_network._RNN_RELU == Recurrence.RNN_RELU
    assert all(cell().native.two_products for cell in (GruResetBeforeCell, MguCell))  # type: ignore[attr-defined]


def test_structure_has_the_fields_of_the_kernel() -> None:
    (source,) = (path for path in native.SOURCES if path.stem == "inference")
    body = source.read_text().split("struct Layer {")[1].split("};")[0]
    lines = [line.split("//")[0].strip().rstrip(";") for line in body.splitlines()]
    names = [
        field.strip(" *")
        for line in lines
        if line
        for field in line.removeprefix("const ").split(" ", 1)[1].split(",")
    ]
    fields = native_network._Layer._fields_
    assert names == [name for name, *_ in fields]
    assert {kind for _, kind in fields[: len(native_network._NUMBERS)]} == {ctypes.c_int64}
