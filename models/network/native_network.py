"""Prediction in C++ (native/inference.cpp), without PyTorch, for built-in cells and readouts.

Shapes: n documents, N tokens in all documents, U rows of a table, V words, E embedding, H hidden,
D directions, G gates, S = D * H state features, F readout features, C classes, L = 1 for two
classes and C for more.

It computes what `TextClassifier` computes in evaluation mode, two to four times as fast, because
documents are not padded, no values are stored for a backward pass, and the first input projection
is computed once for each distinct word. It imports no torch, which takes longer to import than
thousands of predictions take.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.io.native_build import available_cpus
from celltune.models.config import ModelConfig
from celltune.models.native import library as native
from celltune.models.network.input_checks import missing_wide
from celltune.models.network.log_softmax import log_softmax
from celltune.models.network.weights import CELL_WEIGHTS, CellWeights, check_weights

TABLE_BYTES = 1 << 27
"""Size of a table of projected inputs, which limits how many documents are computed together."""
_ALIGNMENT = 16
"""The kernel needs a hidden size that is a multiple of this; the rest is zero."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _NativeCell:
    """The layout of a cell's weights; see `layers/cells.py`."""

    number: int
    """Value of `Recurrence` in layers/base.py."""
    weights: CellWeights
    two_products: bool = False

    @property
    def gates(self) -> int:
        """Number of gates, G."""
        return self.weights.gates


_CELLS = {
    "rnn": _NativeCell(0, CELL_WEIGHTS["rnn"]),
    "lstm": _NativeCell(2, CELL_WEIGHTS["lstm"]),
    "gru": _NativeCell(3, CELL_WEIGHTS["gru"]),
    "gru_reset_before": _NativeCell(4, CELL_WEIGHTS["gru_reset_before"], two_products=True),
    "mgu": _NativeCell(5, CELL_WEIGHTS["mgu"], two_products=True),
}
_RNN_RELU = 1

_READOUTS: Mapping[str, Sequence[tuple[str, int]]] = {
    "final": [("last", -1)],
    "mean": [("mean", -1)],
    "max": [("maximum", -1)],
    "max_mean": [("maximum", -1), ("mean", -1)],
    "last_two_layers": [("last", -2), ("last", -1)],
}
"""Features of each readout: an output of `_Layer`, and the layer."""

_KNOWN_FIELDS = frozenset(
    {
        *("cell", "hidden_size", "num_layers", "bidirectional", "nonlinearity"),
        *("embedding_size", "readout", "output_relu", "wide"),
        # These affect only the training.
        *("dropout", "layer_dropout", "embedding_dropout", "word_dropout"),
        *("embedding_std", "output_scale"),
    }
)

_NUMBERS = ("cell", "directions", "size", "inner", "documents", "threads")
_ARRAYS = (
    "table", "rows", "starts", "lengths", "weight", "second", "bias",
    "states", "last", "mean", "maximum",
)  # fmt: skip


