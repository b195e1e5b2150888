"""Training is reproducible, can be resumed, and rejects unusable data and states."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celltune.data_prep.dataset.tensorized import PAD, TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import CheckpointError, DivergedError
from celltune.models.extensions import CELLS
from celltune.models.native import library as native
from celltune.models.training import checkpoint
from celltune.models.training.metrics import EpochMetrics
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split

Build = Callable[..., Trainer]
SMALL: dict[str, Any] = {"hidden_size": 4, "embedding_size": 5, "dropout": 0.3}


@pytest.fixture
def build(train_split: TensorizedSplit, valid_split: TensorizedSplit) -> Build:
    def make(cell: str = "gru", training: dict[str, Any] | None = None, **others: Any) -> Trainer:
        model = {
            name: others.pop(name) for name in list(others) if name in ModelConfig.model_fields
        }
        data = make_data(
            others.pop("train", train_split),
            others.pop("valid", valid_split),
            classes=others.pop("classes", 2),
        )
        return Trainer(
            ModelConfig(cell=cell, **{**SMALL, **model}),
            TrainingConfig(**{"batch_size": 16, **(training or {})}),
            data,
            **{"seed": 1, **others},
        )

    return make


def figures(metrics: EpochMetrics) -> tuple[float, ...]:
    return (
        metrics.epoch,
        metrics.train_loss,
        metrics.train_accuracy,
        metrics.valid_loss,
        metrics.valid_accuracy,
    )


@pytest.mark.parametrize("cell", CELLS.names())
def test_training_resumed_after_each_epoch_equals_uninterrupted_training(
    build: Build, cell: str
) -> None:
    uninterrupted = build(cell, num_layers=2, bidirectional=True)
    expected = [figures(uninterrupted.run_epoch()) for _ in range(3)]
    seen, state = [], build(cell, num_layers=2, bidirectional=True).state()
    for _ in range(3):
        trainer = build(cell, num_layers=2, bidirectional=True)
        trainer.load_state(*state)
        seen.append(figures(trainer.run_epoch()))
        state = trainer.state()
        torch.rand(3)  # other users of the global random state must not matter
    assert seen == expected
    for name, values in uninterrupted.state()[0].items():
        assert torch.equal(values, state[0][name]), name


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_resumed_sgd_training_equals_uninterrupted_training(build: Build, momentum: float) -> None:
    settings = {"optimizer": "sgd", "momentum": momentum, "learning_rate": 0.1}
    uninterrupted = build(training=settings)
    expected = [figures(uninterrupted.run_epoch()) for _ in range(2)]
    first, second = build(training=settings), build(training=settings)
    seen = [figures(first.run_epoch())]
    second.load_state(*first.state())
    assert [*seen, figures(second.run_epoch())] == expected


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_lazy_row_updates_and_dense_updates_train_the_same_model(
    build: Build, optimizer: str
) -> None:
    settings = {"optimizer": optimizer, "learning_rate": 0.01}
    lazy = build(training=settings)
    with native.disabled():
        dense = build(training=settings)
        expected = [dense.run_epoch() for _ in range(2)]
    for actual, wanted in zip([lazy.run_epoch() for _ in range(2)], expected, strict=True):
        assert figures(actual) == pytest.approx(figures(wanted), abs=1e-5)
    for name, values in lazy.state()[0].items():
        torch.testing.assert_close(values, dense.state()[0][name], rtol=1e-4, atol=1e-5)


def test_state_without_a_newer_config_field_loads(build: Build) -> None:
    tensors, meta = build().state()
    for config, field in (("model", "output_relu"), ("training", "optimizer")):
        meta[config] = {key: value for key, value in meta[config].items() if key != field}
    build().load_state(tensors, meta)
    with pytest.raises(CheckpointError, match="The state belongs to another trial: its model is"):
        build(output_relu=True).load_state(tensors, meta)
    with pytest.raises(
        CheckpointError, match="The state belongs to another trial: its training is"
    ):
        build().load_state(tensors, {**meta, "training": {**meta["training"], "newer": 1}})


def test_loss_decreases_on_a_simple_rule(build: Build) -> None:
    trainer = build(dropout=0.0, readout="max", training={"learning_rate": 0.03})
    losses = [trainer.run_epoch().train_loss for _ in range(15)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("readout", ["final", "mean", "max"])
def test_loss_and_accuracy_do_not_depend_on_the_batch_size(
    build: Build, classes: int, readout: str
) -> None:
    valid = make_split(23, 2, classes=classes)
    results = [
        build(
            classes=classes,
            train=make_split(9, 1, classes=classes),
            valid=valid,
            readout=readout,
            training={"batch_size": size},
        ).evaluate(valid)
        for size in (1, 5, 23)
    ]
    for loss, accuracy in results[1:]:
        assert loss == pytest.approx(results[0][0], abs=1e-6)
        assert accuracy == results[0][1]


def test_metrics_contain_epochs_time_and_tokens(
    build: Build, train_split: TensorizedSplit, valid_split: TensorizedSplit
) -> None:
    ticks = iter([10.0, 12.0])
    trainer = build(clock=lambda: next(ticks))
    metrics = trainer.run_epoch()
    assert (metrics.epoch, trainer.epoch, metrics.seconds) == (1, 1, 2.0)
    assert metrics.tokens_per_second == (len(train_split.ids) + len(valid_split.ids)) / 2.0


def test_global_random_state_and_denormal_mode_are_unchanged(build: Build) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    build().run_epoch()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    assert torch.full((), torch.finfo(torch.float32).tiny) * 0.5 > 0


def test_embedding_of_padding_stays_zero(build: Build) -> None:
    trainer = build(bidirectional=True, training={"weight_decay": 0.1})
    trainer.run_epoch()
    assert not trainer.model.embedding[PAD].any()


def test_diverged_loss_is_reported_with_epoch_step_and_learning_rate(build: Build) -> None:
    trainer = build()
    trainer.run_epoch()
    with torch.no_grad():
        trainer.model.output_bias.fill_(torch.nan)
    message = r"training loss .* epoch 2, step 1, with learning rate 0\.001 .* Try a learning rate"
    with pytest.raises(DivergedError, match=message):
        trainer.run_epoch()
    assert trainer.epoch == 1
    with pytest.raises(DivergedError, match=r"evaluation loss is NaN or infinite at epoch 1"):
        trainer.evaluate(make_split(3, 3))


@pytest.mark.parametrize(("clip", "advised"), [(None, True), (5.0, True), (1.0, False)])
def test_gradient_clip_is_advised_only_if_it_would_be_lower(
    build: Build, clip: float | None, advised: bool
) -> None:
    trainer = build(training={"gradient_clip": clip})
    with torch.no_grad():
        trainer.model.output_bias.fill_(torch.nan)
    with pytest.raises(DivergedError) as raised:
        trainer.run_epoch()
    advice = "ten times smaller" + (", or a gradient_clip of at most 1.0." if advised else ".")
    assert str(raised.value).endswith(advice)


def test_number_of_parameters(build: Build) -> None:
    assert build().parameters == 30 * 5 + (12 * 5 + 12 * 4 + 24) + 4 + 1


def _replace(split: TensorizedSplit, **arrays: Any) -> TensorizedSplit:
    given = {"ids": split.ids, "offsets": split.offsets, "labels": split.labels}
    return TensorizedSplit(**{**given, **arrays})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [2, 3, 30]}, r"word id in the train split is 30\. Allowed values are 0 to 29"),
        ({"ids": [2, -1, 3]}, r"word id in the train split is -1\. Allowed"),
        ({"labels": [0, 2]}, r"label in the train split is 2\. Allowed values are 0 to 1"),
        (
            {"offsets": [0, 3, 3]},
            r"Document 1 of the train split has no tokens.* each one with the unknown word",
        ),
        ({"offsets": [0], "labels": [], "ids": []}, r"The train split is empty"),
    ],
)
def test_invalid_split_is_rejected(build: Build, change: dict[str, Any], message: str) -> None:
    arrays = {"ids": [2, 3, 4], "offsets": [0, 1, 3], "labels": [0, 1], **change}
    split = TensorizedSplit(
        np.array(arrays["ids"], np.int32),
        np.array(arrays["offsets"], np.int64),
        np.array(arrays["labels"], np.int64),
    )
    with pytest.raises(DataError, match=message):
        build(train=split)
    with pytest.raises(DataError, match=message.replace("train", "evaluated")):
        build().evaluate(split)


def test_state_of_another_trial_is_rejected(build: Build) -> None:
    tensors, meta = build().state()
    with pytest.raises(CheckpointError, match="its seed is '1', but this trial's is '2'"):
        build(seed=2).load_state(tensors, meta)
    with pytest.raises(CheckpointError, match=r"epoch is '-1'\. It must be a whole number"):
        build().load_state(tensors, {**meta, "epoch": -1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.output_bias", None, "has no tensor 'model.output_bias'"),
        ("model.extra", torch.zeros(1), "has a tensor 'model.extra', which this model does"),
        (
            "model.output_bias",
            torch.zeros(2),
            r"is torch.float32 of shape \(2,\), but this model needs",
        ),
    ],
)
def test_mismatching_state_is_rejected_and_changes_nothing(
    build: Build, name: str, value: torch.Tensor | None, message: str
) -> None:
    tensors, meta = build().state()
    changed = {key: torch.ones_like(tensor) for key, tensor in tensors.items() if key != name}
    if value is not None:
        changed[name] = value
    trainer = build()
    with pytest.raises(CheckpointError, match=message):
        trainer.load_state(changed, {**meta, "epoch": 3})
    assert trainer.epoch == 0
    for key, tensor in trainer.state()[0].items():
        assert torch.equal(tensor, tensors[key])


def test_training_resumes_from_a_checkpoint_on_disk(build: Build, tmp_path: Path) -> None:
    trainer = build("lstm")
    trainer.run_epoch()
    checkpoint.save(trainer.state(), tmp_path / "epoch")
    resumed = build("lstm")
    resumed.load_state(*checkpoint.load(tmp_path / "epoch"))
    assert figures(resumed.run_epoch()) == figures(trainer.run_epoch())


@pytest.mark.parametrize("tuned", [True, False])
def test_word_vectors_initialize_the_embedding(tuned: bool) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    vectors[PAD] = 0
    config = ModelConfig(cell="gru", hidden_size=4, embedding_size=4)
    split = make_split(24, seed=1)
    data = make_data(split, split, vocabulary=50, vectors=vectors, vectors_tuned=tuned)

    def make_trainer() -> Trainer:
        return Trainer(config, TrainingConfig(batch_size=8), data, seed=1)

    first = make_trainer()
    assert (first.model.embedding.detach().numpy() == vectors).all()
    first.run_epoch()
    assert (first.model.embedding.detach().numpy() == vectors).all() != tuned
    second = make_trainer()
    second.load_state(*first.state())
    assert second.run_epoch().train_loss == first.run_epoch().train_loss


def test_vectors_of_another_size_are_rejected() -> None:
    split = make_split(8, seed=1)
    data = make_data(split, split, vocabulary=50, vectors=np.zeros((50, 3), np.float32))
    with pytest.raises(DataError, match=r"shape \(50, 3\), but the embedding has shape \(50, 4\)"):
        Trainer(ModelConfig(cell="gru", embedding_size=4), TrainingConfig(), data, seed=1)
