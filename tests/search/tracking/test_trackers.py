from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from celltune.search.config.given import check_given
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
from celltune.search.tracking.mlflow import MlflowTracker
from celltune.search.tracking.tensorboard import TensorBoardTracker
from celltune.search.tracking.trackers import (
    BackgroundTracker,
    Tracker,
    check_installed,
    track_search,
)
from celltune.search.tuning.controller import SearchController
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps

CONFIG = make_config(budget={"trials": 5, "max_epochs": 4})


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    with start_ledger(tmp_path_factory.mktemp("tracked") / "ledger.jsonl") as ledger:
        controller = make_controller(CONFIG, ledger)
        list(steps(controller))
        completed = [t.number for t in controller.state.trials if t.status == "completed"]
        ledger.append(
            TrialCreated(at=5.0, number=5, params={"cell": "gru"}, max_epochs=4),
            TrialFailed(at=6.0, number=5, error="it failed"),
            BudgetChanged(at=7.0, trials=6, max_epochs=6, extended=completed, retried=[5]),
        )
        for epoch in (5, 6):
            ledger.append(*(report(number, epoch) for number in completed))
        ledger.append(*(TrialStopped(at=9.0, number=n, reason="completed") for n in completed))
        ledger.append(report(5, 1), TrialFailed(at=9.0, number=5, error="it failed again"))
        return ledger.events


def report(number: int, epoch: int) -> EpochReported:
    metrics = {"valid_accuracy": 0.9 + epoch / 100, "valid_loss": 0.1, "seconds": 1.0}
    return EpochReported(at=8.0, number=number, epoch=epoch, metrics=metrics, checkpoint=None)


