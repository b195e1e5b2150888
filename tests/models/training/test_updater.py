"""Learning rates, decoupled weight decay and moving averages of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import CheckpointError
from celltune.models.native import library as native
from celltune.models.training.averages import average_decays
from celltune.models.training.metrics import EpochMetrics
from celltune.models.training.trainer import Trainer
from celltune.models.training.updater import FLOOR, decayed_parameters, learning_rates
from tests.models.random_data import make_data, make_split

MODEL = ModelConfig(cell="gru", hidden_size=4, embedding_size=5, dropout=0.2)
SCHEDULE = {"warmup_epochs": 0.5, "decay_epochs": 2}


def build(seed: int = 1, **training: Any) -> Trainer:
    data = make_data(make_split(50, 1), make_split(23, 2))
    return Trainer(MODEL, TrainingConfig(batch_size=8, **training), data, seed=seed)


def figures(metrics: EpochMetrics) -> tuple[float, ...]:
    return metrics.train_loss, metrics.train_accuracy, metrics.valid_loss, metrics.valid_accuracy


@pytest.fixture(params=["lazy", "dense"])
def _rows(request: pytest.FixtureRequest) -> Iterator[None]:
    with native.disabled() if request.param == "dense" else nullcontext():
        yield


def rates(epoch: int, steps: int, **settings: Any) -> list[float]:
    values: list[float] = learning_rates(TrainingConfig(**settings), epoch, steps).tolist()
    return values


def test_learning_rate_rises_then_falls_to_its_floor() -> None:
    settings = {"learning_rate": 2.0, "warmup_epochs": 1.5, "decay_epochs": 3}
    epochs = [rates(epoch, 4, **settings) for epoch in range(5)]
    assert epochs[0] == pytest.approx([2 * step / 6 for step in (1, 2, 3, 4)])
    assert epochs[1] == pytest.approx([2 * 5 / 6, 2, 2, 2 * 5 / 6])
    assert epochs[2] == pytest.approx([2 * step / 6 for step in (4, 3, 2, 1)])
    assert epochs[3] == epochs[4] == pytest.approx([2 * FLOOR] * 4)


def test_learning_rate_is_constant_by_default() -> None:
    assert rates(3, 4, learning_rate=0.3) == [0.3] * 4
    assert rates(0, 2, learning_rate=0.3, warmup_epochs=0.5) == pytest.approx([0.3, 0.3])
    assert rates(0, 2, learning_rate=1, decay_epochs=1, warmup_epochs=1) == [0.5, FLOOR]


@given(
    warmup=st.floats(0, 4),
    last=st.none() | st.integers(1, 5),
    epoch=st.integers(0, 7),
    steps=st.integers(1, 9),
)
def test_learning_rate_is_positive_and_at_most_that_of_the_config(
    warmup: float, last: int | None, epoch: int, steps: int
) -> None:
    values = learning_rates(
        TrainingConfig(learning_rate=0.1, warmup_epochs=warmup, decay_epochs=last), epoch, steps
    )
    assert len(values) == steps
    assert (values > 0).all()
    assert (values <= 0.1).all()


@pytest.mark.usefixtures("_rows")
def test_rate_of_a_step_is_that_of_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, seen = build(**SCHEDULE), list[float]()
    step = trainer.optimizer.step

    def record(*arguments: Any, **options: Any) -> Any:
        seen.extend(group["lr"] for group in trainer.optimizer.param_groups)
        return step(*arguments, **options)

    monkeypatch.setattr(trainer.optimizer, "step", record)
    trainer.train_epoch()
    trainer.train_epoch()
    assert seen == [*rates(0, 7, **SCHEDULE), *rates(1, 7, **SCHEDULE)]


SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"learning_rate": 0.02},
    "adam, schedule": {"learning_rate": 0.02, **SCHEDULE},
    "adamw, schedule": {"optimizer": "adamw", "weight_decay": 0.1, **SCHEDULE},
    "sgd, schedule": {"optimizer": "sgd", "learning_rate": 0.1, **SCHEDULE},
}


@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("name", SETTINGS)
def test_lazy_rows_and_dense_updates_train_the_same_model(name: str, average: float | None) -> None:
    settings = {**SETTINGS[name], "weight_average": average}
    lazy = build(**settings)
    with native.disabled():
        dense = build(**settings)
        expected = [dense.run_epoch() for _ in range(3)]
    for actual, wanted in zip([lazy.run_epoch() for _ in range(3)], expected, strict=True):
        assert figures(actual) == pytest.approx(figures(wanted), abs=1e-5)
    tensors, wanted_tensors = lazy.state()[0], dense.state()[0]
    assert tensors.keys() == wanted_tensors.keys()
    for key, values in tensors.items():
        torch.testing.assert_close(values, wanted_tensors[key], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("name", SETTINGS)
def test_training_resumed_after_each_epoch_equals_uninterrupted_training(name: str) -> None:
    settings = {**SETTINGS[name], "weight_average": 0.9}
    uninterrupted = build(**settings)
    expected = [figures(uninterrupted.run_epoch()) for _ in range(3)]
    seen, state = [], build(**settings).state()
    for _ in range(3):
        trainer = build(**settings)
        trainer.load_state(*state)
        seen.append(figures(trainer.run_epoch()))
        state = trainer.state()
    assert seen == expected
    for key, values in uninterrupted.state()[0].items():
        assert torch.equal(values, state[0][key]), key


@pytest.mark.usefixtures("_rows")
def test_average_follows_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, plain = build(weight_average=0.5, learning_rate=0.02), build(learning_rate=0.02)
    history = [weights_of(plain)]
    apply = plain.updater.apply

    def record(rows: Any = None) -> None:
        apply(rows)
        if plain.updater._lazy_rows is not None:
            plain.updater._lazy_rows.flush()
        history.append(weights_of(plain))

    monkeypatch.setattr(plain.updater, "apply", record)
    for _ in range(3):
        trainer.train_epoch()
        plain.train_epoch()
    expected = history[0]
    for step, weights in enumerate(history[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {k: decay * v + (1 - decay) * weights[k] for k, v in expected.items()}
    state = trainer.state()[0]
    for key, values in expected.items():
        torch.testing.assert_close(state[f"model.{key}"].double(), values, rtol=1e-5, atol=1e-5)
        weights = state[f"optimizer.{key}.weights"].double()
        torch.testing.assert_close(weights, history[-1][key], rtol=1e-5, atol=1e-5)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v.detach().double().clone() for k, v in trainer.model.named_parameters()}


def test_average_does_not_change_the_training() -> None:
    averaged, plain = build(weight_average=0.9), build()
    for _ in range(2):
        assert averaged.train_epoch() == plain.train_epoch()
    state, expected = averaged.state()[0], plain.state()[0]
    for key in ("embedding", "output_weight"):
        assert torch.equal(state[f"optimizer.{key}.weights"], expected[f"model.{key}"])
        assert not torch.equal(state[f"model.{key}"], expected[f"model.{key}"])


def test_frozen_word_vectors_have_no_average() -> None:
    vectors = np.ones((30, 5), np.float32)
    data = make_data(make_split(50, 1), make_split(23, 2), vectors=vectors, vectors_tuned=False)
    trainer = Trainer(MODEL, TrainingConfig(weight_average=0.9), data, seed=1)
    trainer.run_epoch()
    assert (trainer.model.embedding == 1).all()
    assert "optimizer.embedding.weights" not in trainer.state()[0]


@pytest.mark.parametrize("steps", [None, -1, True, 1.5])
def test_state_without_a_number_of_averaged_steps_is_rejected(steps: Any) -> None:
    trainer = build(weight_average=0.9)
    tensors, meta = trainer.state()
    with pytest.raises(CheckpointError, match="The state's number of averaged steps is"):
        trainer.load_state(tensors, {**meta, "averaged_steps": steps})


NEW_KEYS = {
    "wide": "add",
    "embedding_dropout": 0.1,
    "word_dropout": 0.1,
    "output_scale": 0.1,
    "warmup_epochs": 1.0,
    "decay_epochs": 2,
    "weight_average": 0.9,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "adversarial": 1.0,
}
"""Keys that states of releases before the techniques of training do not contain."""


def test_state_of_a_release_without_the_techniques_continues() -> None:
    saved, resumed = build(), build()
    saved.run_epoch()
    tensors, meta = saved.state()
    for name in ("model", "training"):
        config = meta[name]
        assert isinstance(config, dict)
        meta[name] = {key: value for key, value in config.items() if key not in NEW_KEYS}
    resumed.load_state(tensors, meta)
    assert figures(resumed.run_epoch()) == figures(saved.run_epoch())
    for key in NEW_KEYS.keys() & TrainingConfig.model_fields.keys():
        with pytest.raises(CheckpointError, match="its training is"):
            build(**{key: NEW_KEYS[key]}).load_state(tensors, meta)
    assert NEW_KEYS.keys() <= {*ModelConfig.model_fields, *TrainingConfig.model_fields}


def test_decays_of_the_average_rise_to_their_limit() -> None:
    decays = average_decays(0.9, np.array([1.0, 2.0, 80.0, 81.0]))
    assert decays.tolist() == pytest.approx([2 / 11, 3 / 12, 0.9, 0.9])


@pytest.mark.usefixtures("_rows")
def test_decoupled_decay_shrinks_matrices_but_not_word_vectors_and_biases() -> None:
    shrinking, plain = build(optimizer="adamw", weight_decay=0.5), build(optimizer="adamw")
    for trainer in (shrinking, plain):
        trainer.updater.start(0, 1)
        ids = torch.tensor([[2, 3]])
        rows = trainer.updater.gather_rows(ids)
        loss = trainer.model.eval()(ids, torch.tensor([1, 1]), rows).sum()
        trainer.updater.step(loss, rows)
        trainer.updater.finish()
    start, rate = weights_of(build()), 1e-3
    matrices = {id(values) for values in decayed_parameters(plain.model)}
    names = {n for n, values in plain.model.named_parameters() if id(values) in matrices}
    assert names == {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "output_weight"}
    for name, values in weights_of(plain).items():
        expected = values - rate * 0.5 * start[name] if name in names else values
        torch.testing.assert_close(weights_of(shrinking)[name], expected, rtol=0, atol=1e-7)


def test_adamw_without_decay_is_adam() -> None:
    assert figures(build(optimizer="adamw").run_epoch()) == figures(build().run_epoch())
