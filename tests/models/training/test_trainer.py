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
from celltune.models.layers.cells import CELLS
from celltune.models.native import library as native
from celltune.models.training import checkpoint
from celltune.models.training.trainer import EpochMetrics, Trainer
from tests.models.model_splits import make_split

Build = Callable[..., Trainer]
SMALL: dict[str, Any] = {"hidden_size": 4, "embedding_size": 5, "dropout": 0.3}


@pytest.fixture
def build(train_split: TensorizedSplit, valid_split: TensorizedSplit) -> Build:
    def make(cell: str = "gru", training: dict[str, Any] | None = None, **others: Any) -> Trainer:
        model = {
            name: others.pop(name) for name in list(others) if name in ModelConfig.model_fields
        }
        given: dict[str, Any] = {
            "train": train_split,
            "valid": valid_split,
            "vocabulary_size": 30,
            "num_classes": 2,
            "seed": 1,
        }
        return Trainer(
            ModelConfig(cell=cell, **{**SMALL, **model}),
            TrainingConfig(**{"batch_size": 16, **(training or {})}),
            **{**given, **others},
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


@pytest.mark.parametrize("cell", CELLS)
def test_a_cut_and_resumed_run_is_the_uncut_run_bit_for_bit(build: Build, cell: str) -> None:
    uncut = build(cell, num_layers=2, bidirectional=True)
    expected = [figures(uncut.run_epoch()) for _ in range(3)]
    seen, state = [], build(cell, num_layers=2, bidirectional=True).state()
    for _ in range(3):
        trainer = build(cell, num_layers=2, bidirectional=True)
        trainer.load_state(*state)
        seen.append(figures(trainer.run_epoch()))
        state = trainer.state()
        torch.rand(3)  # what others draw in between must not matter
    assert seen == expected
    for name, values in uncut.state()[0].items():
        assert torch.equal(values, state[0][name]), name


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_resumed_sgd_run_is_the_uncut_run_bit_for_bit(build: Build, momentum: float) -> None:
    settings = {"optimizer": "sgd", "momentum": momentum, "learning_rate": 0.1}
    uncut = build(training=settings)
    expected = [figures(uncut.run_epoch()) for _ in range(2)]
    first, second = build(training=settings), build(training=settings)
    seen = [figures(first.run_epoch())]
    second.load_state(*first.state())
    assert [*seen, figures(second.run_epoch())] == expected


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_by_rows_and_dense_come_to_the_same(build: Build, optimizer: str) -> None:
    settings = {"optimizer": optimizer, "learning_rate": 0.01}
    by_rows = build(training=settings)
    with native.disabled():
        dense = build(training=settings)
        expected = [dense.run_epoch() for _ in range(2)]
    for ours, theirs in zip([by_rows.run_epoch() for _ in range(2)], expected, strict=True):
        assert figures(ours) == pytest.approx(figures(theirs), abs=1e-5)
    for name, values in by_rows.state()[0].items():
        torch.testing.assert_close(values, dense.state()[0][name], rtol=1e-4, atol=1e-5)


def test_a_state_from_before_a_field_existed_still_loads(build: Build) -> None:
    tensors, meta = build().state()
    for part, field in (("model", "output_relu"), ("training", "optimizer")):
        meta[part] = {key: value for key, value in meta[part].items() if key != field}
    build().load_state(tensors, meta)
    with pytest.raises(CheckpointError, match="The state is of another trial: its model is"):
        build(output_relu=True).load_state(tensors, meta)
    with pytest.raises(CheckpointError, match="The state is of another trial: its training is"):
        build().load_state(tensors, {**meta, "training": {**meta["training"], "newer": 1}})


def test_learns_a_rule(build: Build) -> None:
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
            num_classes=classes,
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


def test_metrics_count_epochs_time_and_tokens(
    build: Build, train_split: TensorizedSplit, valid_split: TensorizedSplit
) -> None:
    ticks = iter([10.0, 12.0])
    trainer = build(clock=lambda: next(ticks))
    metrics = trainer.run_epoch()
    assert (metrics.epoch, trainer.epoch, metrics.seconds) == (1, 1, 2.0)
    assert metrics.tokens_per_second == (len(train_split.ids) + len(valid_split.ids)) / 2.0


def test_global_random_state_and_float_mode_are_left_alone(build: Build) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    build().run_epoch()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    assert torch.full((), torch.finfo(torch.float32).tiny) * 0.5 > 0


def test_padding_is_never_learned(build: Build) -> None:
    trainer = build(bidirectional=True, training={"weight_decay": 0.1})
    trainer.run_epoch()
    assert not trainer.model.embedding[PAD].any()


def test_a_diverged_loss_names_epoch_step_and_learning_rate(build: Build) -> None:
    trainer = build()
    trainer.run_epoch()
    with torch.no_grad():
        trainer.model.output_bias.fill_(torch.nan)
    message = r"training loss .* epoch 2, step 1, with learning rate 0\.001 .* Try a learning rate"
    with pytest.raises(DivergedError, match=message):
        trainer.run_epoch()
    assert trainer.epoch == 1
    with pytest.raises(DivergedError, match=r"evaluation loss .* epoch 1"):
        trainer.evaluate(make_split(3, 3))


def test_parameters_are_counted(build: Build) -> None:
    assert build().parameters == 30 * 5 + (12 * 5 + 12 * 4 + 24) + 4 + 1


def _changed(split: TensorizedSplit, **arrays: Any) -> TensorizedSplit:
    given = {"ids": split.ids, "offsets": split.offsets, "labels": split.labels}
    return TensorizedSplit(**{**given, **arrays})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [2, 3, 30]}, r"word id in the train split is 30; allowed are 0 to 29"),
        ({"ids": [2, -1, 3]}, r"word id in the train split is -1; allowed"),
        ({"labels": [0, 2]}, r"label in the train split is 2; allowed are 0 to 1"),
        ({"offsets": [0, 3, 3]}, r"Review 1 of the train split has no tokens; each needs at"),
        ({"offsets": [0], "labels": [], "ids": []}, r"The train split holds no reviews"),
    ],
)
def test_a_bad_split_is_refused(build: Build, change: dict[str, Any], message: str) -> None:
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


