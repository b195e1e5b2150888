from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.models.errors import CheckpointError, DivergedError
from celltune.models.training import checkpoint
from celltune.search.decisions import Decision, Fit
from celltune.search.errors import StorageError
from celltune.search.evaluation import retraining
from celltune.search.evaluation.retraining import (
    LAST,
    RetrainedModel,
    Retraining,
    retrain,
    score_model,
)
from celltune.search.metrics import unpack_outcomes
from celltune.search.storage.checkpoints import LocalCheckpoints
from tests.search.local_checkpoints import local_checkpoints

PARAMS = {
    "cell": "gru",
    "hidden_size": 4,
    "embedding_size": 4,
    "dropout": 0.3,
    "batch_size": 16,
    "learning_rate": 0.02,
}
TIMED = ("seconds", "seconds_per_epoch", "cpu_seconds", "milliseconds_per_review")

Splits = tuple[PreparedData, PreparedTest]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: for such small models, synchronizing threads costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    config = DataConfig(source="synthetic", reviews=80, test_size=20, max_tokens=20)
    cache = tmp_path_factory.mktemp("cache")
    return prepare(config, cache_dir=cache), prepare_test(config, cache_dir=cache)


def make_task(folder: Path, **changes: Any) -> Retraining:
    task = Retraining(PARAMS, 7, "train", 4, "best", "valid_loss", local_checkpoints(folder), "x")
    return replace(task, **changes)


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMED}


