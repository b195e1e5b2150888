"""The optimizers compute what PyTorch's do, without importing its compiler."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from celltune.models import eager
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split

SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"lr": 0.1, "weight_decay": 0.01},
    "AdamW": {"lr": 0.1, "weight_decay": 0.01},
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_the_steps_are_those_of_pytorch(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator)
    gradients = torch.randn(5, 4, 3, generator=generator)
    reached = []
    for optimizers in (eager, torch.optim):
        weights = start.clone().requires_grad_()
        optimizer = getattr(optimizers, name)([weights], **SETTINGS[name], fused=True)
        assert isinstance(optimizer, getattr(torch.optim, name))
        for gradient in gradients:
            optimizer.zero_grad(set_to_none=True)
            assert weights.grad is None
            (weights * gradient).sum().backward()
            optimizer.step()
        reached.append(weights.detach())
    assert torch.equal(*reached)
    assert not torch.equal(reached[0], start)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_training_does_not_import_the_compiler(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # An import of the module is an error now, whether or not it was imported before.
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    data = make_data(make_split(40, 1), make_split(20, 2))
    model = ModelConfig(cell="gru", hidden_size=4, embedding_size=4)
    trainer = Trainer(model, TrainingConfig(optimizer=name), data, seed=1)
    trainer.run_epoch()
    assert trainer.run_epoch().epoch == 2
