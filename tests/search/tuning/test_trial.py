from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.errors import TrialError
from celltune.models.training import checkpoint
from celltune.search.errors import StorageError
from celltune.search.tuning.trial import TrialTask, run_trial, trial_seed
from celltune.search.types import EpochReport
from tests.search.local_checkpoints import local_checkpoints

PARAMS = {"cell": "gru", "hidden_size": 4, "embedding_size": 4, "dropout": 0.3, "batch_size": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = DataConfig(source="synthetic", reviews=60, max_tokens=20)
    return prepare(config, cache_dir=tmp_path_factory.mktemp("cache"))


def epochs(task: TrialTask, data: PreparedData, count: int) -> list[EpochReport]:
    return list(islice(run_trial(task, data), count))


def numbers(results: list[EpochReport]) -> list[dict[str, float]]:
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in r.metrics.items() if k not in timed} for r in results]


def test_a_trial_reports_epochs_with_complete_checkpoints(
    tmp_path: Path, data: PreparedData
) -> None:
    results = epochs(TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path)), data, 2)
    assert [result.epoch for result in results] == [1, 2]
    assert [result.checkpoint for result in results] == ["epoch-1", "epoch-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-1", "epoch-2"]
    assert {"train_loss", "valid_loss", "valid_accuracy", "seconds", "parameters"} <= set(
        results[0].metrics
    )


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_trial_equals_an_uninterrupted_one(
    cut: int, tmp_path: Path, data: PreparedData
) -> None:
    uncut = epochs(TrialTask(3, PARAMS, 1, local_checkpoints(tmp_path / "uncut")), data, 3)
    first = epochs(TrialTask(3, PARAMS, 1, local_checkpoints(tmp_path / "cut")), data, cut)
    names = tuple(result.checkpoint for result in reversed(first))
    rest = epochs(
        TrialTask(3, PARAMS, 1, local_checkpoints(tmp_path / "cut"), names), data, 3 - cut
    )
    assert numbers([*first, *rest]) == numbers(uncut)


def test_a_damaged_checkpoint_is_replaced_by_an_older_one(
    tmp_path: Path, data: PreparedData
) -> None:
    uncut = epochs(TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path)), data, 2)
    (weights,) = (tmp_path / "epoch-2").glob("*.safetensors")
    damaged = weights.read_bytes()[:-1]
    weights.write_bytes(damaged)
    task = TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path), ("epoch-2", "epoch-1"))
    again = epochs(task, data, 2)
    assert numbers(again[:1]) == numbers(uncut[1:])
    (warning,) = again[0].warnings
    aside = tmp_path / "epoch-2.damaged"
    assert warning == (
        f"Trial 0 skips the checkpoint epoch-2. The checkpoint file {weights} cannot be used: it "
        f"is truncated or altered: {len(damaged)} bytes instead of {len(damaged) + 1}. The "
        f"checkpoint is kept as {aside}. The trial continues from an older checkpoint, or from the "
        "start if there is none."
    )
    assert (aside / weights.name).read_bytes() == damaged
    assert again[1].warnings == ()


def test_an_unreadable_storage_does_not_discard_checkpoints(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs(TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path)), data, 1)

    def refuse(path: EnclosedPath, limit: int | None = None) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(EnclosedPath, "read_bytes", refuse)
    task = TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path), ("epoch-1",))
    with pytest.raises(StorageError, match=r"Trial 0 cannot read its checkpoint .*: Permission"):
        epochs(task, data, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-1"]


def change_state(folder: Path, name: str, meta: dict[str, Any], **tensors: float) -> None:
    """Fill tensors of a checkpoint with a value, and change its other values."""
    state = checkpoint.load(folder / name)
    for tensor, value in tensors.items():
        state[0][tensor.replace("__", ".")].fill_(value)
    checkpoint.save((state[0], {**state[1], **meta}), folder / name)


@pytest.mark.parametrize(
    ("meta", "tensors", "problem"),
    [
        ({"epoch": 3}, {}, "The state is that of epoch '3', but the checkpoint is epoch-2"),
        ({"seed": 5}, {}, "its seed is '5', but this trial's is"),
        ({}, {"optimizer__embedding__step": 1e15}, "embedding.step' is 1e.15. It must be a whole"),
        ({}, {"optimizer__embedding__step": 1.5}, "embedding.step' is 1.5. It must be a whole nu"),
        ({}, {"optimizer__embedding__exp_avg_sq": -1.0}, "exp_avg_sq' has a value below 0"),
        ({}, {"model__output_bias": np.inf}, "'model.output_bias' is NaN or above 1e.18"),
    ],
)
def test_a_forged_checkpoint_is_replaced_by_an_older_one(
    tmp_path: Path,
    data: PreparedData,
    meta: dict[str, Any],
    tensors: dict[str, float],
    problem: str,
) -> None:
    """Its checksums are valid, but no training arrives at its values."""
    checkpoints = local_checkpoints(tmp_path)
    expected = epochs(TrialTask(0, PARAMS, 1, checkpoints), data, 2)
    change_state(tmp_path, "epoch-2", meta, **tensors)
    resumed = TrialTask(0, PARAMS, 1, checkpoints, ("epoch-2", "epoch-1"))
    (again,) = epochs(resumed, data, 1)
    assert numbers([again]) == numbers(expected[1:])
    assert len(again.warnings) == 1
    assert re.search(problem, again.warnings[0])
    assert (tmp_path / "epoch-2.damaged").is_dir()


def test_a_trial_without_a_usable_checkpoint_starts_from_scratch(
    tmp_path: Path, data: PreparedData
) -> None:
    task = TrialTask(0, PARAMS, 1, local_checkpoints(tmp_path), ("epoch-1",))
    assert epochs(task, data, 1)[0].epoch == 1


def test_a_diverged_loss_fails_the_trial(tmp_path: Path, data: PreparedData) -> None:
    task = TrialTask(
        0, {**PARAMS, "learning_rate": 1e38, "gradient_clip": None}, 1, local_checkpoints(tmp_path)
    )
    with pytest.raises(TrialError, match="learning rate"):
        epochs(task, data, 3)


def test_an_unwritable_storage_does_not_fail_the_trial(tmp_path: Path, data: PreparedData) -> None:
    (tmp_path / "file").write_text("x")
    task = TrialTask(4, PARAMS, 1, local_checkpoints(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"Trial 4 cannot write its checkpoint .*epoch-1: "):
        epochs(task, data, 1)


def test_every_trial_has_its_own_seed() -> None:
    seeds = {trial_seed(seed, number) for seed in range(5) for number in range(50)}
    assert len(seeds) == 250
