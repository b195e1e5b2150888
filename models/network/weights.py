"""Validation of the weights of a classifier, before anything is allocated for them.

A config from someone else may claim any size. The shapes of the parameters are therefore computed
from it and compared with those of the tensors that exist.

Shapes: V words, E embedding, H hidden, D directions, G gates, I inputs of a layer, F readout
features, C classes, L = 1 for two classes and C for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from celltune.data_prep.io.tensor_file import (
    LARGEST_WEIGHT,
    Specs,
    TensorSpec,
    are_weights,
    specs_of,
)
from celltune.models.config import ModelConfig
from celltune.printable import quoted


class CellWeights(NamedTuple):
    """What the shapes of a recurrent layer depend on."""

    gates: int
    two_biases: bool


CELL_WEIGHTS: Mapping[str, CellWeights] = {
    "rnn": CellWeights(1, two_biases=True),
    "lstm": CellWeights(4, two_biases=True),
    "gru": CellWeights(3, two_biases=True),
    "gru_reset_before": CellWeights(3, two_biases=False),
    "mgu": CellWeights(2, two_biases=False),
}
"""The built-in cells; see `layers/cells.py`."""

_READOUT_PARTS = {
    "final": 1,
    "mean": 1,
    "max": 1,
    "max_mean": 2,
    "last_two_layers": 2,
    "attention": 1,
}
"""Number of vectors of D * H features that the built-in readouts return; see `readout.py`."""

_READOUT_PREFIX = "readout."


def check_shapes(config: ModelConfig, vocabulary_size: int, num_classes: int, specs: Specs) -> None:
    """Check that tensors can be the weights of a model.

    Of an extension, the number of gates and features is taken from the tensors, and the parameters
    of its readout are not checked.

    Args:
        config: the architecture, of any size.
        vocabulary_size: V.
        num_classes: C.
        specs: type and shape of each tensor, by the names of the classifier's parameters.

    Raises:
        ValueError: the weights belong to another model. The message is a clause.
    """
    if config.wide == "only":
        if specs:
            raise _of_another_model(f"it has no {quoted(min(specs))}")
        return
    # Computing the shapes of a million layers would take long.
    if config.num_layers > len(specs):
        raise _of_another_model(
            f"num_layers is {quoted(config.num_layers)}, but there are {len(specs)} tensors"
        )
    expected = expected_shapes(config, vocabulary_size, num_classes, specs)
    for name in sorted({*specs, *expected}):
        if name in expected:
            _check_one(name, specs, TensorSpec("float32", expected[name]))
        elif config.readout in _READOUT_PARTS or not name.startswith(_READOUT_PREFIX):
            raise _of_another_model(f"it has no {quoted(name)}")


def check_weights(
    config: ModelConfig,
    vocabulary_size: int,
    num_classes: int,
    tensors: Mapping[str, NDArray[Any]],
) -> None:
    """Check that arrays can be the weights of a model (see `check_shapes` and `are_weights`).

    Raises:
        ValueError: they cannot. The message is a clause.
    """
    check_shapes(config, vocabulary_size, num_classes, specs_of(tensors))
    for name, values in tensors.items():
        # Readouts of extensions may have parameters of other types.
        if values.dtype.kind == "f" and not are_weights(values):
            raise ValueError(f"a value of {quoted(name)} is NaN or above {LARGEST_WEIGHT:g}")


def _check_one(name: str, specs: Specs, expected: TensorSpec) -> None:
    if name not in specs:
        raise _of_another_model(f"{name} is missing")
    if specs[name] != expected:
        raise _of_another_model(f"{name} is {specs[name]} instead of {expected}")


def expected_shapes(
    config: ModelConfig, vocabulary_size: int, num_classes: int, specs: Specs
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter, except for those of an extension's readout.

    Args:
        config: the architecture, with a network.
        vocabulary_size: V.
        num_classes: C.
        specs: where the sizes of extensions are taken from; see `check_shapes`.

    Raises:
        ValueError: there is no such tensor.
    """
    suffixes, hidden = ("", "_reverse") if config.bidirectional else ("",), config.hidden_size
    cell = CELL_WEIGHTS.get(config.cell or "") or _extension_cell(hidden, specs)
    rows, state_features = cell.gates * hidden, hidden * len(suffixes)
    shapes: dict[str, tuple[int, ...]] = {"embedding": (vocabulary_size, config.embedding_size)}
    for layer in range(config.num_layers):
        inputs = state_features if layer else config.embedding_size
        for suffix in suffixes:
            name = f"recurrent.{{}}_l{layer}{suffix}"
            shapes[name.format("weight_ih")] = (rows, inputs)
            shapes[name.format("weight_hh")] = (rows, hidden)
            shapes[name.format("bias_ih")] = (rows,)
            if cell.two_biases:
                shapes[name.format("bias_hh")] = (rows,)
    logits = 1 if num_classes == 2 else num_classes
    if config.readout in _READOUT_PARTS:
        features = state_features * _READOUT_PARTS[config.readout]
    else:
        features = _shape("output_weight", 2, specs)[1]
    shapes["output_weight"] = (logits, features)
    shapes["output_bias"] = (logits,)
    if config.readout == "attention":
        for name in ("bias", "context"):
            shapes[_READOUT_PREFIX + name] = (state_features,)
        shapes[f"{_READOUT_PREFIX}weight"] = (state_features, state_features)
    if config.wide == "add":
        shapes["wide_scale"] = (1,)
    return shapes


def _extension_cell(hidden: int, specs: Specs) -> CellWeights:
    # At least one gate, because the size of the model grows with the square of its hidden size.
    rows = _shape("recurrent.weight_hh_l0", 2, specs)[0]
    return CellWeights(max(rows // hidden, 1), "recurrent.bias_hh_l0" in specs)


def _shape(name: str, dimensions: int, specs: Specs) -> tuple[int, ...]:
    if name not in specs:
        raise _of_another_model(f"{name} is missing")
    if len(specs[name].shape) != dimensions:
        raise _of_another_model(f"{name} is {specs[name]}, not an array of {dimensions} dimensions")
    return specs[name].shape


def _of_another_model(reason: str) -> ValueError:
    return ValueError(f"the weights belong to another model ({reason})")