class FakeMlflow:
    """An MLflow client that stores everything in dictionaries."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.experiments: dict[str, str] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        known = self.experiments.get(name)
        return known and SimpleNamespace(experiment_id=known)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"id of {name}")

    def search_runs(self, ids: list[str], text: str, *, page_token: str | None) -> Any:
        first = int(page_token or 0)
        matching = [run for run in self.runs.values() if run.data.tags["celltune.search"] in text]

        class Page(list[Any]):
            token = str(first + 2) if first + 2 < len(matching) else None

        return Page(matching[first : first + 2])

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
"""What a tool shows of valid_accuracy, by trial: (epoch, value)."""


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
    """Return a function that creates a tracker, as a resume does, and one for the shown values."""
    if request.param == "mlflow":
        client = FakeMlflow()
        yield lambda: MlflowTracker(client, "demo"), lambda: shown_by_mlflow(client)
        return
    folder = tmp_path / "board"
    yield (
        lambda: TensorBoardTracker(folder, "valid_accuracy"),
        lambda: shown_by_tensorboard(folder),
    )


def expected(events: list[Event]) -> Values:
    trials = ExperimentState(events).trials
    return {
        trial.number: [(e.epoch, e.metrics["valid_accuracy"]) for e in trial.epochs]
        for trial in trials
    }


def test_tracker_records_all_epochs(tool: Tool, events: list[Event]) -> None:
    make, shown = tool
    tracker = make()
    for event in events:
        tracker.record(event)
    tracker.close()
    assert shown() == expected(events)


def test_resume_duplicates_and_omits_nothing(tool: Tool, events: list[Event]) -> None:
    """Each new tracker receives all events from the first one, as after a resume."""
    make, shown = tool
    changed = next(n for n, event in enumerate(events) if isinstance(event, BudgetChanged))
    for cut in (7, 8, 12, changed, changed + 3, len(events), len(events)):
        tracker = make()
        for event in events[:cut]:
            tracker.record(event)
        if cut not in (8, changed + 3):  # A killed driver does not close its tracker.
            tracker.close()
    assert shown() == expected(events)


def test_mlflow_runs_have_the_status_of_the_trials(events: list[Event]) -> None:
    client = FakeMlflow()
    tracker = MlflowTracker(client, "demo")
    for event in events:
        tracker.record(event)
    ends = {"completed": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    trials = ExperimentState(events).trials
    runs = list(client.runs.values())
    assert [run.info.status for run in runs] == [ends[trial.status] for trial in trials]
    assert runs[-1].data.tags["celltune.stopped"] == "it failed again"
    assert runs[0].params == trials[0].params
    assert runs[0].name == "trial-0"


class Recorder:
    """A tracker that stores events. It can fail at an event, or block until `unblocked` is set."""

    def __init__(
        self, fails_at: int | None = None, unblocked: threading.Event | None = None
    ) -> None:
        self.recorded: list[Event] = []
        self.threads: set[threading.Thread] = set()
        self.closed = False
        self._fails_at = fails_at
        self._unblocked = unblocked

    def record(self, event: Event) -> None:
        self.threads.add(threading.current_thread())
        if self._unblocked is not None:
            self._unblocked.wait()
        if len(self.recorded) == self._fails_at:
            raise OSError("no connection.\nand more")
        self.recorded.append(event)

    def close(self) -> None:
        self.closed = True


def test_background_tracker_records_all_events_in_order_in_its_thread(events: list[Event]) -> None:
    tracker = Recorder()
    background = BackgroundTracker("Recorder", lambda: tracker, events[:4])
    for event in events[4:]:
        background(event, ExperimentState())
    background.close()
    assert tracker.recorded == events
    assert tracker.closed
    assert threading.current_thread() not in tracker.threads


@pytest.mark.parametrize("fails_at", [0, 6])
def test_failure_is_logged_once_and_does_not_stop_the_search(
    fails_at: int, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Recorder(fails_at)
    background = BackgroundTracker("Recorder", lambda: tracker, [])
    for event in events:
        background(event, ExperimentState())
    background.close()
    assert caplog.messages == [
        "Recorder no longer records the search: no connection. The search continues. A resume "
        "records the missing events."
    ]
    assert tracker.recorded == events[:fails_at]


def test_hanging_tracker_does_not_block_the_search(
    events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    unblocked = threading.Event()
    background = BackgroundTracker("Recorder", lambda: Recorder(unblocked=unblocked), events)
    background(events[0], ExperimentState())
    background.close(timeout=0.01)
    assert "no longer records the search: it did not record all events within 0.01 s" in caplog.text
    unblocked.set()
    background.close()
    assert len(caplog.messages) == 1


def test_config_enables_trackers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    client = FakeMlflow()
    monkeypatch.setattr(
        "celltune.search.tracking.trackers._mlflow", lambda config: MlflowTracker(client, "demo")
    )
    config = make_config(
        budget={"trials": 3, "max_epochs": 4}, tracking={"tensorboard": True, "mlflow": "here"}
    )
    folder = LocalExperiment(tmp_path / "demo")
    folder.path.mkdir()
    with start_ledger(folder.ledger) as ledger:
        run_search(config, folder, ledger, 5)
    with Ledger(folder.ledger) as ledger:
        run_search(config, folder, ledger, None)
        recorded = expected(ledger.events)
    assert shown_by_tensorboard(folder.path / "tensorboard") == recorded
    assert shown_by_mlflow(client) == recorded
    assert caplog.messages == []


def run_search(config: Any, folder: LocalExperiment, ledger: Ledger, reports: int | None) -> None:
    controller: SearchController = make_controller(config, ledger)
    with track_search(controller, config, folder, ledger.events):
        for done, _ in enumerate(steps(controller), 1):
            if done == reports:
                break


def test_configured_folder_has_one_subfolder_per_experiment(tmp_path: Path) -> None:
    named = tmp_path / "boards"
    config = make_config(tracking={"tensorboard": str(named)})
    folder = LocalExperiment(tmp_path / "demo")
    folder.path.mkdir()
    with start_ledger(folder.ledger) as ledger:
        run_search(config, folder, ledger, 2)
    assert [path.name for path in (named / "demo").iterdir()] == ["trial-0"]


def test_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Tracking(tensorboard="runs").anchored().tensorboard == str(tmp_path / "runs")
    assert Tracking(tensorboard=True).anchored().tensorboard is True


def test_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celltune.search.tracking.trackers.find_spec", lambda package: None)
    check_installed(Tracking())
    with pytest.raises(ConfigError, match=r"tracking.mlflow is .*install 'celltune\[mlflow\]'"):
        check_installed(Tracking(mlflow="http://localhost:5000"))
    with pytest.raises(ConfigError, match=r"tracking.tensorboard is .*tensorboardX is not"):
        check_installed(Tracking(tensorboard=True))


def test_password_in_config_is_rejected_and_not_shown() -> None:
    config = make_config(tracking={"mlflow": "HTTPS://me:secret@host"})
    with pytest.raises(ConfigError, match=r"tracking.mlflow must not .*_PASSWORD") as raised:
        check_given(config)
    assert "secret" not in str(raised.value)
