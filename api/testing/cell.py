"""The contract of recurrent cells. Needs pytest."""

from __future__ import annotations

import copy
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.extensions import CELLS
from celltune.models.layers.base import Cell, LayerWeights
from celltune.models.layers.stack import RecurrentStack
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.onnx_export import build_onnx
from celltune.models.training.trainer import Trainer

FEATURES, HIDDEN, VOCABULARY = 4, 3, 20
SHAPES = [(1, False), (1, True), (2, False), (2, True)]
LENGTHS = torch.tensor([6, 1, 4, 6])


class CellContract:
    """Tests that every cell must pass. Subclass it and set `cell`.

    The cell must be registered under the name, as a built-in or by an installed package.
    """

    cell: ClassVar[str]
    """Registered name of the cell under test."""
    settings: ClassVar[dict[str, Any]] = {}
    """Other fields of `ModelConfig` that the cell reads."""

    def make_stack(self, layers: int, bidirectional: bool, dtype: torch.dtype) -> RecurrentStack:
        """Create layers of the cell with fixed random weights."""
        return RecurrentStack(
            self.make_cell(),
            FEATURES,
            HIDDEN,
            generator=torch.Generator().manual_seed(7),
            num_layers=layers,
            bidirectional=bidirectional,
        ).to(dtype)

    def make_cell(self) -> Cell:
        """Create the cell as a model does."""
        return CELLS.load(self.cell).from_config(self.make_config())

    def make_config(self, **fields: Any) -> ModelConfig:
        """Create the config of a small model."""
        sizes = {"hidden_size": HIDDEN, "embedding_size": FEATURES}
        return ModelConfig(cell=self.cell, **{**sizes, **self.settings, **fields})

    @pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
    def test_states_and_gradients_equal_steps_over_single_documents(
        self, layers: int, bidirectional: bool
    ) -> None:
        stack = self.make_stack(layers, bidirectional, torch.float64)
        inputs, mask = make_inputs(LENGTHS, torch.float64)
        inputs.requires_grad_()
        states = stack(inputs.transpose(1, 2), mask)  # (T, D * H, B)
        loss, expected_loss = inputs.new_zeros(()), inputs.new_zeros(())
        for b, length in enumerate(LENGTHS.tolist()):
            expected = run_steps(stack, inputs[:length, b : b + 1])[:, 0]
            torch.testing.assert_close(states[:length, :, b], expected, rtol=0, atol=1e-12)
            loss = loss + states[:length, :, b].pow(2).sum()
            expected_loss = expected_loss + expected.pow(2).sum()
        sources = [inputs, *stack.parameters()]
        for actual, wanted in zip(
            torch.autograd.grad(loss, sources),
            torch.autograd.grad(expected_loss, sources),
            strict=True,
        ):
            torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-9)

    def test_gradients_equal_finite_differences(self) -> None:
        stack = self.make_stack(1, True, torch.float64)
        inputs, mask = make_inputs(torch.tensor([3, 2]), torch.float64)
        names = [name for name, _ in stack.named_parameters()]

        def run(values: Tensor, *weights: Tensor) -> Tensor:
            named = dict(zip(names, weights, strict=True))
            states: Tensor = torch.func.functional_call(stack, named, (values, mask))
            return states.masked_fill(~mask, 0)

        values = inputs.transpose(1, 2).contiguous().requires_grad_()
        assert torch.autograd.gradcheck(run, (values, *stack.parameters()), fast_mode=True)

    @pytest.mark.parametrize("lengths", [[1], [3, 3], [5, 1, 8, 2]])
    @pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
    def test_states_do_not_depend_on_other_documents_or_padding(
        self, lengths: list[int], layers: int, bidirectional: bool
    ) -> None:
        stack = self.make_stack(layers, bidirectional, torch.float32)
        inputs, mask = make_inputs(torch.tensor(lengths), torch.float32)
        together = stack(inputs.transpose(1, 2), mask)
        for b, length in enumerate(lengths):
            alone = stack(inputs[:length, b : b + 1].transpose(1, 2), None)
            torch.testing.assert_close(together[:length, :, b : b + 1], alone, rtol=0, atol=1e-5)

    def test_initial_weights_are_determined_by_the_seed(self) -> None:
        first, second = (self.make_stack(2, True, torch.float32) for _ in range(2))
        assert all(map(torch.equal, first.parameters(), second.parameters()))

    def test_weights_survive_a_state_dict(self) -> None:
        stack = self.make_stack(2, True, torch.float32)
        other = RecurrentStack(
            self.make_cell(),
            FEATURES,
            HIDDEN,
            generator=torch.Generator().manual_seed(8),
            num_layers=2,
            bidirectional=True,
        )
        other.load_state_dict(stack.state_dict())
        inputs, mask = make_inputs(LENGTHS, torch.float32)
        assert torch.equal(
            stack(inputs.transpose(1, 2), mask)[:1], other(inputs.transpose(1, 2), mask)[:1]
        )

    def test_can_be_copied_and_pickled(self) -> None:
        copies = copy.deepcopy(self.make_cell()), pickle.loads(pickle.dumps(self.make_cell()))  # noqa: S301 (own data)
        assert all(type(each) is CELLS.load(self.cell) for each in copies)

    def test_resumed_training_equals_uninterrupted_training(self) -> None:
        uninterrupted, first, second = (self._make_trainer() for _ in range(3))
        for _ in range(2):
            expected = uninterrupted.train_epoch()
        first.train_epoch()
        second.load_state(*first.state())
        assert second.train_epoch() == expected
        tensors = uninterrupted.state()[0]
        for name, values in second.state()[0].items():
            assert torch.equal(values, tensors[name]), name

    def _make_trainer(self) -> Trainer:
        config = self.make_config(num_layers=2, bidirectional=True, dropout=0.3)
        return Trainer(config, TrainingConfig(batch_size=8), make_data(), seed=1)

    def test_onnx_model_agrees_or_the_export_names_the_cell(self) -> None:
        pytest.importorskip("onnx", reason="needs celltune[onnx]")
        runtime = pytest.importorskip("onnxruntime", reason="needs celltune[onnx]")
        model = TextClassifier(self.make_config(bidirectional=True), VOCABULARY, 3).eval()
        if self.make_cell().onnx is None:
            with pytest.raises(ValueError, match=f"cell '{self.cell}' has no ONNX operator"):
                build_onnx(model)
            return
        assert_onnx_agrees(runtime, model)


