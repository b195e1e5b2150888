"""Log-probabilities agree with the trainer's evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.network.predict import log_probabilities
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split


def train(classes: int) -> tuple[Trainer, TensorizedSplit]:
    split = make_split(40, 1, classes=classes)
    trainer = Trainer(
        ModelConfig(cell="gru", hidden_size=4, embedding_size=4, dropout=0.5),
        TrainingConfig(learning_rate=0.05, batch_size=8),
        make_data(split, split, classes=classes),
        seed=1,
    )
    trainer.train_epoch()
    return trainer, split


@pytest.mark.parametrize("classes", [2, 4])
def test_log_probabilities_give_the_loss_and_accuracy_of_the_trainer(classes: int) -> None:
    trainer, split = train(classes)
    logs = log_probabilities(trainer.model, split, batch_size=7)
    assert logs.shape == (40, classes)
    assert np.exp(logs).sum(1) == pytest.approx(np.ones(40))
    loss, accuracy = trainer.evaluate(split)
    assert -logs[np.arange(40), split.labels].mean() == pytest.approx(loss, abs=1e-6)
    assert (logs.argmax(1) == split.labels).mean() == accuracy
    assert log_probabilities(trainer.model, split, batch_size=40) == pytest.approx(logs, abs=1e-5)
