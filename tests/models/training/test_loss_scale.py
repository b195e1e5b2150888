"""Loss scaling: equal steps, skipped steps after an overflow, and resuming."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import CheckpointError
from celltune.models.network.classifier import TextClassifier
from celltune.models.training import checkpoint
from celltune.models.training import trainer as trainer_module
from celltune.models.training.loss_scale import LossScale
from celltune.models.training.trainer import Trainer
from celltune.models.training.updater import Updater
from tests.models.random_data import make_data, make_split

CONFIG = ModelConfig(cell="gru", hidden_size=4, embedding_size=5)
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "adam"},
    {"optimizer": "adam", "gradient_clip": None},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "sgd", "momentum": 0.0},
]


class Model:
    """A model with its updater."""

    def __init__(self, model: TextClassifier, settings: dict[str, Any], scaled: bool) -> None:
        self.model = copy.deepcopy(model)
        self.updater = Updater(self.model, TrainingConfig(**settings), scaled=scaled)

    def step(self, factor: float = 1.0) -> None:
        ids = torch.tensor([[3, 4], [5, 6]])
        rows = self.updater.gather_rows(ids)
        logits = self.model(ids, torch.tensor([2, 2]), rows)
        self.updater.step(factor * logits.pow(2).sum(), rows)
        self.updater.finish()

    def weights(self) -> list[Tensor]:
        return [values.detach().clone() for values in self.model.parameters()]

    @property
    def scale(self) -> float:
        state = self.updater.loss_scale.state()
        assert isinstance(state, dict)
        return float(state["scale"])


@pytest.fixture
def model() -> TextClassifier:
    return TextClassifier(CONFIG, 20, 2)


@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_scaled_steps_equal_unscaled_steps(model: TextClassifier, settings: dict[str, Any]) -> None:
    scaled, plain = Model(model, settings, scaled=True), Model(model, settings, scaled=False)
    for _ in range(3):
        scaled.step()
        plain.step()
    for actual, wanted in zip(scaled.weights(), plain.weights(), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-6)
    assert plain.updater.loss_scale.state() is None


@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_overflow_skips_the_step_and_halves_the_scale(
    model: TextClassifier, settings: dict[str, Any]
) -> None:
    first, second = Model(model, settings, scaled=True), Model(model, settings, scaled=True)
    before, scale = first.weights(), first.scale
    first.step(factor=1e38)
    assert all(map(torch.equal, first.weights(), before))
    assert first.scale == scale / 2
    for each in (first, second):
        each.step()
    for actual, wanted in zip(first.weights(), second.weights(), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-6)
    assert not all(map(torch.equal, first.weights(), before))


@pytest.fixture
def _float16_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "effective_precision", lambda device, requested: requested)


def make_trainer(**settings: Any) -> Trainer:
    return Trainer(
        CONFIG.model_copy(update={"bidirectional": True, "dropout": 0.2}),
        TrainingConfig(**{"batch_size": 8, "precision": "float16", **settings}),
        make_data(make_split(40, 1), make_split(12, 2)),
        seed=1,
    )


@pytest.mark.usefixtures("_float16_on_every_device")
@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_resumed_float16_training_equals_uninterrupted_training(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    uninterrupted = make_trainer(**settings)
    # The first steps overflow, so the resumed scale differs from the initial one.
    uninterrupted.load_state(*with_scale(uninterrupted, {"scale": 2.0**120, "held": 3}))
    uninterrupted.run_epoch()
    checkpoint.save(uninterrupted.state(), tmp_path / "epoch")
    resumed = make_trainer(**settings)
    resumed.load_state(*checkpoint.load(tmp_path / "epoch"))
    assert resumed.train_epoch() == uninterrupted.train_epoch()
    (weights, meta), (expected, expected_meta) = resumed.state(), uninterrupted.state()
    assert meta == expected_meta
    assert meta["loss_scale"]["scale"] < 2.0**120
    assert all(torch.equal(values, expected[name]) for name, values in weights.items())


def with_scale(trainer: Trainer, scale: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = trainer.state()
    return tensors, {**meta, "loss_scale": scale}


@pytest.mark.usefixtures("_float16_on_every_device")
@pytest.mark.parametrize(
    "scale",
    [2.0, {}, {"scale": 0.0, "held": 1}, {"scale": 2.0, "held": -1}, {"scale": 2.0, "held": "1"}],
)
def test_invalid_scale_is_rejected_and_changes_nothing(scale: Any) -> None:
    trainer = make_trainer()
    before = trainer.state()[1]["loss_scale"]
    tensors, meta = with_scale(trainer, scale)
    with pytest.raises(
        CheckpointError, match=r"loss_scale is .* It must contain 'scale', a number above 0"
    ):
        trainer.load_state({name: values + 1 for name, values in tensors.items()}, meta)
    assert trainer.state()[1]["loss_scale"] == before
    assert torch.equal(trainer.state()[0]["model.output_bias"], tensors["model.output_bias"])


def test_state_of_the_cpu_can_be_loaded_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_cpu = make_trainer()
    on_cpu.run_epoch()
    assert on_cpu.state()[1]["loss_scale"] is None
    monkeypatch.setattr(trainer_module, "effective_precision", lambda device, requested: requested)
    scaled = make_trainer()
    first = scaled.state()[1]["loss_scale"]
    scaled.load_state(*on_cpu.state())
    assert (scaled.epoch, scaled.state()[1]["loss_scale"]) == (1, first)


def test_grad_scaler_state_has_the_private_name_growth_tracker() -> None:
    scale = LossScale("cpu", enabled=True)
    assert set(scale.scaler.state_dict()) >= {"scale", "_growth_tracker"}
    scale.load({"scale": 2.0, "held": 3})
    assert scale.state() == {"scale": 2.0, "held": 3}
