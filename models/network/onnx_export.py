"""The classifier as an ONNX graph, on ONNX's own RNN, LSTM and GRU operators.

Shapes: T time, B batch, V words, H hidden, D directions, F = D * H features, C classes.

The graph is written down, not traced: our loops are Python, and a trace would unroll them for one
length. Every cell is one of ONNX's operators with its gates in another order: ``gru`` is GRU with
``linear_before_reset``, ``gru_reset_before`` is GRU without it, and ``mgu`` is the latter with one
set of weights for both gates, the update gate's negated, because sigmoid(-x) = 1 - sigmoid(x).
Source: the operators' definitions, onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.models.layers.cells import LayerWeights
from celltune.models.network.classifier import TextClassifier

OPSET, IR_VERSION = 17, 8
"""Of 2022: what every onnxruntime since 1.12 reads."""
LARGEST_BYTES = 2**31 - 1
"""A protocol buffer holds no more."""

Array = NDArray[np.float32]
Take = tuple[int, int]
"""A block of rows of the stored weights, and the sign to take it with."""


@dataclass(frozen=True)
class _Operator:
    """How a cell is written as one of ONNX's operators: its gates, in the operator's order."""

    name: str
    gates: tuple[Take, ...]
    attributes: tuple[tuple[str, int], ...] = ()
    activations: tuple[str, ...] = ()


_OPERATORS = {
    "rnn": _Operator("RNN", ((0, 1),)),
    "rnn_relu": _Operator("RNN", ((0, 1),), activations=("Relu",)),
    "lstm": _Operator("LSTM", ((0, 1), (3, 1), (1, 1), (2, 1))),
    "gru": _Operator("GRU", ((1, 1), (0, 1), (2, 1)), (("linear_before_reset", 1),)),
    "gru_reset_before": _Operator("GRU", ((1, 1), (0, 1), (2, 1))),
    "mgu": _Operator("GRU", ((0, -1), (0, 1), (1, 1))),
}
"""By the recurrence's native name. ONNX's orders: LSTM i, o, f, c; GRU z, r, h."""


def build_onnx(model: TextClassifier) -> Any:
    """Write a classifier as an ONNX model.

    Inputs: ``ids`` (B, T) int64, padded at the end with anything below V, and ``lengths`` (B,)
    int64 in [1, T]. Outputs: ``logits``, (B,) for two classes (positive means class 1) else (B, C),
    and ``probabilities`` (B, C). B and T are free.

    Args:
        model: on the CPU. Its dropout isn't part of the graph.

    Returns:
        An ``onnx.ModelProto`` that onnx's checker passed.

    Raises:
        ImportError: onnx isn't installed.
        ValueError: the weights don't fit into one ONNX file.
    """
    import onnx

    size = sum(values.nbytes for values in model.state_dict().values())
    if size > 0.9 * LARGEST_BYTES:
        raise ValueError(
            f"The weights take {size:,} bytes; an ONNX file in one piece holds {LARGEST_BYTES:,}. "
            "Take a smaller data.vocabulary_size or embedding_size."
        )
    graph = _Graph(model)
    written = onnx.helper.make_model(
        graph.build(),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="celltune",
    )
    onnx.checker.check_model(written, full_check=True)
    return written


class _Graph:
    """Collects nodes and constants. A value is its name."""

    def __init__(self, model: TextClassifier) -> None:
        import onnx

        self._onnx: Any = onnx
        self._model, self._config = model, model.config
        self._nodes: list[Any] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def build(self) -> Any:
        onnx, model, config = self._onnx, self._model, self._config
        lengths = self._node("Cast", "lengths", to=onnx.TensorProto.INT32)
        by_time = self._node("Transpose", "ids", perm=[1, 0])
        below = self._node("Gather", self._constant("embedding", _array(model.embedding)), by_time)
        states: list[str] = []
        finals: list[str] = []
        for number, layer in enumerate(model.recurrent.layer_weights()):
            if number:
                below = self._side_by_side(states[-1])
            every, final = self._layer(number, below, lengths, layer)
            states.append(every)
            finals.append(self._flat_final(final))
        features = self._read(states[-1], finals, by_time)
        if config.output_relu:
            features = self._node("Relu", features)
        self._answer(features)
        types, free = onnx.TensorProto, ["batch", "time"]
        classes = [] if model.num_classes == 2 else [model.num_classes]
        value = onnx.helper.make_tensor_value_info
        return onnx.helper.make_graph(
            self._nodes,
            f"celltune-{config.cell}",
            [value("ids", types.INT64, free), value("lengths", types.INT64, free[:1])],
            [
                value("logits", types.FLOAT, [*free[:1], *classes]),
                value("probabilities", types.FLOAT, [*free[:1], model.num_classes]),
            ],
            [onnx.numpy_helper.from_array(a, name) for name, a in self._constants.items()],
        )

    def _layer(
        self, number: int, inputs: str, lengths: str, layer: Sequence[LayerWeights]
    ) -> tuple[str, str]:
        """(T, B, I) -> all states (T, D, B, H) and the final ones (D, B, H)."""
        operator = _OPERATORS[self._model.recurrent.cell.native]
        size = self._config.hidden_size
        weights = {
            "W": [_blocks(each.weight_ih, operator.gates, size) for each in layer],
            "R": [_blocks(each.weight_hh, operator.gates, size) for each in layer],
            "B": [np.concatenate(_biases(each, operator.gates, size)) for each in layer],
        }
        names = [
            self._constant(f"{key}_l{number}", np.stack(both)) for key, both in weights.items()
        ]
        attributes: dict[str, Any] = dict(operator.attributes)
        if operator.activations:
            attributes["activations"] = list(operator.activations) * len(layer)
        every, final = f"states_l{number}", f"final_l{number}"
        self._node(
            operator.name,
            inputs,
            *names,
            lengths,
            outputs=[every, final],
            hidden_size=size,
            direction="bidirectional" if len(layer) == 2 else "forward",
            **attributes,
        )
        return every, final

    def _side_by_side(self, states: str) -> str:
        """(T, D, B, H) -> (T, B, F)."""
        swapped = self._node("Transpose", states, perm=[0, 2, 1, 3])
        return self._node("Reshape", swapped, self._constant("merge", _whole(0, 0, -1)))

    def _flat_final(self, final: str) -> str:
        """(D, B, H) -> (B, F)."""
        swapped = self._node("Transpose", final, perm=[1, 0, 2])
        return self._node("Reshape", swapped, self._constant("flatten", _whole(0, -1)))

    def _read(self, states: str, finals: list[str], by_time: str) -> str:
        """What the output layer sees, (B, F) or (B, 2 * F)."""
        readout = self._config.readout
        if readout == "final":
            return finals[-1]
        if readout == "last_two_layers":
            return self._node("Concat", *finals[-2:], axis=1)
        real = self._real(by_time)
        words = self._side_by_side(states)
        filler = np.float32(0 if readout == "mean" else np.finfo(np.float32).min)
        kept = self._node("Where", real, words, self._constant("filler", np.asarray(filler)))
        if readout == "max":
            return self._node("ReduceMax", kept, axes=[0], keepdims=0)
        total = self._node("ReduceSum", kept, self._constant("first", _whole(0)), keepdims=0)
        counts = self._node("Cast", "lengths", to=self._onnx.TensorProto.FLOAT)
        column = self._node("Unsqueeze", counts, self._constant("second", _whole(1)))
        return self._node("Div", total, column)

    def _real(self, by_time: str) -> str:
        """(T, B, 1) bool, False at padding."""
        shape = self._node("Shape", by_time)
        steps = self._node("Gather", shape, self._constant("zero", np.asarray(0, np.int64)))
        one = self._constant("one", np.asarray(1, np.int64))
        times = self._node("Range", "zero", steps, one)
        column = self._node("Unsqueeze", times, self._constant("second", _whole(1)))
        within = self._node("Less", column, "lengths")
        return self._node("Unsqueeze", within, self._constant("third", _whole(2)))

    def _answer(self, features: str) -> None:
        weight = self._constant("output_weight", _array(self._model.output_weight))
        bias = self._constant("output_bias", _array(self._model.output_bias))
        two = self._model.num_classes == 2
        rows = "column" if two else "logits"
        self._node("Gemm", features, weight, bias, outputs=[rows], transB=1)
        if not two:
            self._node("Softmax", rows, outputs=["probabilities"], axis=1)
            return
        self._node("Squeeze", rows, self._constant("second", _whole(1)), outputs=["logits"])
        away = self._node("Sigmoid", self._node("Neg", rows))
        towards = self._node("Sigmoid", rows)
        self._node("Concat", away, towards, outputs=["probabilities"], axis=1)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants[name] = value
        return name

    def _node(
        self, kind: str, *inputs: str, outputs: list[str] | None = None, **attributes: Any
    ) -> str:
        made = outputs or [f"{kind.lower()}_{len(self._nodes)}"]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), made, **attributes))
        return made[0]


def _array(values: Any) -> Array:
    array: Array = np.ascontiguousarray(values.detach().cpu().numpy(), np.float32)
    return array


def _whole(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def _blocks(rows: Any, gates: Sequence[Take], size: int) -> Array:
    stored = _array(rows)
    return np.concatenate([sign * stored[at * size : (at + 1) * size] for at, sign in gates])


def _biases(layer: LayerWeights, gates: Sequence[Take], size: int) -> list[Array]:
    """The input's and the state's; a cell with one bias has it at the input."""
    given = _blocks(layer.bias_ih, gates, size)
    other = None if layer.bias_hh is None else _blocks(layer.bias_hh, gates, size)
    return [given, np.zeros_like(given) if other is None else other]
