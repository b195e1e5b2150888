"""The persistent kernels: on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from celltune.models.errors import TrialError
from celltune.models.extensions import CELLS
from celltune.models.layers.autograd_layer import run_autograd_layer
from celltune.models.layers.base import Cell
from celltune.models.layers.cells import RnnCell
from celltune.models.layers.loop_layer import run_loop_layer, run_loop_layers
from celltune.models.layers.persistent import fitting
from celltune.models.layers.persistent.selection import disabled, persistent_loop
from celltune.models.layers.stack import RecurrentStack
from celltune.models.training.precision import tf32_products

pytest.importorskip("triton")

if TYPE_CHECKING or torch.cuda.is_available():
    from celltune.models.layers.persistent import launch
else:
    # Triton reads the variable when a kernel is defined.
    _before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    from celltune.models.layers.persistent import launch

    os.environ.pop("TRITON_INTERPRET")
    if _before is not None:
        os.environ["TRITON_INTERPRET"] = _before

pytestmark = pytest.mark.filterwarnings(
    # The interpreter converts arrays of one element to bounds of loops.
    "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning"
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EXACT = torch.float32 if DEVICE.type == "cuda" else torch.float64
"""The most precise type of the device."""
TOLERANCE = 2e-5 if DEVICE.type == "cuda" else 1e-12

BUILTIN_CELLS = (*CELLS.names(), "rnn_relu")
Spans = list[tuple[int, int]]


def make_cell(name: str) -> Cell:
    return RnnCell("relu") if name == "rnn_relu" else CELLS.load(name)()


def make_loop(cell: Cell) -> launch.PersistentLoop:
    return launch.PersistentLoop(cell.loop, launch.KERNELS[cell.persistent])


class Job:
    """Random arguments of a loop in float64: D directions, S steps, H hidden units, B columns."""

    def __init__(
        self, cell: Cell, shape: tuple[int, int, int, int], spans: Spans | None = None
    ) -> None:
        directions, steps, size, batch = shape
        self.loop, self.spans, self.size = cell.loop, spans, size
        self.generator = torch.Generator().manual_seed(3)
        self.projected = self.random(directions, steps, cell.loop.blocks * size, batch)
        self.hidden = torch.full((directions, steps + 1, size + 1, batch), torch.nan).double()
        self.hidden[:, 0] = 0
        self.hidden[:, :, size] = 1
        products = launch.KERNELS[cell.persistent].products
        self.weights = tuple(
            self.random(directions, (blocks.stop - blocks.start) * size, size + 1) / size**0.5
            for blocks in products
        )
        self.grad = self.random(directions, steps, size, batch)
        for direction, (start, end) in enumerate(spans or []):
            self._make_padding(direction, start, end)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def _make_padding(self, direction: int, start: int, end: int) -> None:
        block, value = self.loop.padding_input
        rows = slice(block * self.size, (block + 1) * self.size)
        self.projected[direction, :start] = 0
        self.projected[direction, :start, rows] = value
        self.hidden[direction, :start, self.size] = 0
        self.grad[direction, :start] = 0
        self.grad[direction, end:] = 0

    def expected(self) -> list[Tensor]:
        """States, gradient of the projection and of the weights, by PyTorch operations."""
        hidden = self.hidden.clone()
        saved = self.loop.forward(self.projected, hidden, self.weights)
        projected, weights = self.loop.backward(self.grad, hidden, saved, self.weights)
        for direction, (start, end) in enumerate(self.spans or []):
            hidden[direction, end + 1 :, : self.size] = 0
            projected[direction, :start] = 0
        return [hidden, projected, *weights]

    def actual(self, loop: launch.PersistentLoop, dtype: torch.dtype) -> list[Tensor]:
        """The same by the kernels."""
        spans = None
        if self.spans is not None:
            spans = torch.tensor(self.spans, dtype=torch.int32, device=DEVICE)
        projected, hidden, grad, *weights = (
            values.to(DEVICE, dtype, copy=True)
            for values in (self.projected, self.hidden, self.grad, *self.weights)
        )
        saved = loop.forward(projected, hidden, tuple(weights), spans)
        result, weight_grads = loop.backward(grad, hidden, saved, tuple(weights), spans)
        return [hidden, result, *weight_grads]


def assert_near(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compare with an error relative to the largest value of each tensor."""
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        difference = (ours.double().cpu() - theirs.cpu()).abs().max().item()
        assert difference <= tolerance * max(1, theirs.abs().max().item())


@pytest.mark.parametrize("cell", BUILTIN_CELLS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 5, 7), (1, 5, 16, 3), (2, 2, 33, 40)])
def test_equals_the_loop_on_pytorch_operations(cell: str, shape: tuple[int, int, int, int]) -> None:
    job = Job(make_cell(cell), shape)
    assert_near(job.actual(make_loop(make_cell(cell)), EXACT), job.expected(), TOLERANCE)


