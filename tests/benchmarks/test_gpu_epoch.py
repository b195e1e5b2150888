"""What the epoch section measures on a GPU, without one."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks._gpu import epoch
from benchmarks._gpu.common import Options, Report
from benchmarks._gpu.documents import synthetic_data
from celltune.models.training import losses
from celltune.models.training import trainer as trainer_module

CPU = Options(torch.device("cpu"), quick=True)


def wait_for_gpu() -> None:
    warnings.warn("called a synchronizing CUDA operation", stacklevel=1)


def trainer_of(train_epoch: Callable[[], None]) -> SimpleNamespace:
    return SimpleNamespace(train_epoch=train_epoch)


@pytest.fixture(autouse=True)
def sync_modes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])

    def set_mode(mode: str) -> None:
        if len(modes) == 1:
            warnings.warn(
                "Synchronization debug mode is a prototype feature and does not yet detect all "
                "synchronizing operations",
                stacklevel=1,
            )
        modes.append(mode)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    return modes


def test_synchronisations_of_steps_and_of_the_end_are_distinguished(sync_modes: list[str]) -> None:
    def finish_training() -> None:
        wait_for_gpu()

    def train_epoch() -> None:
        for _ in range(3):
            wait_for_gpu()
        warnings.warn("something else", stacklevel=1)
        finish_training()

    in_steps, at_end = epoch.count_syncs(trainer_of(train_epoch))  # type: ignore[arg-type]
    assert (in_steps.total(), at_end) == (3, 1)
    assert sync_modes == ["default", "warn", "default"]


def test_end_of_an_epoch_is_no_synchronisation_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    data = synthetic_data(20, 5, words=50, max_tokens=4)
    trainer = epoch.make_trainer(data, CPU, {"hidden_size": 4, "embedding_size": 4})
    check_finite, means = trainer._check_finite, losses.means

    def check(*arguments: Any) -> None:
        wait_for_gpu()
        check_finite(*arguments)

    def mean(*arguments: Any) -> tuple[float, float]:
        wait_for_gpu()
        wait_for_gpu()
        return means(*arguments)

    monkeypatch.setattr(trainer, "_check_finite", check)
    monkeypatch.setattr(trainer_module, "means", mean)
    in_steps, at_end = epoch.count_syncs(trainer)
    assert (in_steps, at_end) == ({}, 3)


def test_few_stacks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def callers() -> list[tuple[str, str]]:
        read.append(1)
        return [("/site/celltune/models/stack.py:7", "forward")]

    def train_epoch() -> None:
        for _ in range(10):
            wait_for_gpu()

    monkeypatch.setattr(epoch, "_callers", callers)
    monkeypatch.setattr(epoch, "MAX_STACKS", 4)
    in_steps, _ = epoch.count_syncs(trainer_of(train_epoch))  # type: ignore[arg-type]
    assert in_steps == {"/models/stack.py:7": 4, "another place": 6}
    assert len(read) == 4


def test_figures_of_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    few = epoch.some_steps(synthetic_data(200, 20, words=50, max_tokens=9), 1)
    assert 60 <= len(few.train) <= 68
    profile = {"share": 0.9, "share_of_profiled": 0.5, "kernels": 7, "seconds": 0.1}
    monkeypatch.setattr(epoch, "count_syncs", lambda _: (Counter({"stack.py:7": 2}), 1))
    monkeypatch.setattr(epoch, "busy_share", lambda *_: profile)
    report = Report()
    epoch._syncs(few, CPU, report)
    epoch._profile(few, CPU, report)
    assert report.figures == {"host_syncs": 2, "gpu_busy_share": 0.9}
    assert report.details["host_syncs"] == {"in_steps": {"stack.py:7": 2}, "at_end": 1}


def test_kernels_of_all_models_are_compiled_those_of_the_first_one_first() -> None:
    jobs = epoch.compiled_jobs()
    assert [str(job) for job in jobs[:3]] == [
        "gru:64:float32:0",
        "gru:64:tf32:0",
        "lstm:64:float32:0",
    ]
    assert {job.precision for job in jobs} == {"float32", "tf32"}


def test_other_models_are_left_out_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[dict[str, object]] = []

    def measure_epochs(*arguments: object) -> dict[str, float]:
        measured.append(arguments[3])  # type: ignore[arg-type]
        return {"seconds": 50.0}

    monkeypatch.setattr(epoch, "measure_epochs", measure_epochs)
    report = Report()
    report.details["epochs"] = {"gru of imdb.py": {"first_seconds": 10.0}}
    data, deadline = synthetic_data(10, 5), epoch.Deadline.after(60)
    epoch._others(data, Options(torch.device("cpu")), deadline, report)
    assert measured == [epoch.OTHER_MODELS[0]]
    assert len(report.left_out) == len(epoch.OTHER_MODELS) - 1
