"""When the baselines of a run start, are recorded, are waited for and end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from celltune.search.baselines.validation import ValidationScores
from celltune.search.cluster.baseline_worker import BaselineResult
from celltune.search.ledger.events import EpochReported, RunStarted
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.baselines import WAIT_SECONDS, BaselineRun
from celltune.search.runs.view import SilentView
from celltune.search.tuning.controller import SearchController
from tests.search.simulated_search import make_config, make_controller, start_ledger

SCORES = ValidationScores(0.8, 0.7, 0.75, 0.9, None, 1.5)
EPOCH = EpochReported(at=1.0, number=0, epoch=1, metrics={}, checkpoint=None)
STATE = ExperimentState()


@dataclass
class Worker:
    """A process whose results a test provides; each question takes a second of the clock."""

    clock: Clock
    unfinished: list[str]
    ready: list[BaselineResult] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    closed: bool = False

    def results(self, timeout: float = 0.0) -> list[BaselineResult]:
        self.timeouts.append(timeout)
        self.clock.now += timeout
        results, self.ready = self.ready[:1], self.ready[1:]
        self.unfinished = [name for name in self.unfinished if name not in _names(results)]
        return results

    def close(self) -> None:
        self.closed = True


def _names(results: list[BaselineResult]) -> list[str]:
    return [result.name for result in results]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Messages(SilentView):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, text: str) -> None:
        self.lines.append(text)

    def message(self, line: str) -> None:
        self.lines.append(line)


class Setup:
    """A run of the baselines a and b with a worker and a clock that a test controls."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.ledger = start_ledger(folder / "ledger.jsonl")
        self.controller: SearchController = make_controller(make_config(), self.ledger)
        self.clock, self.view = Clock(), Messages()
        self.worker: Worker | None = None
        self.run = BaselineRun(
            self.controller, self._start, names, self.view, clock=lambda: 7.0, timer=self.clock
        )

    def _start(self, names: list[str]) -> Any:
        assert self.worker is None
        self.worker = Worker(self.clock, names)
        return self.worker

    def poll(self) -> None:
        self.clock.now += 1
        self.run.poll()

    def started(self) -> Worker:
        self.run(EPOCH, STATE)
        self.poll()
        return cast("Worker", self.worker)


@pytest.fixture
def setup(tmp_path: Path) -> Any:
    setup = Setup(tmp_path, ["a", "b"])
    yield setup
    setup.ledger.close()


def test_the_process_starts_after_the_first_epoch(setup: Setup) -> None:
    setup.run(RunStarted(at=1.0, resumed=False, celltune="1", host="h", pid=1), STATE)
    setup.poll()
    assert setup.worker is None
    assert setup.started().unfinished == ["a", "b"]
    setup.run.poll()
    assert setup.started().timeouts == [0.0, 0.0], "results are asked for at intervals only"


def test_nothing_starts_if_nothing_is_missing(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [])
    setup.run(EPOCH, STATE)
    setup.poll()
    setup.run.wait(lambda: False)
    setup.run.close()
    assert setup.worker is None
    assert setup.view.lines == []
    setup.ledger.close()


def test_scores_are_recorded_and_failures_shown(setup: Setup) -> None:
    worker = setup.started()
    worker.ready = [
        BaselineResult("a", None, "There is too little memory."),
        BaselineResult("b", SCORES),
    ]
    setup.poll()
    setup.poll()
    event = setup.controller.state.validated["b"]
    assert (event.at, event.valid_accuracy, event.valid_macro_f1) == (7.0, 0.8, 0.7)
    assert (event.valid_balanced_accuracy, event.valid_auroc) == (0.75, 0.9)
    assert (event.valid_loss, event.seconds) == (None, 1.5)
    assert setup.ledger.events[-1] == event
    assert setup.view.lines == [
        "The baseline a was not measured. There is too little memory. The search is not affected."
    ]
    assert list(setup.controller.state.validated) == ["b"]


def test_a_search_that_is_over_waits_until_all_are_measured(setup: Setup) -> None:
    worker = setup.started()
    worker.ready = [BaselineResult(name, SCORES) for name in ("a", "b")]
    setup.run.wait(lambda: False)
    setup.run.close()
    assert list(setup.controller.state.validated) == ["a", "b"]
    assert setup.view.lines == ["Waiting up to 30 s for 2 linear baselines"]
    assert worker.closed


def test_the_wait_is_limited(setup: Setup) -> None:
    worker = setup.started()
    begin = setup.clock.now
    setup.run.wait(lambda: False)
    setup.run.close()
    assert WAIT_SECONDS <= setup.clock.now - begin < WAIT_SECONDS + 1
    assert setup.view.lines[1:] == ["Not measured before the end: the baselines a and b."]
    assert worker.closed


def test_a_stop_request_ends_the_wait(setup: Setup) -> None:
    worker = setup.started()
    worker.timeouts.clear()
    setup.run.wait(lambda: True)
    assert worker.timeouts == []
