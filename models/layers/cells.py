"""The built-in recurrent cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from celltune.models.config import ModelConfig
from celltune.models.layers.base import (
    Cell,
    NativeCell,
    OnnxOperator,
    Recurrence,
    State,
)
from celltune.models.layers.gated_loops import GruResetBeforeLoop, MguLoop
from celltune.models.layers.standard_loops import GruLoop, LstmLoop, RnnLoop


class RnnCell(Cell):
    """Simple RNN, `h' = f(W x + U h + b)` with `f` tanh or ReLU (Elman 1990; torch.nn.RNN)."""

    gates = ("h",)
    two_biases = True

    def __init__(self, nonlinearity: str = "tanh") -> None:
        """Choose the activation function.

        Args:
            nonlinearity: "tanh" or "relu".
        """
        relu = nonlinearity == "relu"
        recurrence = Recurrence.RNN_RELU if relu else Recurrence.RNN_TANH
        self._activation = torch.relu if relu else torch.tanh
        self.loop = RnnLoop(relu=relu)
        self.native = NativeCell(recurrence, gradient_blocks=1, saves_values=False)
        self.persistent = "rnn_relu" if relu else "rnn_tanh"
        self.torch_function = None if relu else "rnn_tanh"
        self.onnx = OnnxOperator("RNN", ((0, 1),), activations=("Relu",) if relu else ())

    @classmethod
    def from_config(cls, config: ModelConfig) -> Cell:
        """Create the cell with the activation function of the config."""
        return cls(config.nonlinearity)

    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        """Compute one time step."""
        return (self._activation(projected + linear(state[0], weight_hh, bias_hh)),)


class LstmCell(Cell):
    """LSTM with forget gate (Hochreiter & Schmidhuber 1997, Gers et al. 2000; torch.nn.LSTM).

    `i, f, o = sigmoid(W x + U h + b)`; `g = tanh(W x + U h + b)`; `c' = f c + i g`;
    `h' = o tanh(c')`.
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    two_biases = True

    loop = LstmLoop()
    native = NativeCell(Recurrence.LSTM, gradient_blocks=4)
    persistent = "lstm"
    torch_function = "lstm"
    onnx = OnnxOperator("LSTM", ((0, 1), (3, 1), (1, 1), (2, 1)))

    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        """Compute one time step."""
        hidden, cell = state
        i, f, g, o = (projected + linear(hidden, weight_hh, bias_hh)).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class GruCell(Cell):
    """GRU that applies the reset gate after the recurrent product (torch.nn.GRU, cuDNN).

    `r, z = sigmoid(W x + U h + b)`; `n = tanh(W_n x + b_in + r (U_n h + b_hn))`;
    `h' = (1 - z) n + z h`.
    """

    gates = ("r", "z", "n")
    two_biases = True

    loop = GruLoop()
    native = NativeCell(Recurrence.GRU, gradient_blocks=4)
    persistent = "gru"
    torch_function = "gru"
    onnx = OnnxOperator("GRU", ((1, 1), (0, 1), (2, 1)), (("linear_before_reset", 1),))

    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        """Compute one time step."""
        (hidden,) = state
        input_r, input_z, input_n = projected.chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = linear(hidden, weight_hh, bias_hh).chunk(3, dim=1)
        r, z = (input_r + hidden_r).sigmoid(), (input_z + hidden_z).sigmoid()
        n = (input_n + r * hidden_n).tanh()
        return ((1 - z) * n + z * hidden,)


class GruResetBeforeCell(Cell):
    """GRU that applies the reset gate before the product (Cho et al. 2014, equations 5 to 8).

    `r, z = sigmoid(W x + U h + b)`; `n = tanh(W_n x + U_n (r h) + b_n)`; `h' = (1 - z) n + z h`.
    """

    gates = ("r", "z", "n")

    loop = GruResetBeforeLoop()
    native = NativeCell(Recurrence.GRU_RESET_BEFORE, gradient_blocks=3, two_products=True)
    persistent = "gru_reset_before"
    onnx = OnnxOperator("GRU", ((1, 1), (0, 1), (2, 1)))

    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        """Compute one time step."""
        del bias_hh
        (hidden,) = state
        input_r, input_z, input_n = projected.chunk(3, dim=1)
        weight_r, weight_z, weight_n = weight_hh.chunk(3)
        r = (input_r + linear(hidden, weight_r)).sigmoid()
        z = (input_z + linear(hidden, weight_z)).sigmoid()
        n = (input_n + linear(r * hidden, weight_n)).tanh()
        return ((1 - z) * n + z * hidden,)


class MguCell(Cell):
    """Minimal gated unit (Zhou et al. 2016).

    `f = sigmoid(W_f x + U_f h + b_f)`; `n = tanh(W_n x + U_n (f h) + b_n)`;
    `h' = (1 - f) h + f n`.
    """

    gates = ("f", "n")

    loop = MguLoop()
    native = NativeCell(Recurrence.MGU, gradient_blocks=2, two_products=True)
    persistent = "mgu"
    # The ONNX GRU with the same weights for both gates. Its update gate is 1 - f, and
    # sigmoid(-x) = 1 - sigmoid(x).
    onnx = OnnxOperator("GRU", ((0, -1), (0, 1), (1, 1)))

    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        """Compute one time step."""
        del bias_hh
        (hidden,) = state
        input_f, input_n = projected.chunk(2, dim=1)
        weight_f, weight_n = weight_hh.chunk(2)
        f = (input_f + linear(hidden, weight_f)).sigmoid()
        n = (input_n + linear(f * hidden, weight_n)).tanh()
        return ((1 - f) * hidden + f * n,)
