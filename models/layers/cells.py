"""The registry of recurrent cells: what a name in a config stands for.

Shapes: I input features, H hidden, D directions.

A layer owns, for each direction, one ``weight_ih`` (gates * H, I), one ``weight_hh`` (gates * H, H)
and one or two biases (gates * H,), its gates in the order of ``Cell.gates``. For ``rnn``, ``lstm``
and ``gru`` that is torch's own layout, so ``torch.nn.GRU(...).state_dict()`` loads as it is.
``Cell.arrange`` turns them into what the cell's loop wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from celltune.models.layers.gated_loops import GruResetBeforeLoop, MguLoop
from celltune.models.layers.loop_layer import StepLoop
from celltune.models.layers.standard_loops import GruLoop, LstmLoop, RnnLoop


class LayerWeights(NamedTuple):
    """One direction of one layer, as stored; ``bias_hh`` is None for cells with one bias."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor | None


class LoopWeights(NamedTuple):
    """All directions of one layer, as ``models.kernels.run_layer`` takes them."""

    input_weight: Tensor
    input_bias: Tensor | None
    recurrent: tuple[Tensor, ...]


Arrange: TypeAlias = Callable[[Sequence[LayerWeights]], LoopWeights]


@dataclass(frozen=True)
class Cell:
    """One kind of recurrent cell.

    Attributes:
        name: as configs write it.
        gates: the blocks of rows of the stored weights, in order.
        loop: the recurrence, forward and backward.
        arrange: stored weights of each direction -> weights of the loop (differentiable).
        two_biases: whether there is a ``bias_hh`` beside ``bias_ih``, as torch has it.
        source: the paper or the library whose equations these are.
        native: the recurrence's key in ``models.native_layer.NATIVE``.
    """

    name: str
    gates: tuple[str, ...]
    loop: StepLoop
    arrange: Arrange
    two_biases: bool
    source: str
    native: str


def _reorder(rows: Tensor, order: Sequence[int], size: int) -> Tensor:
    """Take blocks of ``size`` rows in another order."""
    return torch.cat([rows[block * size : (block + 1) * size] for block in order])


def _plain(order: Sequence[int]) -> Arrange:
    """One product of all gates a step; the two biases add up in its bias column."""

    def arrange(layers: Sequence[LayerWeights]) -> LoopWeights:
        size = layers[0].weight_hh.shape[1]
        inputs = [_reorder(layer.weight_ih, order, size) for layer in layers]
        recurrent = []
        for layer in layers:
            bias = layer.bias_ih if layer.bias_hh is None else layer.bias_ih + layer.bias_hh
            rows = torch.cat([layer.weight_hh, bias[:, None]], dim=1)
            recurrent.append(_reorder(rows, order, size))
        return LoopWeights(torch.stack(inputs), None, (torch.stack(recurrent),))

    return arrange


def _arrange_gru(layers: Sequence[LayerWeights]) -> LoopWeights:
    """Torch's r, z, n -> n, r, z for the input; b_in stays outside the product that r scales."""
    size = layers[0].weight_hh.shape[1]
    inputs = [_reorder(layer.weight_ih, (2, 0, 1), size) for layer in layers]
    new_bias = [layer.bias_ih[2 * size :] for layer in layers]
    recurrent = []
    for layer in layers:
        if layer.bias_hh is None:
            raise ValueError("A gru layer needs a bias_hh beside its bias_ih; it has none.")
        shared = torch.cat([layer.bias_ih[: 2 * size], torch.zeros_like(layer.bias_ih[2 * size :])])
        recurrent.append(torch.cat([layer.weight_hh, (layer.bias_hh + shared)[:, None]], dim=1))
    return LoopWeights(torch.stack(inputs), torch.stack(new_bias), (torch.stack(recurrent),))


def _split_before_last(layers: Sequence[LayerWeights]) -> LoopWeights:
    """Two products a step: all gates but the last from the state, the last from the gated state."""
    whole = _plain(range(layers[0].weight_ih.shape[0] // layers[0].weight_hh.shape[1]))(layers)
    size = layers[0].weight_hh.shape[1]
    gates, new = whole.recurrent[0][:, :-size], whole.recurrent[0][:, -size:]
    return LoopWeights(whole.input_weight, None, (gates, new))


CELLS: Mapping[str, Cell] = MappingProxyType(
    {
        cell.name: cell
        for cell in (
            Cell(
                "rnn",
                ("h",),
                RnnLoop(),
                _plain((0,)),
                True,
                "Elman 1990; torch.nn.RNN, tanh",
                "rnn",
            ),
            Cell(
                "lstm",
                ("i", "f", "g", "o"),
                LstmLoop(),
                _plain((3, 0, 1, 2)),
                True,
                "Hochreiter & Schmidhuber 1997, Gers et al. 2000; torch.nn.LSTM",
                "lstm",
            ),
            Cell(
                "gru", ("r", "z", "n"), GruLoop(), _arrange_gru, True, "torch.nn.GRU, cuDNN", "gru"
            ),
            Cell(
                "gru_reset_before",
                ("r", "z", "n"),
                GruResetBeforeLoop(),
                _split_before_last,
                False,
                "Cho et al. 2014, equations 5 to 8",
                "gru_reset_before",
            ),
            Cell(
                "mgu", ("f", "n"), MguLoop(), _split_before_last, False, "Zhou et al. 2016", "mgu"
            ),
        )
    }
)
"""Name -> cell. Adding a cell here puts it into configs, messages and the contract tests."""

RELU_RNN = Cell(
    "rnn",
    ("h",),
    RnnLoop(relu=True),
    _plain((0,)),
    True,
    "torch.nn.RNN, nonlinearity='relu'",
    "rnn_relu",
)
"""What ``rnn`` stands for with the nonlinearity relu."""
