"""Trials in a pack report what they report alone, and an error of one ends only that one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.errors import DivergedError, TrialError
from celltune.search.decisions import NOTHING, Fit
from celltune.search.errors import StorageError
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.tuning.pack import Pack
from celltune.search.tuning.trial import TrialTask, run_trial
from celltune.search.types import EpochReport
from tests.models.packed.runs import batched_on_the_cpu
from tests.search.local_checkpoints import local_checkpoints

PARAMS: dict[str, Any] = {
    "cell": "gru",
    "hidden_size": 4,
    "embedding_size": 4,
    "dropout": 0.3,
    "batch_size": 16,
}
TIMED = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = DataConfig(source="synthetic", reviews=60, max_tokens=20)
    return prepare(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["one model", "one by one"], autouse=True)
def _computation(request: pytest.FixtureRequest) -> Iterator[None]:
    """On a GPU the trials of a pack are computed as one model, on a CPU one by one."""
    with batched_on_the_cpu() if request.param == "one model" else nullcontext():
        yield


def task(number: int, folder: Path, restore_from: tuple[str, ...] = (), **params: Any) -> TrialTask:
    checkpoints = local_checkpoints(folder / str(number))
    return TrialTask(number, {**PARAMS, **params}, 1, checkpoints, restore_from)


def pack_of(data: PreparedData, *tasks: TrialTask) -> Pack:
    pack = Pack(data, device="cpu")
    for one in tasks:
        pack.add(one)
    return pack


def assert_equal(report: EpochReport | Exception, expected: EpochReport) -> None:
    assert isinstance(report, EpochReport)
    assert (report.epoch, report.checkpoint) == (expected.epoch, expected.checkpoint)
    assert report.metrics.keys() == expected.metrics.keys()
    for name in expected.metrics.keys() - TIMED:
        assert report.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-4), name


def test_trials_that_join_and_leave_report_what_they_report_alone(
    tmp_path: Path, data: PreparedData
) -> None:
    alone = {
        number: list(
            islice(run_trial(task(number, tmp_path / "alone", dropout=0.1 * number), data), 3)
        )
        for number in range(3)
    }
    tasks = [task(number, tmp_path / "pack", dropout=0.1 * number) for number in range(3)]
    pack = pack_of(data, *tasks[:2])
    first = pack.run_epoch()
    pack.remove(0)
    pack.add(tasks[2])
    second = pack.run_epoch()
    assert (first.keys(), second.keys()) == ({0, 1}, {1, 2})
    assert_equal(first[0], alone[0][0])
    assert_equal(first[1], alone[1][0])
    assert_equal(second[1], alone[1][1])
    assert_equal(second[2], alone[2][0])


def test_checkpoints_of_a_pack_and_of_a_trial_alone_are_interchangeable(
    tmp_path: Path, data: PreparedData
) -> None:
    alone = list(islice(run_trial(task(0, tmp_path / "alone"), data), 3))
    pack_of(data, task(0, tmp_path), task(1, tmp_path)).run_epoch()
    second = next(run_trial(task(0, tmp_path, ("epoch-1",)), data))
    assert_equal(second, alone[1])
    third = pack_of(data, task(1, tmp_path, ("epoch-1",)), task(0, tmp_path, ("epoch-2",)))
    assert_equal(third.run_epoch()[0], alone[2])


def test_trials_without_a_network_report_what_they_report_alone(
    tmp_path: Path, data: PreparedData
) -> None:
    wide = with_outputs(data)
    tasks = [
        TrialTask(number, {"wide": "only"}, 1, local_checkpoints(tmp_path / str(number)))
        for number in range(2)
    ]
    first = pack_of(wide, *tasks).run_epoch()
    alone = next(run_trial(tasks[0], wide))
    assert_equal(first[0], alone)
    assert_equal(first[1], alone)
    assert alone.metrics["parameters"] == 12, "11 weights and an intercept"
    continued = replace(tasks[0], restore_from=("epoch-1",))
    assert report_of(pack_of(wide, continued).run_epoch(), 0).epoch == 2


def with_outputs(data: PreparedData) -> PreparedData:
    """Return the data with outputs of a wide part of 11 features."""
    outputs = [
        np.linspace(-1, 1, len(split), dtype=np.float32) for split in (data.train, data.valid)
    ]
    train, valid = (
        replace(split, wide=own[:, None])
        for split, own in zip((data.train, data.valid), outputs, strict=True)
    )
    return replace(data, train=train, valid=valid, info={**data.info, "wide": {"features": 11}})


def test_a_damaged_checkpoint_is_reported_once(tmp_path: Path, data: PreparedData) -> None:
    pack_of(data, task(0, tmp_path)).run_epoch()
    (weights,) = (tmp_path / "0" / "epoch-1").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    pack = pack_of(data, task(0, tmp_path, ("epoch-1",)), task(1, tmp_path))
    reports = [pack.run_epoch() for _ in range(2)]
    warnings = [[report_of(one, n).warnings for n in (0, 1)] for one in reports]
    assert len(warnings[0][0]) == 1
    assert "Trial 0 skips the checkpoint epoch-1" in warnings[0][0][0]
    assert [warnings[0][1], *warnings[1]] == [(), (), ()]


def report_of(reports: dict[int, EpochReport | Exception], number: int) -> EpochReport:
    report = reports[number]
    assert isinstance(report, EpochReport)
    return report


def test_a_trial_that_diverges_is_removed_and_the_others_continue(
    tmp_path: Path, data: PreparedData
) -> None:
    alone = list(islice(run_trial(task(1, tmp_path / "alone"), data), 2))
    diverging = task(0, tmp_path, learning_rate=1e38, gradient_clip=None)
    pack = pack_of(data, diverging, task(1, tmp_path))
    reports = pack.run_epoch()
    assert isinstance(reports[0], DivergedError)
    assert "learning rate" in str(reports[0])
    assert_equal(reports[1], alone[0])
    pack.remove(0)
    assert_equal(pack.run_epoch()[1], alone[1])


def test_a_trial_of_another_shape_is_rejected(tmp_path: Path, data: PreparedData) -> None:
    pack = pack_of(data, task(0, tmp_path))
    with pytest.raises(TrialError, match="The trial's hidden_size is 5"):
        pack.add(task(1, tmp_path, hidden_size=5))
    assert pack.run_epoch().keys() == {0}


def test_an_unreadable_storage_leaves_the_pack_unchanged(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(checkpoints: LocalCheckpoints, name: str) -> Any:
        raise PermissionError(13, "Permission denied", name)

    pack = pack_of(data, task(0, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(LocalCheckpoints, "load", refuse)
        with pytest.raises(StorageError, match=r"Trial 1 cannot read its checkpoint .*: Perm"):
            pack.add(task(1, tmp_path, ("epoch-1",)))
    assert pack.run_epoch().keys() == {0}


def test_an_unwritable_checkpoint_is_an_error_of_its_trial(
    tmp_path: Path, data: PreparedData
) -> None:
    (tmp_path / "0").write_text("x")
    reports = pack_of(data, task(0, tmp_path), task(1, tmp_path)).run_epoch()
    assert isinstance(reports[0], StorageError)
    assert report_of(reports, 1).checkpoint == "epoch-1"


def test_thresholds_and_temperatures_are_those_of_the_trial_alone(
    data: PreparedData, tmp_path: Path
) -> None:
    def fitted(folder: str) -> TrialTask:
        one = task(0, tmp_path / folder)
        metrics, fit = ("valid_macro_f1", "valid_auroc"), Fit("valid_macro_f1", temperature=True)
        return replace(one, metrics=metrics, fit=fit)

    packed, alone = pack_of(data, fitted("pack")), next(run_trial(fitted("alone"), data))
    report = packed.run_epoch()[0]
    assert isinstance(report, EpochReport)
    names = ("threshold", "temperature", "valid_ece", "valid_macro_f1", "valid_accuracy")
    for name in names:
        assert report.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-3), name
    plain = next(run_trial(replace(fitted("plain"), fit=NOTHING), data))
    assert alone.metrics["valid_macro_f1"] >= plain.metrics["valid_macro_f1"]
    assert alone.metrics["valid_auroc"] == plain.metrics["valid_auroc"]
    assert alone.metrics["valid_loss"] == plain.metrics["valid_loss"]
    assert names[0] not in plain.metrics
