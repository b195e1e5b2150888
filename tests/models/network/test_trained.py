"""The implementations of trained models, and the choice between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig
from celltune.models.native import library as native
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.log_softmax import log_softmax
from celltune.models.network.native_network import NativeNetwork
from celltune.models.network.trained import (
    TorchNetwork,
    WideNetwork,
    load_network,
    network_of,
)
from tests.models.random_data import make_split

GRU = ModelConfig(cell="gru", hidden_size=4, embedding_size=3, embedding_std=1.0)


@pytest.mark.parametrize("outputs", [1, 4])
def test_log_softmax_is_that_of_pytorch_and_does_not_overflow(outputs: int) -> None:
    logits = np.random.default_rng(0).normal(size=(7, outputs)) * 500
    both = torch.from_numpy(logits)
    if outputs == 1:
        both = torch.cat([torch.zeros_like(both), both], dim=1)
    assert log_softmax(logits) == pytest.approx(both.log_softmax(1).numpy(), abs=1e-9)
    assert log_softmax(logits[:0]).shape == (0, max(outputs, 2))


def test_native_code_is_used_if_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, split = TextClassifier(GRU, 30, 2), make_split(9, 1)
    arrays = {name: values.numpy() for name, values in classifier.state_dict().items()}
    monkeypatch.setattr(native, "available", lambda: False)
    expected = TorchNetwork(classifier).log_probabilities(split)
    for network in (network_of(classifier), load_network(GRU, 30, 2, arrays)):
        assert isinstance(network, TorchNetwork)
        assert network.log_probabilities(split) == pytest.approx(expected)
    monkeypatch.undo()
    if not native.available():
        pytest.skip("needs a C++ compiler")
    for fast in (network_of(classifier), load_network(GRU, 30, 2, arrays)):
        assert isinstance(fast, NativeNetwork)
        assert fast.log_probabilities(split) == pytest.approx(expected, abs=1e-5)


def test_weights_of_another_model_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    with pytest.raises(ValueError, match=r"another model \(num_layers is '1', but there are 0"):
        load_network(GRU, 30, 2, {})
    with pytest.raises(ValueError, match=r"belong to another model \(it has no 'embedding'\)"):
        load_network(ModelConfig(wide="only"), 30, 2, {"embedding": np.zeros(1, np.float32)})


@pytest.mark.parametrize("classes", [2, 3])
def test_wide_part_alone_has_its_outputs_as_logits(classes: int) -> None:
    split = make_split(9, 1, classes=classes, wide=True)
    network = load_network(ModelConfig(wide="only"), 30, classes, {})
    assert isinstance(network, WideNetwork)
    assert split.wide is not None
    assert network.log_probabilities(split) == pytest.approx(log_softmax(split.wide))
    with pytest.raises(DataError, match="wide part, but this split has none"):
        network.log_probabilities(replace(split, wide=None))
