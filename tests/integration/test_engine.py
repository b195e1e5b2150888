"""Searches through the Python API, in the shared local Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from celltune.search.cluster.messages import WorkerTask
from celltune.search.cluster.tune_engine import TuneEngine
from celltune.search.config.loading import parse_config
from celltune.search.errors import ExperimentError, LedgerError, ResourceError, StorageError
from celltune.search.leaderboard import leaderboard
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.runs.launch import RunResult, launch, resume
from celltune.search.storage.locate import new_experiment
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.trial import TrialTask
from celltune.search.tuning.trial_group import SeparateTrials
from celltune.search.types import EpochReport
from tests.search.assertions import assert_all_ended

pytestmark = pytest.mark.usefixtures("local_ray")

CONFIG: dict[str, Any] = {
    "name": "demo",
    "data": {"source": "synthetic", "reviews": 100, "max_tokens": 30},
    "space": {
        "cell": ["gru", "mgu"],
        "hidden_size": 4,
        "embedding_size": 4,
        "learning_rate": {"low": 1e-3, "high": 1e-2},
    },
    "budget": {"trials": 3, "max_epochs": 2},
    "baselines": False,
    "early_stopping": None,
}


@pytest.fixture(autouse=True)
def _shared_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(shared_cache))


@pytest.fixture(scope="module")
def demo(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished search that ran its trials one after another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLTUNE_CACHE", str(shared_cache))
        sequential = {**CONFIG, "resources": {"concurrent_trials": 1}}
        return launch(sequential, storage=tmp_path_factory.mktemp("demo"))


def test_a_search_from_a_dict_is_launched_ranked_and_resumed(demo: RunResult) -> None:
    storage = str(demo.experiment.storage)
    assert not demo.interrupted
    assert_all_ended(demo.state, 3)
    frame = leaderboard("demo", storage=storage)
    assert len(frame) == 3
    assert frame["valid_accuracy"].is_monotonic_decreasing
    assert list(frame["epochs"]) == [2, 2, 2]
    again = resume("demo", storage=storage)
    assert again.state.trials == demo.state.trials


def test_concurrent_trials_limits_the_trials_that_run_at_once(demo: RunResult) -> None:
    spans = [
        (trial.epochs[0].at - trial.epochs[0].metrics["seconds"], trial.epochs[-1].at)
        for trial in demo.state.trials
    ]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_a_name_can_be_launched_only_once(demo: RunResult) -> None:
    with pytest.raises(ExperimentError, match=r"'demo' already exists .* Resume it"):
        launch(CONFIG, storage=str(demo.experiment.storage))


def test_failed_trials_are_recorded_and_do_not_end_the_search(tmp_path: Path) -> None:
    space = {**CONFIG["space"], "learning_rate": [1e-3, 1e30], "gradient_clip": None}
    budget = {"trials": 6, "max_epochs": 2, "repeat": True}
    state = launch({**CONFIG, "space": space, "budget": budget}, storage=tmp_path).state
    failed = [trial for trial in state.trials if trial.status == "failed"]
    assert_all_ended(state, 6)
    assert 0 < len(failed) < 6
    assert {trial.params["learning_rate"] for trial in failed} == {1e30}
    assert all("learning rate" in trial.error for trial in failed)
    assert all("DivergedError" in trial.details for trial in failed)


def test_a_storage_error_ends_the_run_without_failing_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Ledger.append

    def append(self: Ledger, *events: Any) -> None:
        original(self, *events)
        if any(event.event == "epoch_reported" for event in events):
            trials = tmp_path / "demo" / "trials"
            trials.rename(tmp_path / "gone")
            trials.write_text("not a folder")

    monkeypatch.setattr(Ledger, "append", append)
    sequential = {**CONFIG, "resources": {"concurrent_trials": 1}}
    with pytest.raises(StorageError, match=r"Trial 0 cannot write its checkpoint .* then resume"):
        launch(sequential, storage=tmp_path)
    monkeypatch.undo()
    (tmp_path / "demo" / "trials").unlink()
    (tmp_path / "gone").rename(tmp_path / "demo" / "trials")
    state = resume("demo", storage=tmp_path).state
    assert_all_ended(state, 3)
    assert state.count("failed") == 0


def test_resources_that_no_node_has_are_rejected_before_the_start(tmp_path: Path) -> None:
    for resources, text in (
        ({"gpus_per_trial": 1}, "needs 1 GPU .*no node of the cluster has a GPU"),
        ({"cpus_per_trial": 64}, "needs 64 CPUs, but .*nodes have: 2 CPUs"),
    ):
        with pytest.raises(ResourceError, match=text):
            launch({**CONFIG, "resources": resources}, storage=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_ledger_ends_the_run_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Ledger.append

    def append(self: Ledger, *events: Any) -> None:
        if any(event.event == "epoch_reported" and event.number == 1 for event in events):
            raise LedgerError("The ledger x can't be written: No space left on device.")
        original(self, *events)

    monkeypatch.setattr(Ledger, "append", append)
    with pytest.raises(LedgerError, match="No space left"):
        launch(CONFIG, storage=tmp_path)
    monkeypatch.undo()
    assert_all_ended(resume("demo", storage=tmp_path).state, 3)


def test_very_short_epochs_share_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_training(task: TrialTask) -> Iterator[EpochReport]:
        for epoch in range(1, 1000):
            metrics = {"valid_accuracy": 0.5 + task.number / 10, "valid_loss": 0.5}
            yield EpochReport(epoch, metrics, f"epoch-{epoch}")

    def no_work(task: WorkerTask) -> SeparateTrials:
        return SeparateTrials(no_training)

    config = parse_config({**CONFIG, "budget": {"trials": 3, "max_epochs": 50}})
    folder = new_experiment("demo", tmp_path)
    folder.create(config, ExperimentCreated(at=0.0, fingerprint="none"))
    batches: list[int] = []
    original = Ledger.append

    def append(self: Ledger, *events: Any) -> None:
        batches.append(len(events))
        original(self, *events)

    monkeypatch.setattr(Ledger, "append", append)
    with folder.open_ledger() as ledger:
        controller = SearchController(config, ledger, clock=time.time)
        engine = TuneEngine(config, folder, None, 2, lambda: None, work=no_work)
        engine.run(controller, lambda: False)
    assert [trial.epochs_done for trial in folder.state().trials] == [50, 50, 50]
    assert folder.state().count("completed") == 3
    assert len(batches) < 60


def test_a_worker_that_lost_its_gpu_is_replaced(tmp_path: Path) -> None:
    attempted = tmp_path / "attempted"

    def train(task: TrialTask) -> Iterator[EpochReport]:
        if not attempted.exists():
            attempted.write_text(str(os.getpid()))
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        metrics = {"valid_accuracy": 0.5, "valid_loss": 0.5, "process": float(os.getpid())}
        yield EpochReport(1, metrics, "epoch-1")

    def work(task: WorkerTask) -> SeparateTrials:
        return SeparateTrials(train)

    config = parse_config({**CONFIG, "budget": {"trials": 1, "max_epochs": 1}})
    folder = new_experiment("demo", tmp_path / "storage")
    folder.create(config, ExperimentCreated(at=0.0, fingerprint="none"))
    with folder.open_ledger() as ledger:
        controller = SearchController(config, ledger, clock=time.time)
        TuneEngine(config, folder, None, 1, lambda: None, work=work).run(controller, lambda: False)
    events = folder.snapshot(check_running=False).events
    (lost,) = [event for event in events if event.event == "worker_lost"]
    assert lost.cause == "lost"
    (trial,) = folder.state().trials
    assert trial.status == "completed"
    assert trial.epochs[0].metrics["process"] != float(attempted.read_text())
