"""The loss that training minimizes: smoothed labels and weighted classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.training.losses import TrainingLoss, balanced_weights, document_losses
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split


def make_loss(classes: int, labels: list[int], **settings: Any) -> TrainingLoss:
    names = [f"class {label}" for label in range(classes)]
    return TrainingLoss(TrainingConfig(**settings), np.array(labels), names)


@settings(deadline=None)  # The first call takes longer.
@given(smoothing=st.floats(0, 0.9), classes=st.integers(2, 5), seed=st.integers(0, 99))
def test_smoothed_loss_is_that_of_pytorch(smoothing: float, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(7, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (7,), generator=generator)
    expected = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    own = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    loss = make_loss(classes, [0], label_smoothing=smoothing)
    torch.testing.assert_close(loss(own, labels), expected)


def test_balanced_weights_give_each_class_the_same_total() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_weights(labels, 4)
    totals = np.bincount(labels, weights[labels], minlength=4)
    assert totals.tolist() == pytest.approx([1.5, 1.5, 1.5, 0])


def test_weights_multiply_the_losses() -> None:
    loss = make_loss(2, [0, 0, 0, 1], class_weights="balanced")
    logits, labels = torch.tensor([0.3, -2.0]), torch.tensor([0, 1])
    expected = document_losses(logits, labels) * torch.tensor([2 / 3, 2.0])
    torch.testing.assert_close(loss(logits, labels), expected)


@given(weights=st.lists(st.floats(0.01, 100), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_gradients_are_those_of_the_weighted_cross_entropy_of_pytorch(
    weights: list[float], seed: int
) -> None:
    classes, generator = len(weights), torch.Generator().manual_seed(seed)
    logits = torch.randn(7, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (7,), generator=generator)
    loss = make_loss(classes, labels.tolist(), class_weights=weights)
    own, other = (logits.clone().requires_grad_() for _ in range(2))
    loss(own[:, 1] - own[:, 0] if classes == 2 else own, labels).mean().backward()
    # That of PyTorch is divided by the sum of the weights, whose mean is 1 for these documents.
    functional.cross_entropy(other, labels, torch.tensor(weights, dtype=torch.float64)).backward()
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_only_the_ratios_of_given_weights_count() -> None:
    labels = [0, 0, 0, 1]
    balanced = make_loss(2, labels, class_weights="balanced").weights
    for given_weights in ([1, 3], [10, 30], {"class 1": 3}, '{"class 0": 2, "class 1": 6}'):
        weights = make_loss(2, labels, class_weights=given_weights).weights
        assert weights is not None
        assert balanced is not None
        torch.testing.assert_close(weights, balanced)


def test_training_minimizes_the_loss_and_reports_the_cross_entropy() -> None:
    data = make_data(make_split(40, 1), make_split(20, 2))

    def trainer(**settings: Any) -> Trainer:
        config = ModelConfig(cell="gru", hidden_size=4, embedding_size=4)
        return Trainer(
            config, TrainingConfig(optimizer="sgd", batch_size=64, **settings), data, seed=1
        )

    plain, smoothed = trainer(), trainer(label_smoothing=0.9)
    assert smoothed.run_epoch().train_loss == plain.run_epoch().train_loss
    weighted = trainer(class_weights="balanced")
    weighted.run_epoch()
    weights = [one.model.output_bias.item() for one in (plain, smoothed, weighted)]
    assert len(set(weights)) == 3
