"""Readouts: from the states of the recurrent layers to one feature vector per document.

Shapes: T time, B batch, H hidden, D directions, S = D * H state features, F readout features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from celltune.models.config import ModelConfig
from celltune.models.errors import TrialError
from celltune.models.network.onnx_graph import OnnxGraph, OnnxStates, onnx_array


class Readout(nn.Module, ABC):
    """The extension point for readouts. Subclasses define `forward`.

    A readout is a module and may have parameters, which are trained and stored with the model.

    Attributes:
        features: F, the number of features that `forward` returns.
    """

    description: ClassVar[str] = ""
    """A few words for diagrams of models."""
    min_layers: ClassVar[int] = 1
    """The number of recurrent layers that the readout needs."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        """Create the parameters, if there are any.

        Args:
            config: the model that the readout belongs to.
            generator: source of initial values. Built-in readouts draw nothing.

        Raises:
            TrialError: the model has fewer than `min_layers` layers.
        """
        super().__init__()
        del generator
        if config.num_layers < self.min_layers:
            raise TrialError(
                f"The readout '{config.readout}' needs at least {self.min_layers} layers, but "
                f"num_layers is {config.num_layers}. Increase num_layers, or choose the readout "
                "'final'."
            )
        self.hidden_size = config.hidden_size
        self.features = config.hidden_size * (2 if config.bidirectional else 1)

    @abstractmethod
    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document.

        Args:
            layers: (T, S, B) for each layer, the states after each step. The first H features are
                those of direction 0, the other H those of direction 1. Values at padding are
                unspecified and may be infinite.
            lengths: (B,), at least 1, on the device of the states.
            mask: (T, 1, B) bool, False at padding; None if there is no padding.

        Returns:
            (B, F), which must not depend on padding.
        """

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str | None:
        """Add the readout to an ONNX graph.

        Args:
            graph: where nodes and constants are added.
            states: names of the values that a readout can read.

        Returns:
            The name of the value (B, F), or None if the readout has no ONNX form.
        """
        del graph, states
        return None


class FinalReadout(Readout):
    """The final state of each direction: after the last token, and after the first."""

    description = "final state of each direction"

    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document."""
        del mask
        return final_state(layers[-1], lengths, self.hidden_size)

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str:
        """Add the readout to an ONNX graph."""
        del graph
        return states.finals[-1]


class LastTwoLayersReadout(Readout):
    """The final states of the last two layers, concatenated."""

    description = "final states of the last two layers"
    min_layers = 2

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        """Double the number of features."""
        super().__init__(config, generator)
        self.features *= 2

    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document."""
        del mask
        finals = [final_state(states, lengths, self.hidden_size) for states in layers[-2:]]
        return torch.cat(finals, dim=1)

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str:
        """Add the readout to an ONNX graph."""
        return graph.node("Concat", *states.finals[-2:], axis=1)


class MeanReadout(Readout):
    """The mean over all tokens of a document."""

    description = "mean over the words"

    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document."""
        states = layers[-1] if mask is None else layers[-1].masked_fill(~mask, 0)
        return (states.sum(0) / lengths).t()

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str:
        """Add the readout to an ONNX graph."""
        total = graph.node("ReduceSum", states.masked(0.0), graph.integers("axis_0", 0), keepdims=0)
        counts = graph.node("Unsqueeze", states.lengths, graph.integers("axis_1", 1))
        return graph.node("Div", total, graph.node("CastLike", counts, total))


class MaxReadout(Readout):
    """The maximum over all tokens of a document, separately for each feature."""

    description = "maximum over the words"

    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document. The first of equal maxima gets the gradient."""
        del lengths
        states = layers[-1] if mask is None else layers[-1].masked_fill(~mask, -torch.inf)
        maxima: Tensor = _MaxOverTime.apply(states)  # type: ignore[no-untyped-call]
        return maxima.t()

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str:
        """Add the readout to an ONNX graph."""
        lowest = float(np.finfo(np.float32).min)
        return graph.node("ReduceMax", states.masked(lowest), axes=[0], keepdims=0)


class MaxMeanReadout(MaxReadout):
    """The maximum and the mean over all tokens of a document, concatenated."""

    description = "maximum and mean over the words"

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        """Double the number of features."""
        super().__init__(config, generator)
        self.features *= 2
        self._mean = MeanReadout(config, generator)

    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document."""
        maxima = super().forward(layers, lengths, mask)
        return torch.cat([maxima, self._mean(layers, lengths, mask)], dim=1)

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str:
        """Add the readout to an ONNX graph."""
        maxima, means = super().to_onnx(graph, states), self._mean.to_onnx(graph, states)
        return graph.node("Concat", maxima, means, axis=1)


class AttentionReadout(Readout):
    """The mean over all tokens of a document, weighted by additive attention.

    The weight of token t is softmax_t(u . tanh(W h_t + b)) with the trained parameters W (S, S),
    b and u (S,) (Yang et al. 2016, equations 5 to 7), which are uniform in +-1/sqrt(S) at first.
    """

    description = "mean over the words, weighted by attention"

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        """Create the parameters."""
        super().__init__(config, generator)
        size, bound = self.features, self.features**-0.5

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        self.weight, self.bias, self.context = uniform(size, size), uniform(size), uniform(size)

    def forward(self, layers: Sequence[Tensor], lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the features of each document."""
        del lengths
        states = layers[-1] if mask is None else layers[-1].masked_fill(~mask, 0)
        hidden = torch.tanh(self.weight @ states + self.bias[:, None])  # (T, S, B)
        scores = (self.context @ hidden)[:, None]  # (T, 1, B)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        pooled: Tensor = (scores.softmax(0) * states).sum(0)
        return pooled.t()

    def to_onnx(self, graph: OnnxGraph, states: OnnxStates) -> str:
        """Add the readout to an ONNX graph."""
        weight = graph.constant("attention_weight", onnx_array(self.weight.t()))
        bias = graph.constant("attention_bias", onnx_array(self.bias))
        context = graph.constant("attention_context", onnx_array(self.context[:, None]))
        values = states.masked(0.0)  # (T, B, S)
        hidden = graph.node("Tanh", graph.node("Add", graph.node("MatMul", values, weight), bias))
        lowest = graph.constant("lowest", np.asarray(np.finfo(np.float32).min))
        scores = graph.node("MatMul", hidden, context)  # (T, B, 1)
        scores = graph.node("Where", states.mask(), scores, lowest)
        weighted = graph.node("Mul", graph.node("Softmax", scores, axis=0), values)
        return graph.node("ReduceSum", weighted, graph.integers("axis_0", 0), keepdims=0)


def final_state(states: Tensor, lengths: Tensor, hidden_size: int) -> Tensor:
    """Return the state of each direction after it has read the whole document.

    Args:
        states: (T, S, B).
        lengths: (B,), at least 1.
        hidden_size: H.

    Returns:
        (B, S), direction 0 at the last token and direction 1 at the first.
    """
    columns = torch.arange(states.shape[2], device=states.device)
    forwards = states[:, :hidden_size][lengths - 1, :, columns]  # (B, H)
    if states.shape[1] == hidden_size:
        return forwards
    return torch.cat([forwards, states[0, hidden_size:].t()], dim=1)


class _MaxOverTime(torch.autograd.Function):
    """`states.amax(0)` whose backward pass writes only to the positions of the maxima."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        maxima, positions = states.max(dim=0)
        ctx.save_for_backward(positions)
        ctx.shape = states.shape
        return maxima

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positions,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).scatter_(0, positions.unsqueeze(0), grad.unsqueeze(0))
