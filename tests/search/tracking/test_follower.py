from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from celltune.search.config.schema import Tracking
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import (
    BudgetChanged,
    EpochReported,
    Event,
    TrialCreated,
    TrialFailed,
    TrialStopped,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.local import LocalExperiment
from celltune.search.tracking.follower import Follower, Tracker, check, tracked
from celltune.search.tracking.mlflow import MlflowTracker
from celltune.search.tracking.tensorboard import TensorBoardTracker
from celltune.search.tuning.controller import SearchController
from tests.search.support import make_config, make_controller, start_ledger, steps

CONFIG = make_config(budget={"trials": 5, "max_epochs": 4})


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    with start_ledger(tmp_path_factory.mktemp("tracked") / "ledger.jsonl") as ledger:
        conductor = make_controller(CONFIG, ledger)
        list(steps(conductor))
        completed = [t.number for t in conductor.state.trials if t.status == "completed"]
        ledger.append(
            TrialCreated(at=5.0, number=5, params={"cell": "gru"}, max_epochs=4),
            TrialFailed(at=6.0, number=5, error="it broke"),
            BudgetChanged(at=7.0, trials=6, max_epochs=6, extended=completed, retried=[5]),
        )
        for epoch in (5, 6):
            ledger.append(*(report(number, epoch) for number in completed))
        ledger.append(*(TrialStopped(at=9.0, number=n, reason="completed") for n in completed))
        ledger.append(report(5, 1), TrialFailed(at=9.0, number=5, error="it broke again"))
        return ledger.events


def report(number: int, epoch: int) -> EpochReported:
    metrics = {"valid_accuracy": 0.9 + epoch / 100, "valid_loss": 0.1, "seconds": 1.0}
    return EpochReported(at=8.0, number=number, epoch=epoch, metrics=metrics, checkpoint=None)


class FakeMlflow:
    """MLflow's client over dictionaries."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.experiments: dict[str, str] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        known = self.experiments.get(name)
        return known and SimpleNamespace(experiment_id=known)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"id of {name}")

    def search_runs(self, ids: list[str], text: str, *, page_token: str | None) -> Any:
        place = int(page_token or 0)
        found = [run for run in self.runs.values() if run.data.tags["celltune.search"] in text]

        class Page(list[Any]):
            token = str(place + 2) if place + 2 < len(found) else None

        return Page(found[place : place + 2])

    def get_metric_history(self, run_id: str, key: str) -> Any:
        return [metric for metric in self.runs[run_id].metrics if metric.key == key]

    def create_run(self, experiment: str, *, start_time: int, tags: Any, run_name: str) -> Any:
        info = SimpleNamespace(run_id=f"run {len(self.runs)}", status="RUNNING")
        data = SimpleNamespace(tags=dict(tags))
        run = SimpleNamespace(info=info, data=data, metrics=[], params={}, name=run_name)
        self.runs[info.run_id] = run
        return run

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        assert self.runs[run_id].params.setdefault(key, value) == value

    def log_metric(self, run_id: str, key: str, value: float, timestamp: int, step: int) -> None:
        self.runs[run_id].metrics.append(SimpleNamespace(key=key, value=value, step=step))

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        self.runs[run_id].data.tags[key] = value

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].info.status = status

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self.runs[run_id].info.status = status


Values = dict[int, list[tuple[int, float]]]
"""Of each trial, what a tool shows of valid_accuracy: (epoch, value)."""


def shown_by_mlflow(client: FakeMlflow) -> Values:
    return {
        int(run.data.tags["celltune.trial"]): [
            (metric.step, metric.value)
            for metric in client.get_metric_history(run.info.run_id, "valid_accuracy")
        ]
        for run in client.runs.values()
    }


def shown_by_tensorboard(folder: Path) -> Values:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = {}
    for path in folder.glob("trial-*"):
        read = EventAccumulator(str(path))
        read.Reload()
        has = "valid_accuracy" in read.Tags()["scalars"]
        points = read.Scalars("valid_accuracy") if has else []
        shown[int(path.name.removeprefix("trial-"))] = [
            (point.step, pytest.approx(point.value)) for point in points
        ]
    return shown


Tool = tuple[Callable[[], Tracker], Callable[[], Values]]


@pytest.fixture(params=["tensorboard", "mlflow"])
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tool]:
    """What makes a tracker anew, as each resume does, and what the tool then shows."""
    if request.param == "mlflow":
        client = FakeMlflow()
        yield lambda: MlflowTracker(client, "demo"), lambda: shown_by_mlflow(client)
        return
    place = tmp_path / "board"
    yield (
        lambda: TensorBoardTracker(place, "valid_accuracy"),
        lambda: shown_by_tensorboard(place),
    )


def expected(events: list[Event]) -> Values:
    trials = ExperimentState(events).trials
    return {
        trial.number: [(e.epoch, e.metrics["valid_accuracy"]) for e in trial.epochs]
        for trial in trials
    }


def test_a_tool_shows_what_the_ledger_holds(tool: Tool, events: list[Event]) -> None:
    make, shown = tool
    tracker = make()
    for event in events:
        tracker.take(event)
    tracker.close()
    assert shown() == expected(events)


def test_a_resume_doubles_nothing_and_leaves_nothing_out(tool: Tool, events: list[Event]) -> None:
    """Cut everywhere: each tracker takes all from the beginning, as after a resume."""
    make, shown = tool
    changed = next(n for n, event in enumerate(events) if isinstance(event, BudgetChanged))
    for cut in (7, 8, 12, changed, changed + 3, len(events), len(events)):
        tracker = make()
        for event in events[:cut]:
            tracker.take(event)
        if cut not in (8, changed + 3):  # a killed driver closes nothing
            tracker.close()
    assert shown() == expected(events)


def test_mlflow_tells_how_a_trial_ended(events: list[Event]) -> None:
    client = FakeMlflow()
    tracker = MlflowTracker(client, "demo")
    for event in events:
        tracker.take(event)
    ends = {"completed": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    trials = ExperimentState(events).trials
    runs = list(client.runs.values())
    assert [run.info.status for run in runs] == [ends[trial.status] for trial in trials]
    assert runs[-1].data.tags["celltune.stopped"] == "it broke again"
    assert runs[0].params == trials[0].params
    assert runs[0].name == "trial-0"


class Recorder:
    """A tracker that keeps what it takes, and breaks where it is told to."""

    def __init__(self, breaks_at: int | None = None, held: threading.Event | None = None) -> None:
        self.taken: list[Event] = []
        self.threads: set[threading.Thread] = set()
        self.closed = False
        self._breaks_at = breaks_at
        self._held = held

    def take(self, event: Event) -> None:
        self.threads.add(threading.current_thread())
        if self._held is not None:
            self._held.wait()
        if len(self.taken) == self._breaks_at:
            raise OSError("no connection.\nand more")
        self.taken.append(event)

    def close(self) -> None:
        self.closed = True


def test_a_follower_passes_on_all_events_in_order(events: list[Event]) -> None:
    tracker = Recorder()
    follower = Follower("Recorder", lambda: tracker, events[:4])
    for event in events[4:]:
        follower(event, ExperimentState())
    follower.close()
    assert tracker.taken == events
    assert tracker.closed
    assert threading.current_thread() not in tracker.threads


@pytest.mark.parametrize("breaks_at", [0, 6])
def test_a_failure_is_told_once_and_ends_nothing(
    breaks_at: int, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Recorder(breaks_at)
    follower = Follower("Recorder", lambda: tracker, [])
    for event in events:
        follower(event, ExperimentState())
    follower.close()
    assert caplog.messages == [
        "Recorder isn't followed any more: no connection. The search goes on and loses nothing; a "
        "resume brings Recorder up to date."
    ]
    assert tracker.taken == events[:breaks_at]


def test_a_tracker_that_hangs_holds_nothing_up(
    events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    held = threading.Event()
    follower = Follower("Recorder", lambda: Recorder(held=held), events)
    follower(events[0], ExperimentState())
    follower.close(patience=0.01)
    assert "isn't followed any more: it was still behind after 0.01 s" in caplog.text
    held.set()
    follower.close()
    assert len(caplog.messages) == 1


def test_a_config_switches_the_trackers_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    client = FakeMlflow()
    monkeypatch.setattr(
        "celltune.search.tracking.follower._mlflow", lambda config: MlflowTracker(client, "demo")
    )
    config = make_config(
        budget={"trials": 3, "max_epochs": 4}, tracking={"tensorboard": True, "mlflow": "here"}
    )
    folder = LocalExperiment(tmp_path / "demo")
    folder.path.mkdir()
    with start_ledger(folder.ledger) as ledger:
        cut_after(config, folder, ledger, 5)
    with Ledger(folder.ledger) as ledger:
        cut_after(config, folder, ledger, None)
        wanted = expected(ledger.events)
    assert shown_by_tensorboard(folder.path / "tensorboard") == wanted
    assert shown_by_mlflow(client) == wanted
    assert caplog.messages == []


def cut_after(config: Any, folder: LocalExperiment, ledger: Ledger, reports: int | None) -> None:
    conductor: SearchController = make_controller(config, ledger)
    with tracked(conductor, config, folder, ledger.events):
        for done, _ in enumerate(steps(conductor), 1):
            if done == reports:
                break


def test_the_folder_of_a_config_is_named_by_the_experiment(tmp_path: Path) -> None:
    named = tmp_path / "boards"
    config = make_config(tracking={"tensorboard": str(named)})
    folder = LocalExperiment(tmp_path / "demo")
    folder.path.mkdir()
    with start_ledger(folder.ledger) as ledger:
        cut_after(config, folder, ledger, 2)
    assert [path.name for path in (named / "demo").iterdir()] == ["trial-0"]


def test_a_relative_folder_is_anchored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Tracking(tensorboard="runs").anchored().tensorboard == str(tmp_path / "runs")
    assert Tracking(tensorboard=True).anchored().tensorboard is True


def test_a_missing_package_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celltune.search.tracking.follower.find_spec", lambda package: None)
    check(Tracking())
    with pytest.raises(ConfigError, match=r"tracking.mlflow is .*install 'celltune\[mlflow\]'"):
        check(Tracking(mlflow="http://localhost:5000"))
    with pytest.raises(ConfigError, match=r"tracking.tensorboard is .*tensorboardX isn't"):
        check(Tracking(tensorboard=True))


def test_a_password_in_a_config_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"tracking.mlflow: .*MLFLOW_TRACKING_PASSWORD") as told:
        make_config(tracking={"mlflow": "https://me:secret@host"})
    assert "secret" not in str(told.value)
