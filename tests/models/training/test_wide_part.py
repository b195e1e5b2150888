"""Models with a wide part: added to a network, and alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import CheckpointError, TrialError
from celltune.models.network.classifier import TextClassifier
from celltune.models.training.metrics import Predictions
from celltune.models.training.trainer import Trainer
from celltune.models.training.wide_only import WideOnly, create_trainer
from tests.models.random_data import make_data, make_split

SMALL: dict[str, Any] = {"cell": "gru", "hidden_size": 4, "embedding_size": 5}


def splits(classes: int = 2, *, wide: bool = True) -> PreparedData:
    train, valid = (make_split(n, n, classes=classes, wide=wide) for n in (50, 23))
    return make_data(train, valid, classes=classes)


def adding(data: PreparedData, **training: Any) -> Trainer:
    config = ModelConfig(wide="add", **SMALL)
    return Trainer(config, TrainingConfig(batch_size=8, **training), data, seed=1)


def alone(data: PreparedData) -> WideOnly:
    trainer = create_trainer(ModelConfig(wide="only"), TrainingConfig(), data, seed=1)
    assert isinstance(trainer, WideOnly)
    return trainer


def loss_of(split: TensorizedSplit) -> float:
    """Return the cross-entropy of the wide part alone."""
    logits = torch.tensor(split.wide)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return float(functional.cross_entropy(logits, torch.tensor(split.labels)))


@pytest.mark.parametrize("classes", [2, 3])
def test_outputs_of_the_wide_part_are_scaled_and_added_to_the_logits(classes: int) -> None:
    model = TextClassifier(ModelConfig(wide="add", **SMALL), 20, classes).eval()
    plain = TextClassifier(ModelConfig(**SMALL), 20, classes).eval()
    ids, lengths = torch.tensor([[2, 3], [4, 5]]), torch.tensor([2, 2])
    wide = torch.randn(2, 1 if classes == 2 else classes)
    network, added = plain(ids, lengths), wide.squeeze(1) if classes == 2 else wide
    torch.testing.assert_close(model(ids, lengths, wide=wide), network + added)
    model.wide_scale.data.fill_(0.5)
    torch.testing.assert_close(model(ids, lengths, wide=wide), network + 0.5 * added)
    torch.testing.assert_close(plain(ids, lengths, wide=wide), network)


def test_scale_of_the_wide_part_is_trained() -> None:
    trainer = adding(splits())
    assert trainer.model.wide_scale.tolist() == [1.0]
    trainer.run_epoch()
    assert trainer.model.wide_scale.item() != 1
    state = trainer.state()
    other = adding(splits())
    other.load_state(*state)
    assert torch.equal(other.model.wide_scale, trainer.model.wide_scale)


@pytest.mark.parametrize("classes", [2, 3])
def test_gain_is_the_paired_difference_of_the_losses(classes: int) -> None:
    data = splits(classes)
    trainer = adding(data)
    metrics = trainer.run_epoch()
    assert metrics.wide_gain == pytest.approx(loss_of(data.valid) - metrics.valid_loss, abs=1e-6)
    logs = trainer.log_probabilities(data.valid, 8)
    rows, wide = np.arange(len(data.valid)), torch.tensor(data.valid.wide).double()
    full = wide if classes == 3 else torch.cat([torch.zeros_like(wide), wide], 1)
    wide_logs = functional.log_softmax(full, 1).numpy()
    gains = (logs - wide_logs)[rows, data.valid.labels]
    expected = gains.std(ddof=1) / len(gains) ** 0.5
    assert metrics.wide_gain_error == pytest.approx(expected, rel=1e-4)


def test_models_without_a_wide_part_report_no_gain_and_ignore_the_outputs() -> None:
    config, training = ModelConfig(**SMALL), TrainingConfig(batch_size=8)
    with_outputs = Trainer(config, training, splits(), seed=1).run_epoch()
    without = Trainer(config, training, splits(wide=False), seed=1).run_epoch()
    assert with_outputs.valid_loss == without.valid_loss
    assert without.by_name().keys() == {
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "seconds",
        "tokens_per_second",
    }
    assert adding(splits()).run_epoch().by_name().keys() == without.by_name().keys() | {
        "wide_gain",
        "wide_gain_error",
    }


@pytest.mark.parametrize("create", [adding, alone])
def test_missing_or_wrong_outputs_are_rejected(create: Any) -> None:
    data = splits(wide=False)
    message = "uses the outputs of a wide part, but the train split has none. Set data.wide to true"
    with pytest.raises(DataError, match=message):
        create(data)
    data = splits()
    wrong = np.zeros((len(data.valid), 2), np.float32)
    with pytest.raises(DataError, match=r"the valid split have shape \(23, 2\), but they must"):
        create(replace(data, valid=replace(data.valid, wide=wrong)))
    nan = np.full((len(data.train), 1), np.nan, np.float32)
    with pytest.raises(DataError, match="the train split is NaN or infinite"):
        create(replace(data, train=replace(data.train, wide=nan)))
    trainer = create(data)
    with pytest.raises(DataError, match="the evaluated split has none"):
        trainer.evaluate(replace(data.valid, wide=None))
    with pytest.raises(DataError, match="the evaluated split has none"):
        trainer.log_probabilities(replace(data.valid, wide=None), 8)


def test_batch_without_outputs_is_rejected() -> None:
    model = TextClassifier(ModelConfig(wide="add", **SMALL), 20, 2)
    with pytest.raises(DataError, match="but this batch has none"):
        model(torch.tensor([[2]]), torch.tensor([1]))


@pytest.mark.parametrize("classes", [2, 3])
def test_wide_part_alone_has_the_metrics_of_the_stored_outputs(classes: int) -> None:
    data = splits(classes)
    trainer, predictions = alone(data), Predictions()
    metrics = trainer.run_epoch(predictions)
    assert metrics.epoch == trainer.epoch == 1
    assert metrics.train_loss == pytest.approx(loss_of(data.train), rel=1e-6)
    assert metrics.valid_loss == pytest.approx(loss_of(data.valid), rel=1e-6)
    assert metrics.wide_gain is None
    assert trainer.evaluate(data.valid) == (metrics.valid_loss, metrics.valid_accuracy)
    logs = trainer.log_probabilities(data.valid, 4)
    assert (logs.argmax(1) == data.valid.labels).mean() == metrics.valid_accuracy
    labels, predicted = predictions.arrays()
    order = np.argsort(data.valid.lengths, kind="stable")
    assert (labels == data.valid.labels[order]).all()
    assert (predicted == logs[order]).all()


def test_number_of_weights_of_the_wide_part_is_that_of_the_data() -> None:
    assert alone(splits()).parameters == 0
    assert alone(replace(splits(), info={"wide": {"features": 7}})).parameters == 7 + 1
    assert alone(replace(splits(3), info={"wide": {"features": 7}})).parameters == 3 * (7 + 1)


@pytest.mark.parametrize("wide", ["none", "add"])
def test_a_network_on_top_of_the_wide_part_contains_its_weights(wide: str) -> None:
    data = replace(splits(), info={"wide": {"features": 7}})
    model = ModelConfig.model_validate({"cell": "gru", "wide": wide, **SMALL})
    trainer = Trainer(model, TrainingConfig(), data, seed=1)
    trained = sum(values.numel() for values in trainer.model.parameters())
    assert trainer.wide_parameters == (8 if wide == "add" else 0)
    assert trainer.parameters == trained + trainer.wide_parameters


def test_state_of_the_wide_part_alone_has_no_tensors() -> None:
    data = splits()
    trainer = alone(data)
    trainer.run_epoch()
    tensors, meta = trainer.state()
    assert tensors == {}
    other = alone(data)
    other.load_state(tensors, meta)
    assert other.epoch == 1
    with pytest.raises(CheckpointError, match=r"has a tensor 'model\.embedding'"):
        other.load_state({"model.embedding": torch.zeros(1)}, meta)
    with pytest.raises(CheckpointError, match="its seed is '2'"):
        other.load_state(tensors, {**meta, "seed": 2})
    with pytest.raises(CheckpointError, match="The state's epoch is '-1'"):
        other.load_state(tensors, {**meta, "epoch": -1})


def test_model_without_a_cell_needs_to_be_the_wide_part_alone() -> None:
    assert ModelConfig(wide="only").cell is None
    with pytest.raises(ValueError, match=r"cell is missing\. A model with wide 'add' has a"):
        ModelConfig(wide="add")
    with pytest.raises(TrialError, match="A model with wide 'only' has no recurrent network"):
        TextClassifier(ModelConfig(wide="only"), 20, 2)