@pytest.mark.parametrize("cell", BUILTIN_CELLS)
def test_runs_only_the_steps_of_a_span(cell: str) -> None:
    job = Job(make_cell(cell), (5, 4, 6, 4), [(0, 4), (1, 4), (0, 2), (1, 3), (2, 2)])
    assert_near(job.actual(make_loop(make_cell(cell)), EXACT), job.expected(), TOLERANCE)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_before", "mgu"])
def test_precision_follows_the_setting_for_products(cell: str, precision: str) -> None:
    job = Job(make_cell(cell), (1, 2, 20, 4))
    with tf32_products(precision):
        actual = job.actual(make_loop(make_cell(cell)), torch.float32)
    assert_near(actual, job.expected(), 2e-5 if precision == "float32" else 5e-3)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_before", "mgu"])
def test_weights_that_do_not_fit_are_stored_in_float16(cell: str, precision: str) -> None:
    definition = make_cell(cell)
    kernels = launch.KERNELS[definition.persistent]
    mode: fitting.Mode = "float16x3" if precision == "float32" else "float16"
    memory = fitting.shared_bytes(kernels, 20, mode)
    job = Job(definition, (1, 3, 20, 4))
    job.grad *= 1e-9  # Zero in float16.
    loop = launch.PersistentLoop(definition.loop, kernels, memory)
    with tf32_products(precision):
        assert fitting.product_mode(kernels, 20, torch.float32, memory) == mode
        hidden, *grads = job.actual(loop, torch.float32)
    expected_hidden, *expected = job.expected()
    tolerance = 2e-5 if precision == "float32" else 5e-3
    assert_near([hidden], [expected_hidden], tolerance)
    assert_near([grad * 1e9 for grad in grads], [grad * 1e9 for grad in expected], tolerance)


def test_weights_that_do_not_fit_at_all_are_rejected() -> None:
    cell = make_cell("lstm")
    loop = launch.PersistentLoop(cell.loop, launch.KERNELS["lstm"], 1000)
    job = Job(cell, (1, 1, 20, 4))
    with pytest.raises(ValueError, match="for 20 hidden units do not fit into the 1000 bytes"):
        job.actual(loop, torch.float32)


def test_float16_in_three_products_is_preferred_from_64_hidden_units_on() -> None:
    with tf32_products("float32"):
        modes = {
            size: fitting.product_mode(launch.KERNELS["gru"], size, torch.float32, 227 * 1024)
            for size in (16, 32, 33, 64, 128)
        }
        relu = fitting.product_mode(launch.KERNELS["rnn_relu"], 64, torch.float32, 227 * 1024)
    assert modes == {
        16: "tf32x3", 32: "tf32x3", 33: "float16x3", 64: "float16x3", 128: "float16x3"
    }  # fmt: skip
    assert relu == "tf32x3"


def test_relu_states_are_never_rounded_to_float16() -> None:
    kernels = launch.KERNELS["rnn_relu"]
    memory = fitting.shared_bytes(kernels, 20, "float16x3")
    assert fitting.product_mode(kernels, 20, torch.float32, memory) is None


def run_layer(cell: Cell, lengths: list[int], loop: launch.PersistentLoop | None) -> list[Tensor]:
    """Return states and gradients of a bidirectional layer; without a loop, by `Cell.step`."""
    stack = RecurrentStack(
        cell, 3, 5, generator=torch.Generator().manual_seed(7), bidirectional=True
    ).to(DEVICE, EXACT)
    steps = max(lengths)
    mask = (torch.arange(steps)[:, None] < torch.tensor(lengths))[:, None].to(DEVICE)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(steps, 3, len(lengths), generator=generator, dtype=torch.float64)
    inputs = inputs.to(DEVICE, EXACT).requires_grad_()
    (layer,) = stack.layer_weights()
    if loop is None:
        states = run_autograd_layer(cell, inputs, mask, layer)
    else:
        states = run_loop_layer(loop, inputs, mask, loop.arrange(layer))
    states = states.masked_fill(~mask, 0)
    grads = torch.autograd.grad(states.pow(2).sum(), [inputs, *stack.parameters()])
    return [states.detach(), *grads]


@pytest.mark.parametrize("cell", BUILTIN_CELLS)
def test_layer_with_padding_equals_the_definition_of_the_cell(cell: str) -> None:
    definition = make_cell(cell)
    ours = run_layer(definition, [3, 1, 2], make_loop(definition))
    assert_near(ours, run_layer(definition, [3, 1, 2], None), TOLERANCE)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru_reset_before"])
