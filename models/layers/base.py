"""The extension point for recurrent cells: the base class `Cell` and the types it refers to.

Shapes: T time, S step (= T), B batch, I input features, H hidden, D directions (1 or 2), G gates,
P rows of an input projection (a multiple of H), R rows of a recurrent product.

For each direction, a layer has one `weight_ih` (G * H, I), one `weight_hh` (G * H, H) and one or
two biases (G * H,). The blocks of H rows are in the order of `Cell.gates`. For `rnn`, `lstm` and
`gru` this is the layout of PyTorch, so `torch.nn.GRU(...).state_dict()` loads unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, TypeGuard

from torch import Tensor

from celltune.models.config import ModelConfig

State: TypeAlias = tuple[Tensor, ...]
"""The state of a cell: one (B, H) tensor for each name in `Cell.states`, the output first."""


class LayerWeights(NamedTuple):
    """The stored weights of one direction of a layer."""

    weight_ih: Tensor
    """(G * H, I)"""
    weight_hh: Tensor
    """(G * H, H)"""
    bias_ih: Tensor
    """(G * H,)"""
    bias_hh: Tensor | None
    """(G * H,), or None for cells with one bias."""


class LoopWeights(NamedTuple):
    """The weights of all directions of a layer in the layout that a `StepLoop` needs."""

    input_weight: Tensor
    """(D, P, I)"""
    input_bias: Tensor | None
    """(D, Q), added to the first Q <= P rows of the input projection, or None."""
    recurrent: tuple[Tensor, ...]
    """Recurrent weights, each (D, R, H + 1), with the bias as last column."""


class PaddingInput(NamedTuple):
    """The value that keeps a zero state at zero while the backward direction reads padding."""

    block: int
    """Block of the input projection that the value overwrites."""
    value: float


class StepLoop(Protocol):
    """A recurrence with a hand-written backward pass, without the input projection.

    Tensors are feature-major, and step order is the reading order of a direction, see
    `loop_layer`. Invariants: `forward` reads `hidden[:, 0]` and the last row of every step, fills
    the other rows of `hidden[:, 1:]` and changes nothing else. `backward` changes none of its
    arguments. Implementations have no state, so one object serves all layers and threads.
    """

    blocks: int
    """P / H, the number of blocks in the input projection."""
    padding_input: PaddingInput
    """The value that keeps the state at zero in leading padding."""
    unbounded: bool
    """True if states can overflow to infinity on padding."""

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """Convert stored weights to the layout of the loop.

        Packed trials call it through `torch.func.vmap`, with the weights of several networks.

        Args:
            weights: weights of each direction. The conversion is differentiable.
        """
        ...

    def forward(
        self, projected: Tensor, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Run all steps.

        Args:
            projected: (D, S, P, B), the input projection in step order.
            hidden: (D, S + 1, H + 1, B), filled from step 1 on.
            weights: recurrent weights, each (D, R, H + 1), with the bias as last column.

        Returns:
            The tensors that `backward` needs.
        """
        ...

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the backward pass of all steps.

        Args:
            grad: (D, S, H, B), gradient of the output of each step.
            hidden: the states that `forward` computed.
            saved: the result of `forward`.
            weights: the weights that `forward` received.

        Returns:
            The gradients of `projected` (D, S, P, B) and of each weight (D, R, H + 1).
        """
        ...


class SpanLoop(StepLoop, Protocol):
    """A `StepLoop` that can skip steps. The leading axis may have any length.

    A packed layer runs several trials: the leading axis is trials x directions, with different
    weights and documents of different length for each index.
    """

    skips_steps: Literal[True]
    """Distinguishes it from a `StepLoop`, see `skips_steps`."""

    def forward(
        self,
        projected: Tensor,
        hidden: Tensor,
        weights: tuple[Tensor, ...],
        spans: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Run all steps, see `StepLoop.forward`.

        Args:
            projected: (D, S, P, B). Only the last axis must be contiguous.
            hidden: (D, S + 1, H + 1, B). The last axis must be contiguous. If the memory has the
                order (D, H + 1, S + 1, B), the weight gradients need no copy of the states.
            weights: as for `StepLoop.forward`.
            spans: (D, 2) int32 on the device, for each index of the leading axis the first step
                and the end of the steps to run; None: all. The states of other steps become zero,
                and the first step of a span that does not start at 0 reads a zero state.
        """
        ...

    def backward(
        self,
        grad: Tensor,
        hidden: Tensor,
        saved: tuple[Tensor, ...],
        weights: tuple[Tensor, ...],
        spans: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the backward pass of all steps, see `StepLoop.backward`.

        Args:
            grad: as for `StepLoop.backward`; ignored outside of the spans.
            hidden: as for `StepLoop.backward`.
            saved: as for `StepLoop.backward`.
            weights: as for `StepLoop.backward`.
            spans: the spans that `forward` received. Gradients outside of them are zero.

        Returns:
            As `StepLoop.backward`. The gradient of `projected` may have any strides.
        """
        ...


def skips_steps(loop: StepLoop) -> TypeGuard[SpanLoop]:
    """Return whether a loop is a `SpanLoop`; `isinstance` takes as long as starting a kernel."""
    return getattr(loop, "skips_steps", False)


class Recurrence(IntEnum):
    """The recurrences in `native/loops.cpp`; the enum there has the same names and values."""

    RNN_TANH = 0
    RNN_RELU = 1
    LSTM = 2
    GRU = 3
    GRU_RESET_BEFORE = 4
    MGU = 5


@dataclass(frozen=True)
class NativeCell:
    """The C++ implementation of a `StepLoop`."""

    recurrence: Recurrence
    gradient_blocks: int
    """Blocks of H rows in the result of the backward pass: those of the projection and, for gru,
    the one of the recurrent product that has no counterpart in the projection."""
    two_products: bool = False
    """True if a step has a second recurrent product, whose input is a gated state."""
    saves_values: bool = True
    """True if the backward pass needs more than the activations and the states."""


@dataclass(frozen=True)
class OnnxOperator:
    """A recurrent ONNX operator (onnx.ai/onnx/operators) that computes the same as a cell."""

    name: Literal["RNN", "LSTM", "GRU"]
    gates: tuple[tuple[int, int], ...]
    """For each gate in the order of the operator: the block of the stored weights, and the sign
    (1 or -1) to multiply it by. The orders are: LSTM i, o, f, c; GRU z, r, h."""
    attributes: tuple[tuple[str, int], ...] = ()
    activations: tuple[str, ...] = ()


PersistentName: TypeAlias = Literal[
    "rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before", "mgu"
]
"""The recurrences that have GPU kernels, see `persistent`."""

TorchFunction: TypeAlias = Literal["rnn_tanh", "lstm", "gru"]
"""A function of `torch` that runs a whole layer. Its states are bounded (`cudnn_layers`)."""


class Cell(ABC):
    """A recurrent cell. Subclasses define `gates` and `step`; everything else is optional.

    `step` is the definition of the cell and is enough to train it: PyTorch computes the gradients.
    The other implementations (`loop`, `native`, `persistent`, `torch_function`) exist for speed and
    must compute the same. A cell object has no parameters and no state, and can be copied and
    pickled.
    """

    gates: ClassVar[tuple[str, ...]]
    """Names of the blocks of H rows in the stored weights, in order."""
    states: ClassVar[tuple[str, ...]] = ("h",)
    """Names of the tensors of the state, each (B, H). The first is the output of the cell."""
    two_biases: ClassVar[bool] = False
    """True for a second bias, `bias_hh`, as in PyTorch."""

    loop: StepLoop | None = None
    """The recurrence with a hand-written backward pass."""
    native: NativeCell | None = None
    """The C++ implementation of `loop`."""
    persistent: PersistentName | None = None
    """The GPU kernels of `loop`, which keep the recurrent weights on the chip for all steps."""
    torch_function: TorchFunction | None = None
    """The PyTorch function that computes this cell (cuDNN on a GPU, oneDNN on the CPU)."""
    onnx: OnnxOperator | None = None
    """The ONNX operator that computes this cell; None: models cannot be exported to ONNX."""

    @classmethod
    def from_config(cls, config: ModelConfig) -> Cell:
        """Create the cell of a model. Override it to read settings from the config."""
        del config
        return cls()

    @abstractmethod
    def step(
        self, projected: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> State:
        """Compute one time step with differentiable PyTorch operations.

        The rows of a batch are independent documents. The initial state is zero. Padding is
        handled by the caller: at padding, the result is ignored.

        Args:
            projected: (B, G * H), `x @ weight_ih.T + bias_ih` of this step.
            state: the state before this step, one (B, H) tensor for each name in `states`.
            weight_hh: (G * H, H).
            bias_hh: (G * H,), or None for a cell with one bias.

        Returns:
            The state after this step. Inputs must not be changed in place.
        """
