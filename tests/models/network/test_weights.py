"""Weights are compared with the sizes that a config claims before anything is allocated."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.io.tensor_file import TensorSpec, specs_of
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.trained import load_classifier, load_network
from celltune.models.network.weights import CELL_WEIGHTS, check_shapes, check_weights

READOUTS = ("final", "mean", "max", "max_mean", "last_two_layers", "attention")
VOCABULARY = 6


def arrays_of(config: ModelConfig, classes: int = 2) -> dict[str, np.ndarray]:
    state = TextClassifier(config, VOCABULARY, classes).state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def small(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"cell": "gru", "hidden_size": 3, "embedding_size": 2, **changes})


@pytest.mark.parametrize("cell", sorted(CELL_WEIGHTS))
@pytest.mark.parametrize("readout", READOUTS)
def test_expected_shapes_are_those_of_the_classifier(cell: str, readout: str) -> None:
    for bidirectional, wide, classes in ((False, "none", 2), (True, "add", 3)):
        config = small(
            cell=cell, readout=readout, num_layers=2, bidirectional=bidirectional, wide=wide
        )
        arrays = arrays_of(config, classes)
        check_weights(config, VOCABULARY, classes, arrays)
        for name in arrays:
            others = {other: values for other, values in arrays.items() if other != name}
            with pytest.raises(ValueError, match=f"another model .*{name} is missing"):
                check_weights(config, VOCABULARY, classes, others)


HUGE = st.sampled_from([1, 2, 5, 10**4, 10**9, 10**30])


@settings(max_examples=40, derandomize=True, deadline=None)
@given(hidden=HUGE, layers=HUGE, embedding=HUGE, words=HUGE, classes=HUGE)
def test_absurd_sizes_allocate_nothing(
    hidden: int, layers: int, embedding: int, words: int, classes: int
) -> None:
    config = small(hidden_size=hidden, num_layers=layers, embedding_size=embedding)
    arrays = arrays_of(small())
    tracemalloc.start()
    with pytest.raises(ValueError, match="the weights belong to another model"):
        load_network(config, words, classes, arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_sizes_of_extensions_are_taken_from_the_tensors() -> None:
    config = small().model_copy(update={"cell": "of-an-extension", "readout": "own"})
    specs = specs_of({**arrays_of(small()), "readout.own": np.zeros(1)})
    check_shapes(config, VOCABULARY, 2, specs)
    larger = config.model_copy(update={"hidden_size": 10**9})
    with pytest.raises(ValueError, match="instead of float32"):
        check_shapes(larger, VOCABULARY, 2, specs)
    flat = {**specs, "recurrent.weight_hh_l0": TensorSpec("float32", (9,))}
    with pytest.raises(ValueError, match=r"l0 is float32 \(9,\), not an array of 2 dimensions"):
        check_shapes(config, VOCABULARY, 2, flat)
    del flat["recurrent.weight_hh_l0"]
    with pytest.raises(ValueError, match="weight_hh_l0 is missing"):
        check_shapes(config, VOCABULARY, 2, flat)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e19])
def test_weights_that_are_not_finite_are_rejected(value: float) -> None:
    config = small()
    arrays = {name: values.copy() for name, values in arrays_of(config).items()}
    arrays["output_weight"][0, 1] = value
    with pytest.raises(ValueError, match=r"a value of 'output_weight' is NaN or above 1e\+18"):
        load_network(config, VOCABULARY, 2, arrays)


def test_a_readout_that_does_not_fit_the_layers_is_an_error_of_the_weights() -> None:
    config = small(readout="last_two_layers")
    tensors = TextClassifier(small(readout="max_mean"), VOCABULARY, 2).state_dict()
    with pytest.raises(ValueError, match="needs at least 2 layers, but num_layers is 1"):
        load_classifier(config, VOCABULARY, 2, tensors)
