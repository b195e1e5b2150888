"""Export of a classifier to ONNX, with the ONNX operators RNN, LSTM and GRU.

Shapes: T time, B batch, V words, H hidden, D directions, S = D * H state features, C classes,
L = 1 for two classes and C for more.

The graph is built node by node, not traced: the loops are Python code, and a trace would unroll
them for one length. `Cell.onnx` names the operator that computes a cell, and its gate order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from celltune.models.layers.base import LayerWeights, OnnxOperator
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.onnx_graph import OnnxGraph, OnnxStates, onnx_array

OPSET, IR_VERSION = 17, 8
"""The versions of 2022, which onnxruntime 1.12 and later can read."""
MAX_BYTES = 2**31 - 1
"""The size limit of a protocol buffer, and therefore of a single ONNX file."""

Array = NDArray[np.float32]


def build_onnx(model: TextClassifier, *, temperature: float = 1.0) -> Any:
    """Convert a classifier to an ONNX model.

    Inputs: `ids` (B, T) int64, padded at the end with any id below V, `lengths` (B,) int64 in
    [1, T], and for `wide: add` the outputs of the wide part, `wide` (B, L) float32. Outputs:
    `logits`, (B,) for two classes (positive means class 1), otherwise (B, C), and `probabilities`
    (B, C) of the logits divided by the temperature. B and T are dynamic. Dropout is not part of the
    graph.

    Args:
        model: a classifier on the CPU.
        temperature: above 0.

    Returns:
        An `onnx.ModelProto` that the ONNX checker accepts.

    Raises:
        ImportError: onnx is not installed.
        ValueError: the cell or the readout has no ONNX form, or the weights do not fit into one
            ONNX file.
    """
    import onnx

    size = sum(values.nbytes for values in model.state_dict().values())
    if size > 0.9 * MAX_BYTES:
        raise ValueError(
            f"The weights have {size:,} bytes, but a single ONNX file can hold at most "
            f"{MAX_BYTES:,}. Reduce data.vocabulary_size or embedding_size."
        )
    exported = onnx.helper.make_model(
        _build_graph(model, temperature),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="celltune",
    )
    onnx.checker.check_model(exported, full_check=True)
    return exported


def _build_graph(model: TextClassifier, temperature: float) -> Any:
    import onnx

    graph, config = OnnxGraph(), model.config
    features = _add_readout(graph, model, _add_layers(graph, model))
    if config.output_relu:
        features = graph.node("Relu", features)
    _add_output_layer(graph, model, features, temperature)
    types, dynamic = onnx.TensorProto, ["batch", "time"]
    outputs = len(model.output_bias)
    classes = [] if model.num_classes == 2 else [model.num_classes]
    value = onnx.helper.make_tensor_value_info
    wide = [value("wide", types.FLOAT, [*dynamic[:1], outputs])] if config.wide == "add" else []
    return onnx.helper.make_graph(
        graph.nodes,
        f"celltune-{config.cell}",
        [value("ids", types.INT64, dynamic), value("lengths", types.INT64, dynamic[:1]), *wide],
        [
            value("logits", types.FLOAT, [*dynamic[:1], *classes]),
            value("probabilities", types.FLOAT, [*dynamic[:1], model.num_classes]),
        ],
        [onnx.numpy_helper.from_array(a, name) for name, a in graph.constants.items()],
    )


def _add_layers(graph: OnnxGraph, model: TextClassifier) -> OnnxStates:
    """Add the embedding and the recurrent layers."""
    import onnx

    operator = model.recurrent.cell.onnx
    if operator is None:
        raise ValueError(
            f"The cell '{model.config.cell}' has no ONNX operator, so the model cannot be exported "
            "to ONNX. Export it without ONNX, or define Cell.onnx."
        )
    lengths = graph.node("Cast", "lengths", to=onnx.TensorProto.INT32)
    time_major = graph.node("Transpose", "ids", perm=[1, 0])
    embedding = graph.constant("embedding", onnx_array(model.embedding))
    inputs = graph.node("Gather", embedding, time_major)
    states, finals = "", list[str]()
    for number, layer in enumerate(model.recurrent.layer_weights()):
        if number:
            inputs = graph.concatenate_directions(states)
        states, final = f"states_l{number}", f"final_l{number}"
        graph.node(
            operator.name,
            inputs,
            *_add_weights(graph, number, operator, layer),
            lengths,
            outputs=[states, final],
            **_attributes(operator, model.config.hidden_size, len(layer)),
        )
        swapped = graph.node("Transpose", final, perm=[1, 0, 2])  # (B, D, H)
        finals.append(graph.node("Reshape", swapped, graph.integers("shape_keep_1", 0, -1)))
    return OnnxStates(graph, states, finals, time_major, "lengths")


def _add_weights(
    graph: OnnxGraph, number: int, operator: OnnxOperator, layer: Sequence[LayerWeights]
) -> list[str]:
    """Add the inputs W, R and B of a recurrent operator, each with the directions as first axis."""
    weights = {
        "W": [_gate_blocks(direction.weight_ih, operator, direction) for direction in layer],
        "R": [_gate_blocks(direction.weight_hh, operator, direction) for direction in layer],
        "B": [_biases(operator, direction) for direction in layer],
    }
    return [
        graph.constant(f"{name}_l{number}", np.stack(directions))
        for name, directions in weights.items()
    ]


def _attributes(operator: OnnxOperator, hidden_size: int, directions: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "hidden_size": hidden_size,
        "direction": "bidirectional" if directions == 2 else "forward",
        **dict(operator.attributes),
    }
    if operator.activations:
        attributes["activations"] = list(operator.activations) * directions
    return attributes


def _add_readout(graph: OnnxGraph, model: TextClassifier, states: OnnxStates) -> str:
    """Add the readout, (B, F)."""
    features = model.readout.to_onnx(graph, states)
    if features is None:
        raise ValueError(
            f"The readout '{model.config.readout}' has no ONNX form, so the model cannot be "
            "exported to ONNX. Export it without ONNX, or define Readout.to_onnx."
        )
    return features


def _add_output_layer(
    graph: OnnxGraph, model: TextClassifier, features: str, temperature: float
) -> None:
    weight = graph.constant("output_weight", onnx_array(model.output_weight))
    bias = graph.constant("output_bias", onnx_array(model.output_bias))
    binary = model.num_classes == 2
    logits = "column" if binary else "logits"
    if model.config.wide == "add":
        network = graph.node("Gemm", features, weight, bias, transB=1)
        scaled = graph.node(
            "Mul", "wide", graph.constant("wide_scale", onnx_array(model.wide_scale))
        )
        graph.node("Add", network, scaled, outputs=[logits])
    else:
        graph.node("Gemm", features, weight, bias, outputs=[logits], transB=1)
    calibrated = logits
    if temperature != 1:
        divisor = graph.constant("temperature", np.array(temperature, np.float32))
        calibrated = graph.node("Div", logits, divisor)
    if not binary:
        graph.node("Softmax", calibrated, outputs=["probabilities"], axis=1)
        return
    graph.node("Squeeze", logits, graph.integers("axis_1", 1), outputs=["logits"])
    class_0 = graph.node("Sigmoid", graph.node("Neg", calibrated))
    class_1 = graph.node("Sigmoid", calibrated)
    graph.node("Concat", class_0, class_1, outputs=["probabilities"], axis=1)


def _gate_blocks(values: Tensor, operator: OnnxOperator, weights: LayerWeights) -> Array:
    """Return the blocks of a stored weight or bias in the order of the operator."""
    stored, size = onnx_array(values), weights.weight_hh.shape[1]
    return np.concatenate(
        [sign * stored[block * size : (block + 1) * size] for block, sign in operator.gates]
    )


def _biases(operator: OnnxOperator, weights: LayerWeights) -> Array:
    """Return the biases of input and state, concatenated; the second is 0 for cells with one."""
    bias_ih = _gate_blocks(weights.bias_ih, operator, weights)
    if weights.bias_hh is None:
        return np.concatenate([bias_ih, np.zeros_like(bias_ih)])
    return np.concatenate([bias_ih, _gate_blocks(weights.bias_hh, operator, weights)])
