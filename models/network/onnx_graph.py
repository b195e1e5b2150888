"""A builder for ONNX graphs, and the values that a readout can read in one.

Shapes: T time, B batch, H hidden, D directions, S = D * H state features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class OnnxGraph:
    """Collects the nodes and constants of a graph. Values are identified by their names."""

    def __init__(self) -> None:
        """Start an empty graph."""
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def node(
        self, operator: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Add a node.

        Args:
            operator: an ONNX operator.
            inputs: names of its input values.
            outputs: names of its output values; empty: one output with a new name.
            attributes: attributes of the operator.

        Returns:
            The name of the first output.
        """
        import onnx

        names = list(outputs) or [f"{operator.lower()}_{len(self.nodes)}"]
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant and return its name. Adding the same constant again has no effect."""
        self.constants[name] = value
        return name

    def integers(self, name: str, *values: int) -> str:
        """Add a constant vector of int64 and return its name."""
        return self.constant(name, np.array(values, np.int64))

    def concatenate_directions(self, states: str) -> str:
        """Convert states (T, D, B, H) to (T, B, S)."""
        swapped = self.node("Transpose", states, perm=[0, 2, 1, 3])
        return self.node("Reshape", swapped, self.integers("shape_keep_2", 0, 0, -1))


def onnx_array(values: Tensor) -> NDArray[np.float32]:
    """Return the values of a tensor as a constant of a graph."""
    array: NDArray[np.float32] = np.ascontiguousarray(values.detach().cpu().numpy(), np.float32)
    return array


@dataclass(frozen=True)
class OnnxStates:
    """The values of a graph that a readout can read."""

    graph: OnnxGraph
    last_layer: str
    """(T, D, B, H), all states of the last layer."""
    finals: Sequence[str]
    """(B, S) for each layer, the final state of each direction."""
    ids: str
    """(T, B) int64, the word ids."""
    lengths: str
    """(B,) int64, the lengths of the documents."""

    def masked(self, value: float) -> str:
        """Add the states of the last layer, (T, B, S), with another value at padding."""
        states = self.graph.concatenate_directions(self.last_layer)
        filler = self.graph.constant(f"filler_{value:g}", np.asarray(value, np.float32))
        return self.graph.node("Where", self.mask(), states, filler)

    def mask(self) -> str:
        """Add the mask of tokens, (T, B, 1) bool, False at padding."""
        graph = self.graph
        zero = graph.constant("zero", np.asarray(0, np.int64))
        one = graph.constant("one", np.asarray(1, np.int64))
        steps = graph.node("Gather", graph.node("Shape", self.ids), zero)
        times = graph.node("Range", zero, steps, one)
        column = graph.node("Unsqueeze", times, graph.integers("axis_1", 1))
        tokens = graph.node("Less", column, self.lengths)
        return graph.node("Unsqueeze", tokens, graph.integers("axis_2", 2))