def test_layers_of_networks_with_documents_of_different_length_equal_the_loop(
    cell: str, bidirectional: bool
) -> None:
    definition, directions = make_cell(cell), 2 if bidirectional else 1
    generator = torch.Generator().manual_seed(1)
    stacks = [
        RecurrentStack(definition, 3, 4, generator=generator, bidirectional=bidirectional)
        for _ in range(3)
    ]
    lengths = torch.tensor([[4, 2], [2, 1], [1, 0]])  # of three networks
    inputs = torch.randn(3, 4, 3, 2, generator=generator, dtype=torch.float64)
    mask = (torch.arange(4)[:, None, None] < lengths[:, None, None, :]).to(DEVICE)
    results = []
    for loop in (make_loop(definition), definition.loop):
        dtype = EXACT if loop is not definition.loop else torch.float64
        leaf = inputs.to(DEVICE, dtype).requires_grad_()
        layers = [stack.to(DEVICE, dtype).layer_weights()[0] for stack in stacks]
        weights = loop.arrange([direction for layer in layers for direction in layer])
        states = run_loop_layers(loop, leaf, mask, weights).masked_fill(~mask, 0)
        assert states.shape == (3, 4, directions * 4, 2)
        parameters = [values for stack in stacks for values in stack.parameters()]
        grads = torch.autograd.grad(states.pow(2).sum(), [leaf, *parameters])
        results.append([states.detach(), *grads])
    assert_near(results[0], results[1], TOLERANCE)


def test_infinite_and_undefined_inputs_reach_the_states() -> None:
    cell = make_cell("gru")
    job = Job(cell, (1, 2, 4, 3))
    job.projected[0, 0, 0, 0] = torch.nan
    with tf32_products("tf32"):
        hidden, *_ = job.actual(make_loop(cell), torch.float32)
    assert hidden[0, 2, :4, 0].isnan().all()
    assert hidden[0, 1:, :4, 1:].isfinite().all()


def test_states_with_strided_columns_are_rejected() -> None:
    cell = make_cell("rnn")
    job = Job(cell, (1, 2, 4, 3))
    job.hidden = job.hidden.transpose(2, 3).contiguous().transpose(2, 3)
    with pytest.raises(ValueError, match=r"need a stride of 1 in their last axis, not 5\."):
        make_loop(cell).forward(job.projected, job.hidden, job.weights)


def test_batch_whose_addresses_need_more_than_32_bits_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = make_cell("lstm")
    job = Job(cell, (2, 3, 4, 5))
    monkeypatch.setattr(launch, "MOST_VALUES", 3 * 20 * 5 - 1)  # 4 gates and a cell state
    with pytest.raises(
        TrialError,
        match=r"of 5 documents has 300 values in one direction of a recurrent layer \(20 rows, 3 "
        r"steps\), but the GPU kernels can address only 299\. Decrease batch_size or max_tokens",
    ):
        job.actual(make_loop(cell), EXACT)


def test_empty_batch_has_empty_results() -> None:
    cell = make_cell("mgu")
    job = Job(cell, (2, 3, 4, 0))
    hidden, projected, *weights = job.actual(make_loop(cell), EXACT)
    assert hidden.shape == (2, 4, 5, 0)
    assert projected.shape == (2, 3, 8, 0)
    assert [weight.abs().sum().item() for weight in weights] == [0, 0]


def test_tile_has_at_least_16_rows_and_a_power_of_two() -> None:
    heights = {size: fitting.padded_height(size) for size in (1, 16, 17, 32, 33, 64, 100, 128)}
    assert heights == {1: 16, 16: 16, 17: 32, 32: 32, 33: 64, 64: 64, 100: 128, 128: 128}


def test_every_built_in_cell_names_its_kernels() -> None:
    assert {make_cell(name).persistent for name in BUILTIN_CELLS} == set(launch.KERNELS)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("cell", BUILTIN_CELLS)
def test_compiled_kernels_are_available_and_equal_the_loop(
    cell: str, size: int, precision: str
) -> None:
    definition = make_cell(cell)
    job = Job(definition, (8, 20, size, 64))
    with tf32_products(precision):
        loop = persistent_loop(definition, size, torch.float32, torch.device("cuda", 0))
        assert isinstance(loop, launch.PersistentLoop)
        actual = job.actual(loop, torch.float32)
    expected = job.expected()
    if cell == "rnn_relu":
        # Gradients jump where an input of ReLU crosses zero.
        actual, expected = actual[:1], expected[:1]
    assert_near(actual, expected, 1e-4 if precision == "float32" else 2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="no CUDA device")
def test_stack_uses_the_kernels_unless_they_are_disabled() -> None:
    cell = make_cell("mgu")
    assert persistent_loop(cell, 32, torch.float32, DEVICE) is not None
    with disabled():
        assert persistent_loop(cell, 32, torch.float32, DEVICE) is None
    stack = RecurrentStack(cell, 8, 32, generator=torch.Generator().manual_seed(7)).to(DEVICE)
    inputs = torch.randn(9, 8, 5, device=DEVICE)
    with disabled():
        expected = stack(inputs, None)
    torch.testing.assert_close(stack(inputs, None), expected, rtol=0, atol=1e-5)
