"""Scaled losses: the same steps, none where a gradient overflows, and all of it resumed."""

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
from celltune.models.training import trainer as training
from celltune.models.training.trainer import Trainer
from celltune.models.training.updater import Updater
from tests.models.model_splits import make_split

CONFIG = ModelConfig(cell="gru", hidden_size=4, embedding_size=5)
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "adam"},
    {"optimizer": "adam", "gradient_clip": None},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "sgd", "momentum": 0.0},
]


class Steps:
    """A model and what brings gradients into it."""

    def __init__(self, model: TextClassifier, settings: dict[str, Any], scaled: bool) -> None:
        self.model = copy.deepcopy(model)
        self.updater = Updater(self.model, TrainingConfig(**settings), scaled=scaled)

    def step(self, factor: float = 1.0) -> None:
        ids = torch.tensor([[3, 4], [5, 6]])
        words = self.updater.words(ids)
        logits = self.model(ids, torch.tensor([2, 2]), words)
        self.updater.step(factor * logits.pow(2).sum(), words)
        self.updater.settle()

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
def test_scaled_steps_come_to_the_unscaled_ones(
    model: TextClassifier, settings: dict[str, Any]
) -> None:
    scaled, plain = Steps(model, settings, scaled=True), Steps(model, settings, scaled=False)
    for _ in range(3):
        scaled.step()
        plain.step()
    for got, wanted in zip(scaled.weights(), plain.weights(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    assert plain.updater.loss_scale.state() is None


@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_a_step_that_overflows_is_left_out_and_halves_the_scale(
    model: TextClassifier, settings: dict[str, Any]
) -> None:
    first, second = Steps(model, settings, scaled=True), Steps(model, settings, scaled=True)
    before, scale = first.weights(), first.scale
    first.step(factor=1e38)
    assert all(map(torch.equal, first.weights(), before))
    assert first.scale == scale / 2
    for steps in (first, second):
        steps.step()
    for got, wanted in zip(first.weights(), second.weights(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    assert not all(map(torch.equal, first.weights(), before))


@pytest.fixture
def _halves_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "used_on", lambda device, wanted: wanted)


def make_trainer(**settings: Any) -> Trainer:
    return Trainer(
        CONFIG.model_copy(update={"bidirectional": True, "dropout": 0.2}),
        TrainingConfig(**{"batch_size": 8, "precision": "float16", **settings}),
        train=make_split(40, 1),
        valid=make_split(12, 2),
        vocabulary_size=30,
        num_classes=2,
        seed=1,
    )


@pytest.mark.usefixtures("_halves_everywhere")
@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_a_resumed_float16_run_is_the_uncut_run_bit_for_bit(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    uncut = make_trainer(**settings)
    # So large that the first steps overflow: what is resumed isn't what a new run starts from.
    uncut.load_state(*with_scale(uncut, {"scale": 2.0**120, "held": 3}))
    uncut.run_epoch()
    checkpoint.save(uncut.state(), tmp_path / "epoch")
    resumed = make_trainer(**settings)
    resumed.load_state(*checkpoint.load(tmp_path / "epoch"))
    assert resumed.train_epoch() == uncut.train_epoch()
    (weights, meta), (theirs, other) = resumed.state(), uncut.state()
    assert meta == other
    assert meta["loss_scale"]["scale"] < 2.0**120
    assert all(torch.equal(values, theirs[name]) for name, values in weights.items())


def with_scale(trainer: Trainer, scale: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = trainer.state()
    return tensors, {**meta, "loss_scale": scale}


@pytest.mark.usefixtures("_halves_everywhere")
@pytest.mark.parametrize(
    "scale",
    [2.0, {}, {"scale": 0.0, "held": 1}, {"scale": 2.0, "held": -1}, {"scale": 2.0, "held": "1"}],
)
def test_a_scale_that_cannot_be_is_refused_and_changes_nothing(scale: Any) -> None:
    trainer = make_trainer()
    before = trainer.state()[1]["loss_scale"]
    tensors, meta = with_scale(trainer, scale)
    with pytest.raises(CheckpointError, match=r"loss_scale is .*; it must hold a scale above 0"):
        trainer.load_state({name: values + 1 for name, values in tensors.items()}, meta)
    assert trainer.state()[1]["loss_scale"] == before
    assert torch.equal(trainer.state()[0]["model.output_bias"], tensors["model.output_bias"])


def test_the_cpu_scales_nothing_and_its_state_goes_to_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_cpu = make_trainer()
    on_cpu.run_epoch()
    assert on_cpu.state()[1]["loss_scale"] is None
    monkeypatch.setattr(training, "used_on", lambda device, wanted: wanted)
    scaled = make_trainer()
    first = scaled.state()[1]["loss_scale"]
    scaled.load_state(*on_cpu.state())
    assert (scaled.epoch, scaled.state()[1]["loss_scale"]) == (1, first)
