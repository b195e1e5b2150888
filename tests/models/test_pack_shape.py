"""The shape of a trial, by which trials are packed into one batched model."""

import pytest

from celltune.models.config import PER_TRIAL, ModelConfig, TrainingConfig, pack_shape

CHANGED = {
    "wide": "add",
    "dropout": 0.5,
    "layer_dropout": 0.25,
    "embedding_dropout": 0.25,
    "word_dropout": 0.1,
    "output_scale": 0.1,
    "warmup_epochs": 0.5,
    "decay_epochs": 3,
    "weight_average": 0.99,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "adversarial": 5.0,
    "embedding_std": 1.0,
    "learning_rate": 0.1,
    "gradient_clip": None,
    "weight_decay": 0.01,
    "momentum": 0.5,
    "cell": "lstm",
    "hidden_size": 32,
    "num_layers": 2,
    "bidirectional": True,
    "embedding_size": 50,
    "readout": "max",
    "nonlinearity": "relu",
    "output_relu": True,
    "batch_size": 32,
    "batch_tokens": 4096,
    "optimizer": "sgd",
    "precision": "tf32",
}


def shape_with(**changed: object) -> object:
    model = {"cell": "gru", **{k: v for k, v in changed.items() if k in ModelConfig.model_fields}}
    training = {k: v for k, v in changed.items() if k in TrainingConfig.model_fields}
    return pack_shape(ModelConfig(**model), TrainingConfig(**training))


def test_the_test_covers_every_hyperparameter() -> None:
    assert CHANGED.keys() == ModelConfig.model_fields.keys() | TrainingConfig.model_fields.keys()


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_only_per_trial_hyperparameters_leave_the_shape_unchanged(name: str) -> None:
    assert (shape_with(**{name: CHANGED[name]}) == shape_with()) == (name in PER_TRIAL)


def test_a_shape_is_hashable() -> None:
    assert len({shape_with(), shape_with(hidden_size=32), shape_with(dropout=0.5)}) == 2