@pytest.mark.parametrize("on", ["train", "train+valid"])
@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_interrupted_retraining_equals_an_uninterrupted_one(
    interrupted_after: int, on: Any, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, test = splits
    keep = "best" if on == "train" else "last"
    reference = make_task(tmp_path / "reference", on=on, keep=keep)
    expected = retrain(reference, data)
    task = make_task(tmp_path / "interrupted", on=on, keep=keep)
    save = retraining._save

    def save_and_interrupt(trainer: Any, *arguments: Any) -> None:
        save(trainer, *arguments)
        if arguments[1] == LAST and trainer.epoch == interrupted_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(retraining, "_save", save_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        retrain(task, data)
    monkeypatch.setattr(retraining, "_save", save)
    resumed = retrain(task, data)
    assert resumed.epoch == expected.epoch
    assert untimed(resumed.metrics) == untimed(expected.metrics)
    scores, expected_scores = (
        score_model(one, expected, data, test.split) for one in (task, reference)
    )
    assert scores.test_outcomes == expected_scores.test_outcomes
    assert untimed(scores.metrics) == untimed(expected_scores.metrics)


def test_a_retraining_ends_as_a_trial_does_if_it_no_longer_improves(
    splits: Splits, tmp_path: Path
) -> None:
    data, _ = splits
    params = {**PARAMS, "learning_rate": 0.3}
    whole = retrain(make_task(tmp_path / "whole", params=params, epochs=6), data)
    task = make_task(tmp_path / "short", params=params, epochs=6, patience=1)
    for _ in range(2):  # again: it is complete and does not go on
        short = retrain(task, data)
        curve = checkpoint.load(tmp_path / "short" / "x-last")[1]["curve"]
        assert short.epoch == whole.epoch == len(curve) - 1 < 5
        assert untimed(short.metrics) == untimed(whole.metrics)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([{"valid_loss": 0.5}], "The state has no valid duration of epoch 1"),
        ([{"seconds": -1.0, "valid_loss": 0.5}], "The state has no valid duration of epoch 1"),
        ([{"seconds": 1.0}], "The state has no valid_loss of an epoch"),
        ([3], "The state has no valid duration of epoch 1"),
        ([{"seconds": 1.0, "valid_loss": 0.5}] * 2, "has the metrics of 2 epochs, not of all"),
    ],
)
def test_a_forged_curve_starts_the_retraining_again(
    curve: list[Any],
    message: str,
    splits: Splits,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data, _ = splits
    task = make_task(tmp_path, epochs=1)
    expected = retrain(task, data)
    tensors, meta = checkpoint.load(tmp_path / "x-last")
    checkpoint.save((tensors, {**meta, "curve": curve}), tmp_path / "x-last")
    with caplog.at_level(logging.INFO):
        again = retrain(task, data)
    assert message in caplog.text
    assert untimed(again.metrics) == untimed(expected.metrics)


def test_best_epoch_by_validation_is_scored(splits: Splits, tmp_path: Path) -> None:
    data, test = splits
    # The high learning rate makes the validation loss increase again.
    task = make_task(tmp_path, params={**PARAMS, "learning_rate": 0.3}, epochs=6)
    trained = retrain(task, data)
    losses = [each["valid_loss"] for each in checkpoint.load(tmp_path / "x-last")[1]["curve"]]
    assert trained.epoch == 1 + int(np.argmin(losses)) < 6
    assert trained.metrics["valid_loss"] == min(losses)
    scores = score_model(task, trained, data, test.split)
    # Scoring the validation split shows that the weights are those of the best epoch.
    validation = score_model(task, trained, data, data.valid)
    assert validation.metrics["test_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert len(unpack_outcomes(scores.test_outcomes)) == len(test.split)


def test_train_and_valid_trains_on_both_splits(splits: Splits, tmp_path: Path) -> None:
    data, test = splits
    task = make_task(tmp_path, on="train+valid", keep="last", epochs=2)
    trained = retrain(task, data)
    assert trained.epoch == 2
    assert "valid_loss" not in trained.metrics
    scores = score_model(task, trained, data, test.split)
    assert np.sum(scores.train_confusion) == len(data.train) + len(data.valid)


@pytest.mark.parametrize("wide", ["add", "only"])
@pytest.mark.parametrize("on", ["train", "train+valid"])
def test_models_with_a_wide_part(wide: str, on: Any, splits: Splits, tmp_path: Path) -> None:
    data, test = with_outputs(splits[0]), splits[1]
    params = {"wide": "only"} if wide == "only" else {**PARAMS, "wide": "add"}
    task = make_task(tmp_path, params=params, on=on, keep="last", epochs=1)
    trained = retrain(task, data)
    outputs = 8 * np.where(test.split.labels == 1, 1, -1).astype(np.float32)[:, None]
    scores = score_model(task, trained, data, replace(test.split, wide=outputs))
    assert scores.metrics["test_accuracy"] == 1
    with pytest.raises(DataError, match="the evaluated split has none"):
        score_model(task, trained, data, test.split)


def with_outputs(data: PreparedData) -> PreparedData:
    """Return the data with outputs of a wide part that tell nothing."""
    train, valid = (
        replace(split, wide=np.zeros((len(split), 1), np.float32))
        for split in (data.train, data.valid)
    )
    return replace(data, train=train, valid=valid)


def test_seeds_give_different_models(splits: Splits, tmp_path: Path) -> None:
    data, _ = splits
    one, other = (
        retrain(make_task(tmp_path / str(seed), seed=seed, epochs=1), data) for seed in (1, 2)
    )
    assert one.metrics["valid_loss"] != other.metrics["valid_loss"]


def test_diverging_loss_is_an_error(splits: Splits, tmp_path: Path) -> None:
    task = make_task(tmp_path, params={**PARAMS, "learning_rate": 1e30, "gradient_clip": None})
    with pytest.raises(DivergedError, match="loss is NaN or infinite"):
        retrain(task, splits[0])


def test_storage_that_cannot_be_written_is_an_error(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write its checkpoint .*Fix the storage"):
        retrain(make_task(tmp_path / "file" / "x"), splits[0])


@pytest.mark.parametrize("call", ["retrain", "score_model"])
def test_storage_that_cannot_be_read_is_an_error(
    call: str, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(self: object, name: str) -> None:
        raise OSError(errno.ETIMEDOUT, "Timed out")

    monkeypatch.setattr(LocalCheckpoints, "load", time_out)
    data, test = splits
    calls: dict[str, Any] = {
        "retrain": lambda: retrain(make_task(tmp_path), data),
        "score_model": lambda: score_model(
            make_task(tmp_path), RetrainedModel(1, {}), data, test.split
        ),
    }
    with pytest.raises(StorageError, match=r"cannot read its checkpoint .*: Timed out"):
        calls[call]()


def test_another_number_of_epochs_starts_from_scratch(splits: Splits, tmp_path: Path) -> None:
    data, _ = splits
    retrain(make_task(tmp_path, epochs=2), data)
    longer = retrain(make_task(tmp_path, epochs=3), data)
    fresh = retrain(make_task(tmp_path / "fresh", epochs=3), data)
    assert untimed(longer.metrics) == untimed(fresh.metrics)


def test_missing_weights_are_an_error(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist: it was removed"):
        score_model(make_task(tmp_path / "none"), RetrainedModel(1, {}), splits[0], splits[1].split)


def test_damaged_checkpoint_starts_from_scratch(splits: Splits, tmp_path: Path) -> None:
    task = make_task(tmp_path, epochs=2)
    first = retrain(task, splits[0])
    (tmp_path / "x-last" / "state.json").write_text("{")
    assert untimed(retrain(task, splits[0]).metrics) == untimed(first.metrics)


def test_thresholds_are_chosen_on_validation_and_scored_on_the_test_split(
    splits: Splits, tmp_path: Path
) -> None:
    data, test = splits
    fit = Fit("valid_macro_f1", temperature=True)
    task = make_task(tmp_path / "train", fit=fit, metric="valid_macro_f1", epochs=1)
    model = retrain(task, data)
    decision = Decision.of(model.metrics)
    assert decision.threshold is not None
    assert decision.temperature != 1
    scores = score_model(task, model, data, test.split)
    assert {"test_ece", "test_uncalibrated_ece", "threshold"} <= scores.metrics.keys()
    # Without validation split, it is the decision of the trial.
    given = Decision(1.5, 0.999)
    both = make_task(
        tmp_path / "both", on="train+valid", keep="last", epochs=1, fit=fit, decision=given
    )
    retrained = retrain(both, data)
    assert Decision.of(retrained.metrics) == given
    matrix = np.array(score_model(both, retrained, data, test.split).test_confusion)
    assert matrix[:, 1].sum() == 0, "no probability reaches the threshold"
