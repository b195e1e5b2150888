"""Adversarial perturbations equal those of normalized word vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.native import library as native
from celltune.models.network.adversarial import adversarial_shift
from celltune.models.network.classifier import EmbeddingRows
from celltune.models.training.device_split import BatchTensors
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split

CONFIG = ModelConfig(cell="gru", hidden_size=4, embedding_size=5)


def make_trainer(**training: Any) -> Trainer:
    data = make_data(make_split(50, 1), make_split(23, 2))
    return Trainer(CONFIG, TrainingConfig(batch_size=16, **training), data, seed=1)


def test_perturbation_is_that_of_normalized_vectors() -> None:
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(9, 5, generator=generator, dtype=torch.float64) * torch.arange(1, 6)
    direction = torch.randn(5, generator=generator, dtype=torch.float64)
    ids, lengths = torch.tensor([[2, 3], [4, 2], [5, 1]]), torch.tensor([3, 2])
    words = table[torch.tensor([2, 3, 4, 2, 5])]
    mean, deviation = words.mean(0), words.std(0, correction=0)

    def loss(vectors: torch.Tensor) -> torch.Tensor:
        present = (torch.arange(3)[:, None] < lengths)[:, :, None]
        return ((vectors * present).sum(0) @ direction).tanh().sum()

    normalized = ((table - mean) / deviation)[ids].requires_grad_()
    loss(normalized * deviation + mean).backward()
    assert normalized.grad is not None
    norms = normalized.grad.square().sum((0, 2), keepdim=True).sqrt()
    expected = 2.0 * normalized.grad / norms * deviation
    shift = torch.zeros(3, 2, 5, dtype=torch.float64, requires_grad=True)
    loss(table[ids] + shift).backward()
    rows = EmbeddingRows(table, ids, None)
    torch.testing.assert_close(adversarial_shift(shift, rows, lengths, 2.0), expected)


def test_without_a_gradient_nothing_is_perturbed() -> None:
    shift = torch.zeros(2, 1, 3, requires_grad=True)
    rows = EmbeddingRows(torch.randn(4, 3), torch.tensor([[1], [2]]), None)
    assert (adversarial_shift(shift, rows, torch.tensor([2]), 1.0) == 0).all()
    shift.grad = torch.zeros_like(shift)
    assert (adversarial_shift(shift, rows, torch.tensor([2]), 1.0) == 0).all()


def test_step_adds_the_gradients_of_both_losses() -> None:
    settings: dict[str, Any] = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "learning_rate": 1.0,
        "gradient_clip": None,
    }
    trainer, model = make_trainer(adversarial=3.0, **settings), make_trainer(**settings).model
    ids, lengths = torch.tensor([[2, 3], [4, 5]]), torch.tensor([2, 2])
    labels = torch.tensor([0, 1])
    shift = torch.zeros(2, 2, 5, requires_grad=True)
    total = loss_of(model(ids, lengths, shift=shift), labels)
    total.backward()
    rows = EmbeddingRows(model.embedding, ids, None)
    worst = adversarial_shift(shift, rows, lengths, 3.0)
    perturbed = loss_of(model(ids, lengths, shift=worst), labels)
    perturbed.backward()
    assert perturbed.item() > total.item()
    trainer.model.train()
    loss, _ = trainer._step(BatchTensors(ids, lengths, labels, None))
    trainer.updater.finish()
    assert float(loss) == pytest.approx(2 * total.item(), rel=1e-6)
    for changed, values in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(changed, values - values.grad, rtol=1e-4, atol=1e-6)


def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, labels.float())


def test_training_without_native_code_is_the_same_and_resumes_exactly() -> None:
    settings: dict[str, Any] = {"adversarial": 2.0, "learning_rate": 0.01, "weight_average": 0.9}
    trainer = make_trainer(**settings)
    first = trainer.run_epoch()
    with native.disabled():
        dense = make_trainer(**settings).run_epoch()
    assert first.valid_loss == pytest.approx(dense.valid_loss, abs=1e-5)
    plain = make_trainer(**{**settings, "adversarial": 0.0}).run_epoch()
    assert first.valid_loss != plain.valid_loss
    resumed = make_trainer(**settings)
    resumed.load_state(*trainer.state())
    assert resumed.run_epoch().valid_loss == trainer.run_epoch().valid_loss
