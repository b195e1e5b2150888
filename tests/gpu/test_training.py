"""Classifiers and trainings on a GPU."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch

from benchmarks._gpu.documents import synthetic_data
from benchmarks._gpu.epoch import count_syncs
from benchmarks._gpu.numerics import PRECISIONS, Case, check_case, compare_states, compute
from celltune.models.config import ModelConfig, Precision, TrainingConfig
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.layers.cudnn_layers import torch_layer
from celltune.models.layers.persistent.selection import disabled
from celltune.models.layers.stack import RecurrentStack
from celltune.models.training.precision import tf32_products
from celltune.models.training.trainer import Trainer
from tests.models.packed.runs import TECHNIQUES, configs, data

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")


def make_trainer(cell: str, precision: Precision = "float32", **model: object) -> Trainer:
    config = ModelConfig(cell=cell, hidden_size=24, num_layers=2, bidirectional=True, dropout=0.2)
    return Trainer(
        config.model_copy(update=model),
        TrainingConfig(batch_size=16, precision=precision),
        synthetic_data(60, 20, words=200, max_tokens=40),
        seed=1,
        device="cuda",
    )


@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True)])
def test_logits_and_gradients_are_close_to_float64(
    cell: str, precision: Precision, layers: int, bidirectional: bool
) -> None:
    case = Case(cell, layers, bidirectional, "mean", precision)
    reference = compute(case, torch.device("cpu"), torch.float64)
    row = check_case(case, GPU, reference)
    assert row["passed"], row


@pytest.mark.parametrize("readout", READOUTS.names())
def test_readouts_are_close_to_float64(readout: str) -> None:
    case = Case("gru", 2, True, readout, "float32")
    row = check_case(case, GPU, compute(case, torch.device("cpu"), torch.float64))
    assert row["passed"], row


@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("precision", PRECISIONS)
def test_epoch_has_a_finite_loss(cell: str, precision: Precision) -> None:
    metrics = make_trainer(cell, precision).run_epoch()
    assert math.isfinite(metrics.train_loss)
    assert math.isfinite(metrics.valid_loss)


@pytest.mark.parametrize("cell", CELLS.names())
def test_resumed_training_continues_where_it_was(cell: str) -> None:
    whole = make_trainer(cell)
    for _ in range(2):
        whole.run_epoch()
    first = make_trainer(cell)
    first.run_epoch()
    resumed = make_trainer(cell)
    resumed.load_state(*first.state())
    resumed.run_epoch()
    _, difference = compare_states(whole.state()[0], resumed.state()[0])
    assert difference < 1e-3


def make_trainer_of_techniques(optimizer: str, precision: str) -> Trainer:
    shape = {"adversarial": 2.0, "precision": precision, "readout": "attention", "wide": "add"}
    model, training = configs(TECHNIQUES[0], {**shape, "optimizer": optimizer})
    return Trainer(model, training, data(3, wide=True), seed=1, device="cuda")


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_techniques_resume_where_they_were_and_do_not_wait(optimizer: str, precision: str) -> None:
    whole, first, resumed = (make_trainer_of_techniques(optimizer, precision) for _ in range(3))
    for _ in range(2):
        metrics = whole.run_epoch()
    first.run_epoch()
    resumed.load_state(*first.state())
    resumed.run_epoch()
    assert math.isfinite(metrics.train_loss)
    assert metrics.wide_gain is not None
    _, difference = compare_states(whole.state()[0], resumed.state()[0])
    assert difference < (1e-3 if precision == "float32" else 1e-2)
    in_steps, _ = count_syncs(whole)
    assert precision == "float16" or not in_steps


@pytest.mark.parametrize("cell", CELLS.names())
def test_steps_of_an_epoch_do_not_wait_for_the_gpu(cell: str) -> None:
    trainer = make_trainer(cell, readout="max")
    trainer.train_epoch()  # compiles and captures kernels
    in_steps, _ = count_syncs(trainer)
    assert not in_steps


def make_layer(name: str) -> RecurrentStack:
    return RecurrentStack(
        CELLS.load(name)(), 5, 6, generator=torch.Generator().manual_seed(1), bidirectional=True
    ).to(GPU)


@pytest.mark.parametrize("name", ["gru", "lstm", "rnn"])
def test_weights_of_a_direction_are_one_block_of_memory(name: str) -> None:
    stack = make_layer(name)
    blocks = {values.untyped_storage().data_ptr() for values in stack.parameters()}
    assert len(blocks) == 2
    (layer,) = stack.layer_weights()
    forwards, backwards = (torch_layer(stack.cell.torch_function, [own]) for own in layer)
    inputs = torch.ones(7, 3, 5, device=GPU)
    expected = torch.cat([forwards(inputs)[0], backwards(inputs.flip(0))[0].flip(0)], dim=2)
    with disabled():
        states = stack(inputs.transpose(1, 2), None).transpose(1, 2)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["gru", "lstm", "rnn"])
def test_cudnn_and_the_kernels_compute_the_same_layer(name: str) -> None:
    stack = make_layer(name)
    lengths = torch.tensor([40, 3, 17, 40], device=GPU)
    mask = (torch.arange(40, device=GPU)[:, None] < lengths)[:, None]
    inputs = torch.randn(40, 4, 5, device=GPU).transpose(1, 2).requires_grad_()
    results = []
    with tf32_products("float32"):
        for context in (disabled(), nullcontext()):
            with context:
                states = stack(inputs, mask).masked_fill(~mask, 0)
                gradients = torch.autograd.grad(states.pow(2).sum(), [inputs, *stack.parameters()])
            results.append([states, *gradients])
    for cudnn, kernels in zip(*results, strict=True):
        torch.testing.assert_close(cudnn, kernels, rtol=1e-4, atol=1e-4)