def make_inputs(lengths: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return random inputs (T, B, I), also at padding, and the mask of tokens (T, 1, B)."""
    steps = int(lengths.max())
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(steps, len(lengths), FEATURES, dtype=dtype, generator=generator)
    return inputs, (torch.arange(steps)[:, None] < lengths)[:, None]


def run_steps(stack: RecurrentStack, inputs: Tensor) -> Tensor:
    """Run `Cell.step` over a batch without padding: (T, B, I) -> (T, B, D * H)."""
    states = inputs
    for layer in stack.layer_weights():
        directions = [_run_direction(stack.cell, states, layer[0])]
        if len(layer) == 2:
            directions.append(_run_direction(stack.cell, states.flip(0), layer[1]).flip(0))
        states = torch.cat(directions, dim=2)
    return states


def _run_direction(cell: Cell, inputs: Tensor, weights: LayerWeights) -> Tensor:
    zero = inputs.new_zeros(inputs.shape[1], weights.weight_hh.shape[1])
    state, outputs = (zero,) * len(cell.states), []
    for x in inputs:
        projected = linear(x, weights.weight_ih, weights.bias_ih)
        state = cell.step(projected, state, weights.weight_hh, weights.bias_hh)
        outputs.append(state[0])
    return torch.stack(outputs)


def make_data() -> PreparedData:
    """Return a small random data set with two classes and `VOCABULARY` words."""

    def split(documents: int, seed: int) -> TensorizedSplit:
        rng = np.random.default_rng(seed)
        offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 9, documents))])
        ids = rng.integers(2, VOCABULARY, offsets[-1]).astype(np.int32)
        labels = rng.integers(0, 2, documents).astype(np.int64)
        return TensorizedSplit(ids, offsets.astype(np.int64), labels)

    words = tuple(map(str, range(VOCABULARY)))
    return PreparedData("", split(24, 1), split(8, 2), ("0", "1"), words)


def assert_onnx_agrees(runtime: Any, model: TextClassifier) -> None:
    """Check that onnxruntime computes the logits of a model with three classes."""
    session = runtime.InferenceSession(
        build_onnx(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    generator, lengths = torch.Generator().manual_seed(5), torch.tensor([2, 7, 1])
    ids = torch.randint(0, VOCABULARY, (8, 3), generator=generator)
    with torch.inference_mode():
        expected = model(ids, lengths)
    feeds = {"ids": ids.t().contiguous().numpy(), "lengths": lengths.numpy()}
    logits = torch.from_numpy(session.run(["logits"], feeds)[0])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
