"""A stack of recurrent layers over a padded batch, in one or both directions.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from celltune.models.config import ModelConfig
from celltune.models.errors import TrialError
from celltune.models.extensions import CELLS
from celltune.models.layers.autograd_layer import run_autograd_layer
from celltune.models.layers.base import Cell, LayerWeights
from celltune.models.layers.cuda_graphs import GraphedLoop, run_graphed_layer
from celltune.models.layers.cudnn_layers import flatten_weights, run_cudnn_layers
from celltune.models.layers.dropout import dropout
from celltune.models.layers.loop_layer import run_loop_layer
from celltune.models.layers.native_layer import run_native_layer
from celltune.models.layers.onednn_lstm import onednn_is_faster, run_onednn_lstm
from celltune.models.layers.persistent.selection import persistent_loop
from celltune.models.native import library as native


def create_cell(config: ModelConfig) -> Cell:
    """Create the cell of a model.

    Args:
        config: the architecture.

    Raises:
        TrialError: the model has no recurrent network.
    """
    if config.cell is None:
        raise TrialError(
            f"A model with wide '{config.wide}' has no recurrent network, so it has no cell. Use "
            "the outputs of the wide part directly, or choose wide 'add'."
        )
    return CELLS.load(config.cell).from_config(config)


class RecurrentStack(nn.Module):
    """`num_layers` layers of one cell. Each layer reads both directions of the layer below.

    Parameters have the names of PyTorch (`weight_ih_l0`, `bias_hh_l1_reverse`, ...) and its
    initial distribution, uniform in +-1/sqrt(H).
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        *,
        generator: torch.Generator,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        """Create the parameters.

        Args:
            cell: the recurrent cell.
            input_size: I.
            hidden_size: H.
            generator: source of the initial values.
            num_layers: number of layers, at least 1.
            bidirectional: whether each layer also reads the text backwards.
            dropout: fraction of the outputs of a layer that is dropped before the next layer.
        """
        super().__init__()
        self.cell = cell
        self.hidden_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.direction_suffixes = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden_size * len(self.direction_suffixes)
            for suffix in self.direction_suffixes:
                self._create_parameters(f"l{layer}{suffix}", features, generator)

    def _create_parameters(self, suffix: str, features: int, generator: torch.Generator) -> None:
        rows = len(self.cell.gates) * self.hidden_size
        shapes = {
            "weight_ih": (rows, features),
            "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,),
        }
        if self.cell.two_biases:
            shapes["bias_hh"] = (rows,)
        bound = self.hidden_size**-0.5
        for name, shape in shapes.items():
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            self.register_parameter(f"{name}_{suffix}", nn.Parameter(values))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RecurrentStack:
        """Move or convert the parameters; PyTorch calls this in `to` and similar methods."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.cell.torch_function is not None:
            for layer in self.layer_weights():
                flatten_weights(self.cell.torch_function, layer)
        return self

    @cached_property
    def _graphed_loop(self) -> GraphedLoop | None:
        return None if self.cell.loop is None else GraphedLoop(self.cell.loop)

    def layer_weights(
        self, parameters: Mapping[str, Tensor] | None = None
    ) -> list[list[LayerWeights]]:
        """Return the parameters of each direction of each layer.

        Args:
            parameters: values by name in place of the stack's own, such as those of several stacks
                of the same shape along a new first axis.
        """
        if parameters is None:
            parameters = dict(self.named_parameters(recurse=False))
        return [
            [
                LayerWeights(
                    parameters[f"weight_ih_l{layer}{suffix}"],
                    parameters[f"weight_hh_l{layer}{suffix}"],
                    parameters[f"bias_ih_l{layer}{suffix}"],
                    parameters.get(f"bias_hh_l{layer}{suffix}"),
                )
                for suffix in self.direction_suffixes
            ]
            for layer in range(self.num_layers)
        ]

    def forward(
        self, inputs: Tensor, mask: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Run all layers and return the states of the last one.

        Args:
            inputs: (T, I, B), contiguous or a transposed view of (T, B, I).
            mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
            generator: source of dropout; None: the global generator of PyTorch.

        Returns:
            (T, D * H, B). Values at padding are unspecified.
        """
        return self.all_states(inputs, mask, generator)[-1]

    def all_states(
        self, inputs: Tensor, mask: Tensor | None, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Run all layers and return the states of each one; see `forward`."""

        def drop(values: Tensor) -> Tensor:
            return dropout(values, self.dropout, self.training, generator)

        weights = self.layer_weights()
        dtype = weights[0][0].weight_ih.dtype
        fused = persistent_loop(self.cell, self.hidden_size, dtype, inputs.device)
        function = self.cell.torch_function
        if fused is None and inputs.is_cuda and function is not None:
            return run_cudnn_layers(function, inputs, mask, weights, drop)
        states: list[Tensor] = []
        for layer in weights:
            layer_inputs = drop(states[-1]) if states else inputs
            # The loops write into buffers of one type, the type of the weights.
            with torch.autocast(inputs.device.type, enabled=False):
                layer_inputs = layer_inputs.to(dtype)
                if fused is None:
                    states.append(self._run_layer(layer_inputs, mask, layer))
                else:
                    states.append(run_loop_layer(fused, layer_inputs, mask, fused.arrange(layer)))
        return states

    def _run_layer(
        self, inputs: Tensor, mask: Tensor | None, weights: list[LayerWeights]
    ) -> Tensor:
        """Run one layer with the fastest implementation but cuDNN and persistent kernels."""
        cell, directions = self.cell, len(weights)
        if cell.loop is None:
            return run_autograd_layer(cell, inputs, mask, weights)
        if cell.native is not None and native.supports(inputs):
            return run_native_layer(
                cell.native, cell.loop, inputs, mask, cell.loop.arrange(weights)
            )
        if cell.torch_function == "lstm" and onednn_is_faster(inputs, self.hidden_size, directions):
            return run_onednn_lstm(inputs, mask, weights)
        arranged = cell.loop.arrange(weights)
        if inputs.is_cuda and self._graphed_loop is not None:
            return run_graphed_layer(self._graphed_loop, inputs, mask, arranged)
        return run_loop_layer(cell.loop, inputs, mask, arranged)