class _Layer(ctypes.Structure):
    """The struct `Layer` of `inference.cpp`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    )


@dataclass(frozen=True)
class _LayerWeights:
    """The weights of a layer in the layout of the kernel; K is H rounded up to 16."""

    projection: Array
    """(I, D * G * K)"""
    projection_bias: Array
    """(D * G * K,)"""
    first: Array
    """(D, H, R)"""
    second: Array | None
    """(D, H, K)"""
    bias: Array | None
    """(D, K)"""


def is_native(config: ModelConfig) -> bool:
    """Return whether `NativeNetwork` can compute a model on this machine.

    A model with a setting that this module does not know is left to `TextClassifier`.
    """
    defaults = {name: field.default for name, field in ModelConfig.model_fields.items()}
    unknown = (name for name in defaults if name not in _KNOWN_FIELDS)
    return (
        config.cell in _CELLS
        and config.wide != "only"
        and config.readout in _READOUTS
        and all(-layer <= config.num_layers for _, layer in _READOUTS[config.readout])
        and all(getattr(config, name) == defaults[name] for name in unknown)
        and native.available()
    )


class NativeNetwork:
    """The network of a `TextClassifier` for predictions."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        num_classes: int,
        tensors: Mapping[str, NDArray[Any]],
    ) -> None:
        """Check and arrange the weights.

        Args:
            config: a model for which `is_native` is true.
            vocabulary_size: V.
            num_classes: C.
            tensors: the weights, by the names of the classifier's parameters.

        Raises:
            ValueError: the weights belong to another model, or one of them is no number.
        """
        check_weights(config, vocabulary_size, num_classes, tensors)
        self.config, self.num_classes = config, num_classes
        self._embedding: Array = tensors["embedding"]
        self._output_weight: Array = tensors["output_weight"]
        self._output_bias: Array = tensors["output_bias"]
        self._wide_scale: Array | None = tensors.get("wide_scale")
        self._cell = _cell(config)
        self._layers = [self._arrange(tensors, layer) for layer in range(config.num_layers)]

    @property
    def wide_scale(self) -> float:
        """Factor of the outputs of the wide part in the logits; 0 if the model reads none."""
        return 0.0 if self._wide_scale is None else float(self._wide_scale[0])

    def log_probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """Return the log-probability of each class for each document.

        Args:
            split: documents with at least one token each, whose ids are below V, with outputs of
                the wide part if the model reads them. Apart from rounding, the result for a
                document does not depend on the others.

        Returns:
            (n, C) natural logarithms.

        Raises:
            DataError: the model reads outputs of the wide part, and the split has none.
            MemoryError: the temporary memory cannot be allocated.
        """
        logits = np.empty((len(split), len(self._output_bias)))
        for chosen in self._groups(split):
            features = self._features(split, chosen)
            logits[chosen] = features @ self._output_weight.T + self._output_bias
        if self._wide_scale is not None:
            if split.wide is None:
                raise missing_wide("this split")
            logits += self._wide_scale * split.wide
        return log_softmax(logits)

    def _groups(self, split: TensorizedSplit) -> Iterator[NDArray[np.int64]]:
        """Yield documents whose tables fit in `TABLE_BYTES`, from the longest to the shortest."""
        order = np.argsort(-split.lengths, kind="stable")
        row_bytes = 4 * max(len(layer.projection_bias) for layer in self._layers)
        most_rows = max(1, TABLE_BYTES // row_bytes)
        if len(self._layers) == 1 and len(self._embedding) <= most_rows:
            most_rows = max(1, split.tokens)
        groups = (np.cumsum(split.lengths[order]) - 1) // most_rows
        cuts = np.flatnonzero(np.diff(groups)) + 1
        yield from (chosen for chosen in np.split(order, cuts) if len(chosen))

    def _features(self, split: TensorizedSplit, chosen: NDArray[np.int64]) -> Array:
        """Return the features (n, F) of documents that are in descending order of length."""
        lengths = split.lengths[chosen]
        starts = np.zeros_like(lengths)
        np.cumsum(lengths[:-1], out=starts[1:])
        at = np.repeat(split.offsets[chosen] - starts, lengths) + np.arange(lengths.sum())
        ids = split.ids[at]
        used = np.zeros(len(self._embedding), bool)
        used[ids] = True
        rows = (np.cumsum(used, dtype=np.int32) - 1)[ids]
        inputs: Array = self._embedding[used]
        parts = _READOUTS[self.config.readout]
        features: dict[tuple[str, int], Array] = {}
        for number, layer in enumerate(self._layers):
            place = number - len(self._layers)
            names = [name for name, where in parts if where == place]
            is_last = place == -1
            outputs = self._run(layer, inputs, rows, (starts, lengths), names, keep=not is_last)
            features.update({(name, place): outputs[name] for name in names})
            if not is_last:
                inputs = outputs["states"]
                rows = np.arange(len(inputs), dtype=np.int32)
        joined = np.concatenate([features[part] for part in parts], axis=1)
        return np.maximum(joined, 0) if self.config.output_relu else joined

    def _run(
        self,
        layer: _LayerWeights,
        inputs: Array,
        rows: NDArray[np.int32],
        documents: tuple[NDArray[np.int64], NDArray[np.int64]],
        names: Sequence[str],
        *,
        keep: bool,
    ) -> dict[str, Array]:
        """Run one layer.

        Args:
            layer: its weights.
            inputs: (U, I), the distinct inputs.
            rows: (N,), the row of `inputs` of each token.
            documents: (n,) start and (n,) length of each document.
            names: the outputs of `_Layer` to compute for each document.
            keep: whether to compute `states` as well.

        Returns:
            (n, S) for each of `names`, and (N, S) `states`.
        """
        hidden = self.config.hidden_size
        directions, _, _ = layer.first.shape
        size = hidden + -hidden % _ALIGNMENT
        table = inputs @ layer.projection + layer.projection_bias
        starts, lengths = documents
        outputs = {name: np.empty((len(lengths), directions, size), np.float32) for name in names}
        if keep:
            outputs["states"] = np.empty((len(rows), directions, size), np.float32)
        arrays = {
            "table": table,
            "rows": rows,
            "starts": starts,
            "lengths": lengths,
            "weight": layer.first,
            "second": layer.second,
            "bias": layer.bias,
            **outputs,
        }
        relu = self.config.cell == "rnn" and self.config.nonlinearity == "relu"
        number = _RNN_RELU if relu else self._cell.number
        job = _Layer(number, directions, size, hidden, len(lengths), available_cpus())
        for name, array in arrays.items():
            setattr(job, name, None if array is None else array.ctypes.data)
        if native.function("infer", np.dtype(np.float32))(ctypes.byref(job)) != 0:
            raise MemoryError(
                f"The prediction of a recurrent layer (hidden_size {hidden}) cannot allocate its "
                "temporary memory."
            )
        return {
            name: np.ascontiguousarray(values[:, :, :hidden]).reshape(len(values), -1)
            for name, values in outputs.items()
        }

    def _arrange(self, tensors: Mapping[str, Array], layer: int) -> _LayerWeights:
        """Convert the stored weights of a layer to the layout of the kernel."""
        cell, hidden = self._cell, self.config.hidden_size
        projections, biases, recurrent, inner = [], [], [], []
        for suffix in _suffixes(self.config):
            name = f"recurrent.{{}}_l{layer}{suffix}"
            bias: Array = tensors[name.format("bias_ih")].reshape(cell.gates, hidden)
            if cell.weights.two_biases:
                second: Array = tensors[name.format("bias_hh")].reshape(cell.gates, hidden)
                outside = second
                if self.config.cell == "gru":
                    # The reset gate scales the product of block n with its bias.
                    outside = np.concatenate([second[:2], np.zeros_like(second[2:])])
                    inner.append(_padded(second[2]))
                bias = bias + outside
            biases.append(_padded(bias).reshape(-1))
            weight_ih = tensors[name.format("weight_ih")]
            blocks = weight_ih.reshape(cell.gates, hidden, -1).transpose(2, 0, 1)
            projections.append(_padded(blocks).reshape(len(blocks), -1))
            weight_hh = tensors[name.format("weight_hh")]
            blocks = weight_hh.reshape(cell.gates, hidden, hidden).transpose(2, 0, 1)
            recurrent.append(_padded(blocks))  # (H, G, K)
        stacked = np.stack(recurrent)  # (D, H, G, K)
        split = cell.gates - 1 if cell.two_products else cell.gates
        return _LayerWeights(
            np.concatenate(projections, axis=1),
            np.concatenate(biases),
            np.ascontiguousarray(stacked[:, :, :split]).reshape(len(stacked), hidden, -1),
            np.ascontiguousarray(stacked[:, :, split]) if cell.two_products else None,
            np.stack(inner) if inner else None,
        )


def _padded(values: Array) -> Array:
    """Append zeros to the last axis so that its size is a multiple of `_ALIGNMENT`."""
    missing = -values.shape[-1] % _ALIGNMENT
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(padded, np.float32)


def _cell(config: ModelConfig) -> _NativeCell:
    return _CELLS[config.cell or ""]


def _suffixes(config: ModelConfig) -> Sequence[str]:
    return ("", "_reverse") if config.bidirectional else ("",)
