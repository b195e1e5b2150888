"""Packs and single runs of the same trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import DivergedError
from celltune.models.native import library as native
from celltune.models.packed import choice, trainer
from celltune.models.packed.trainer import PackedTrainer
from celltune.models.training.metrics import EpochMetrics
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split

LOSS_BOUND, STATE_BOUND = 1e-6, 1e-4
"""Largest relative differences between a batched and a single run of a few epochs, of losses and
of the values of a tensor relative to its largest one."""

on_the_cpu_only = pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="Triton compiles kernels for the GPU, so its interpreter cannot run them on the CPU",
)


@dataclass(frozen=True)
class Setting:
    """Hyperparameters in which the trials of a pack differ."""

    seed: int
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting(1, {"dropout": 0.3}, {"learning_rate": 1e-2, "weight_decay": 0.01}),
    Setting(2, {"layer_dropout": 0.2}, {"learning_rate": 3e-3, "gradient_clip": None}),
    Setting(
        3,
        {"dropout": 0.1, "layer_dropout": 0.0, "embedding_std": 1.0},
        {"gradient_clip": 0.05, "momentum": 0.5},
    ),
)


TECHNIQUES = (
    Setting(
        1,
        {"embedding_dropout": 0.3, "word_dropout": 0.2, "output_scale": 0.1},
        {"warmup_epochs": 0.5, "label_smoothing": 0.1, "weight_average": 0.9},
    ),
    Setting(2, {"dropout": 0.2}, {"decay_epochs": 2, "class_weights": "balanced"}),
    Setting(
        3,
        {"word_dropout": 0.1},
        {"weight_average": 0.5, "weight_decay": 0.1, "class_weights": {"1": 3}},
    ),
)


def data(classes: int = 2, *, wide: bool = False, **options: Any) -> PreparedData:
    train, valid = (make_split(n, n, classes=classes, wide=wide) for n in (44, 23))
    return make_data(train, valid, classes=classes, **options)


def configs(setting: Setting, shape: dict[str, Any]) -> tuple[ModelConfig, TrainingConfig]:
    """Return the configs of a trial; `shape` has the fields of both that all trials share."""
    fields = {"cell": "gru", "hidden_size": 5, "embedding_size": 4, "batch_size": 8, **shape}
    in_training = {k: v for k, v in fields.items() if k in TrainingConfig.model_fields}
    in_model = {k: v for k, v in fields.items() if k in ModelConfig.model_fields}
    model = ModelConfig(**{**in_model, **setting.model})
    return model, TrainingConfig(**{**in_training, **setting.training})


def make_pack(
    prepared: PreparedData, settings: Sequence[Setting] = SETTINGS, **shape: Any
) -> PackedTrainer:
    pack = PackedTrainer(prepared)
    for setting in settings:
        pack.add(*configs(setting, shape), seed=setting.seed)
    return pack


def make_trainer(prepared: PreparedData, setting: Setting, **shape: Any) -> Trainer:
    return Trainer(*configs(setting, shape), prepared, seed=setting.seed)


@contextmanager
def batched_on_the_cpu() -> Iterator[None]:
    """Compute packs as one model, as on a GPU, with the loops on PyTorch operations."""

    def runs_batched(model: ModelConfig, training: TrainingConfig, device: str) -> bool:
        return choice.runs_batched(model, training, "cuda")

    with native.disabled(), patch.object(trainer, "runs_batched", runs_batched):
        yield


def values(metrics: EpochMetrics | DivergedError) -> list[float]:
    """Return the metrics that are not times."""
    assert isinstance(metrics, EpochMetrics), metrics
    accuracies = [metrics.train_accuracy, metrics.valid_accuracy]
    gains = [gain for gain in (metrics.wide_gain, metrics.wide_gain_error) if gain is not None]
    return [metrics.epoch, *accuracies, metrics.train_loss, metrics.valid_loss, *gains]


def difference(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Return the largest difference of two states, relative to the largest value of a tensor."""
    assert left.keys() == right.keys()
    return max(
        float((left[name] - right[name]).abs().max() / right[name].abs().max().clamp(min=1e-12))
        for name in right
    )


def assert_equal_states(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in right)
