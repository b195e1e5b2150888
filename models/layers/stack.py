"""A stack of recurrent layers over a padded batch, in one or both directions.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from celltune.models.layers.cells import CELLS, RELU_RNN, LayerWeights
from celltune.models.layers.cuda_graphs import GraphedLoop, run_graphed_layer
from celltune.models.layers.cudnn_layers import FUSED, fused_layers
from celltune.models.layers.dropout import dropout
from celltune.models.layers.loop_layer import run_layer
from celltune.models.layers.native_layer import NATIVE, run_native_layer
from celltune.models.layers.onednn_lstm import faster_in_torch, run_torch_lstm
from celltune.models.native import library as native


class RecurrentStack(nn.Module):
    """``num_layers`` layers of one cell; each layer reads both directions of the one below.

    Parameters carry torch's names (``weight_ih_l0``, ``bias_hh_l1_reverse``, ...). Every one starts
    uniform in +-1/sqrt(H), as torch's do.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        *,
        generator: torch.Generator,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        nonlinearity: str = "tanh",
    ) -> None:
        """Make the parameters.

        Args:
            cell: a name in ``models.cells.CELLS``.
            input_size: I.
            hidden_size: H.
            generator: where the starting values come from.
            num_layers: how many layers, at least 1.
            bidirectional: whether each layer also reads the text backwards.
            dropout: share of a layer's outputs that is dropped before the next layer.
            nonlinearity: tanh or relu, for the cell ``rnn``; others have curves of their own.
        """
        super().__init__()
        self.cell = RELU_RNN if (cell, nonlinearity) == ("rnn", "relu") else CELLS[cell]
        self._graphed = GraphedLoop(self.cell.loop)
        self.hidden_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.suffixes = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden_size * len(self.suffixes)
            for suffix in self.suffixes:
                self._make_parameters(f"l{layer}{suffix}", features, generator)

    def _make_parameters(self, place: str, features: int, generator: torch.Generator) -> None:
        rows = len(self.cell.gates) * self.hidden_size
        shapes = {
            "weight_ih": (rows, features),
            "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,),
        }
        if self.cell.two_biases:
            shapes["bias_hh"] = (rows,)
        bound = self.hidden_size**-0.5
        for kind, shape in shapes.items():
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            self.register_parameter(f"{kind}_{place}", nn.Parameter(values))

    def layer_weights(self) -> list[list[LayerWeights]]:
        """The parameters of each layer, of each direction."""
        return [self._layer(layer) for layer in range(self.num_layers)]

    def _layer(self, layer: int) -> list[LayerWeights]:
        parameters = dict(self.named_parameters(recurse=False))
        return [
            LayerWeights(
                parameters[f"weight_ih_l{layer}{suffix}"],
                parameters[f"weight_hh_l{layer}{suffix}"],
                parameters[f"bias_ih_l{layer}{suffix}"],
                parameters.get(f"bias_hh_l{layer}{suffix}"),
            )
            for suffix in self.suffixes
        ]

    def forward(
        self,
        inputs: Tensor,
        real: Tensor | None,
        generator: torch.Generator | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            inputs: (T, I, B), a transposed view of (T, B, I) is as good.
            real: (T, 1, B) bool, False at padding, which comes last; None without padding.
            generator: where dropout draws from; torch's global one if None.
            lengths: (B,) on the CPU, what ``real`` says; cuDNN's fused layers need them.

        Returns:
            (T, D * H, B), the last layer's states. Values at padding mean nothing.
        """
        return self.layers(inputs, real, generator, lengths)[-1]

    def layers(
        self,
        inputs: Tensor,
        real: Tensor | None,
        generator: torch.Generator | None = None,
        lengths: Tensor | None = None,
    ) -> list[Tensor]:
        """Run all layers and keep them: arguments as of ``forward``, the states of each layer."""

        def drop(values: Tensor) -> Tensor:
            return dropout(values, self.dropout, self.training, generator)

        weights = self.layer_weights()
        if inputs.is_cuda and lengths is not None and self.cell.native in FUSED:
            return fused_layers(self.cell.native, inputs, lengths, weights, drop)
        states: list[Tensor] = []
        for layer in weights:
            below = drop(states[-1]) if states else inputs
            states.append(self._run(below, real, layer))
        return states

    def _run(self, inputs: Tensor, real: Tensor | None, layer: list[LayerWeights]) -> Tensor:
        # Our loops write into buffers of one type, so they run in the weights'.
        with torch.autocast(inputs.device.type, enabled=False):
            return self._run_exactly(inputs.to(layer[0].weight_ih.dtype), real, layer)

    def _run_exactly(
        self, inputs: Tensor, real: Tensor | None, layer: list[LayerWeights]
    ) -> Tensor:
        if native.usable(inputs):
            cell, hold = NATIVE[self.cell.native], self.cell.loop.hold
            return run_native_layer(cell, hold, inputs, real, *self.cell.arrange(layer))
        directions = len(self.suffixes)
        if self.cell.name == "lstm" and faster_in_torch(inputs, self.hidden_size, directions):
            return run_torch_lstm(inputs, real, layer)
        arranged = self.cell.arrange(layer)
        if inputs.is_cuda:
            return run_graphed_layer(self._graphed, inputs, real, arranged)
        return run_layer(self.cell.loop, inputs, real, *arranged)
