from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.models.errors import CheckpointError, DivergedError
from celltune.models.training import checkpoint
from celltune.search.errors import StorageError
from celltune.search.evaluation import retraining
from celltune.search.evaluation.metrics import unpack
from celltune.search.evaluation.retraining import LAST, Retraining, Trained, retrain, score_model
from celltune.search.storage.checkpoints import LocalCheckpoints

PARAMS = {
    "cell": "gru",
    "hidden_size": 4,
    "embedding_size": 4,
    "dropout": 0.3,
    "batch_size": 16,
    "learning_rate": 0.02,
}
TIMED = ("seconds", "seconds_per_epoch", "milliseconds_per_review")

Parts = tuple[PreparedData, PreparedTest]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other take longer than such small models do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    config = DataConfig(source="synthetic", reviews=80, test_size=20, max_tokens=20)
    cache = tmp_path_factory.mktemp("cache")
    return prepare(config, cache_dir=cache), prepare_test(config, cache_dir=cache)


def task(folder: Path, **changes: Any) -> Retraining:
    made = Retraining(PARAMS, 7, "train", 4, "best", "valid_loss", LocalCheckpoints(folder), "x")
    return replace(made, **changes)


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMED}


@pytest.mark.parametrize("on", ["train", "train+valid"])
@pytest.mark.parametrize("cut", [1, 3])
def test_a_training_that_was_cut_is_the_uncut_one(
    cut: int, on: Any, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, test = parts
    keep = "best" if on == "train" else "last"
    whole = task(tmp_path / "whole", on=on, keep=keep)
    uncut = retrain(whole, data)
    job = task(tmp_path / "cut", on=on, keep=keep)
    save, saved = retraining._save, []

    def dies(trainer: Any, *rest: Any) -> None:
        save(trainer, *rest)
        saved.append(trainer.epoch)
        if rest[1] == LAST and trainer.epoch == cut:
            raise KeyboardInterrupt

    monkeypatch.setattr(retraining, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        retrain(job, data)
    monkeypatch.setattr(retraining, "_save", save)
    resumed = retrain(job, data)
    assert resumed.epoch == uncut.epoch
    assert untimed(resumed.metrics) == untimed(uncut.metrics)
    ours, theirs = (score_model(each, uncut, data, test.split) for each in (job, whole))
    assert ours.test_outcomes == theirs.test_outcomes
    assert untimed(ours.metrics) == untimed(theirs.metrics)


def test_the_best_epoch_on_validation_is_what_is_measured(parts: Parts, tmp_path: Path) -> None:
    data, test = parts
    # So fast that it gets worse again.
    job = task(tmp_path, params={**PARAMS, "learning_rate": 0.3}, epochs=6)
    trained = retrain(job, data)
    losses = [each["valid_loss"] for each in checkpoint.load(tmp_path / "x-last")[1]["curve"]]
    assert trained.epoch == 1 + int(np.argmin(losses)) < 6
    assert trained.metrics["valid_loss"] == min(losses)
    found = score_model(job, trained, data, test.split)
    # As validation measures it, by the weights of that epoch.
    again = score_model(job, trained, data, data.valid)
    assert again.metrics["test_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert len(unpack(found.test_outcomes)) == len(test.split)


def test_train_and_valid_learns_from_both(parts: Parts, tmp_path: Path) -> None:
    data, test = parts
    job = task(tmp_path, on="train+valid", keep="last", epochs=2)
    trained = retrain(job, data)
    assert trained.epoch == 2
    assert "valid_loss" not in trained.metrics
    found = score_model(job, trained, data, test.split)
    assert np.sum(found.train_confusion) == len(data.train) + len(data.valid)


def test_another_seed_is_another_model(parts: Parts, tmp_path: Path) -> None:
    data, _ = parts
    one, other = (retrain(task(tmp_path / str(seed), seed=seed, epochs=1), data) for seed in (1, 2))
    assert one.metrics["valid_loss"] != other.metrics["valid_loss"]


def test_a_loss_that_is_no_number_is_told(parts: Parts, tmp_path: Path) -> None:
    job = task(tmp_path, params={**PARAMS, "learning_rate": 1e30, "gradient_clip": None})
    with pytest.raises(DivergedError, match="loss is no longer a number"):
        retrain(job, parts[0])


def test_a_storage_that_fails_is_told(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"can't write its checkpoint .*mend the storage"):
        retrain(task(tmp_path / "file" / "x"), parts[0])


@pytest.mark.parametrize("call", ["retrain", "measure"])
def test_a_storage_that_cannot_be_read_is_told(
    call: str, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: object, name: str) -> None:
        raise OSError(errno.ETIMEDOUT, "Timed out")

    monkeypatch.setattr(LocalCheckpoints, "load", away)
    data, test = parts
    calls: dict[str, Any] = {
        "retrain": lambda: retrain(task(tmp_path), data),
        "measure": lambda: score_model(task(tmp_path), Trained(1, {}), data, test.split),
    }
    with pytest.raises(StorageError, match=r"can't read its checkpoint .*: Timed out"):
        calls[call]()


def test_another_number_of_epochs_is_another_training(parts: Parts, tmp_path: Path) -> None:
    data, _ = parts
    retrain(task(tmp_path, epochs=2), data)
    longer = retrain(task(tmp_path, epochs=3), data)
    fresh = retrain(task(tmp_path / "fresh", epochs=3), data)
    assert untimed(longer.metrics) == untimed(fresh.metrics)


def test_weights_that_are_gone_are_told(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't be used"):
        score_model(task(tmp_path / "none"), Trained(1, {}), parts[0], parts[1].split)


def test_a_damaged_checkpoint_starts_the_training_anew(parts: Parts, tmp_path: Path) -> None:
    job = task(tmp_path, epochs=2)
    first = retrain(job, parts[0])
    (tmp_path / "x-last" / "state.json").write_text("{")
    assert untimed(retrain(job, parts[0]).metrics) == untimed(first.metrics)