def test_a_state_of_another_trial_is_refused(build: Build) -> None:
    tensors, meta = build().state()
    with pytest.raises(CheckpointError, match="its seed is 1, this trial's is 2"):
        build(seed=2).load_state(tensors, meta)
    with pytest.raises(CheckpointError, match="epoch is -1; it must be a whole number"):
        build().load_state(tensors, {**meta, "epoch": -1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.output_bias", None, "has no tensor 'model.output_bias'"),
        ("model.extra", torch.zeros(1), "has a tensor 'model.extra', which this model doesn't"),
        (
            "model.output_bias",
            torch.zeros(2),
            r"is torch.float32 of shape \(2,\); this model needs",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
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


def test_a_state_survives_the_disk(build: Build, tmp_path: Path) -> None:
    trainer = build("lstm")
    trainer.run_epoch()
    checkpoint.save(trainer.state(), tmp_path / "epoch")
    resumed = build("lstm")
    resumed.load_state(*checkpoint.load(tmp_path / "epoch"))
    assert figures(resumed.run_epoch()) == figures(trainer.run_epoch())


@pytest.mark.parametrize("tuned", [True, False])
def test_given_vectors_start_the_embedding_and_stay_if_fixed(tuned: bool) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    vectors[PAD] = 0
    config = ModelConfig(cell="gru", hidden_size=4, embedding_size=4)
    part = make_split(24, seed=1)

    def built() -> Trainer:
        return Trainer(
            config,
            TrainingConfig(batch_size=8),
            train=part,
            valid=part,
            vocabulary_size=50,
            num_classes=2,
            seed=1,
            vectors=vectors,
            vectors_tuned=tuned,
        )

    first = built()
    assert (first.model.embedding.detach().numpy() == vectors).all()
    first.run_epoch()
    assert (first.model.embedding.detach().numpy() == vectors).all() != tuned
    second = built()
    second.load_state(*first.state())
    assert second.run_epoch().train_loss == first.run_epoch().train_loss


def test_vectors_of_another_size_are_refused() -> None:
    part = make_split(8, seed=1)
    with pytest.raises(DataError, match=r"shape \(50, 3\), the embedding of \(50, 4\); set space"):
        Trainer(
            ModelConfig(cell="gru", embedding_size=4),
            TrainingConfig(),
            train=part,
            valid=part,
            vocabulary_size=50,
            num_classes=2,
            seed=1,
            vectors=np.zeros((50, 3), np.float32),
        )
