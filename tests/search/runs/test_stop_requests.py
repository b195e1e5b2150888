from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from celltune.search.errors import ExperimentError, StorageError
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.runs.stop_requests import (
    StopRequests,
    interrupts_deferred,
    request_stop,
    stop_signals,
    wait_until_stopped,
)
from celltune.search.runs.view import SilentView
from celltune.search.storage.local import LocalExperiment
from tests.search.simulated_search import make_config


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class StageView(SilentView):
    """Records the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)


def make_folder(path: Path) -> LocalExperiment:
    folder = LocalExperiment(path)
    folder.create(make_config(), ExperimentCreated(at=0.0, fingerprint="f"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> LocalExperiment:
    return make_folder(tmp_path / "demo")


def test_a_signal_stops_the_run_and_is_shown_once(folder: LocalExperiment) -> None:
    signalled, view = threading.Event(), StageView()
    stop = StopRequests([folder], signalled, None, view, Clock())
    assert not stop()
    signalled.set()
    assert [stop(), stop()] == [True, True]
    assert stop.reason == "interrupted"
    assert view.stages == ["Stopping; only unfinished epochs are lost"]


def test_the_time_limit_stops_the_run(folder: LocalExperiment) -> None:
    clock, view = Clock(), StageView()
    stop = StopRequests([folder], threading.Event(), 60.0, view, clock)
    clock.now += 59.9
    assert not stop()
    clock.now += 0.1
    assert stop()
    assert stop.reason == "time"
    assert view.stages[0].startswith("The time limit is reached")


def test_a_request_of_another_process_stops_the_run_and_is_cleared(
    folder: LocalExperiment,
) -> None:
    clock = Clock()
    stop = StopRequests([folder], threading.Event(), None, StageView(), clock)
    clock.now += 1
    assert not stop()
    with folder.locked():
        request_stop(folder)
    assert not stop(), "the storage is read at intervals only"
    clock.now += 1
    assert stop()
    assert stop.reason == "interrupted"
    assert not folder.stop_requested()


def test_a_request_for_any_experiment_of_a_run_counts(
    folder: LocalExperiment, tmp_path: Path
) -> None:
    clock = Clock()
    active: list[LocalExperiment] = []
    stop = StopRequests(active, threading.Event(), None, StageView(), clock)
    active += [folder, make_folder(tmp_path / "second")]
    active[1].request_stop()
    clock.now += 1
    assert stop()


def test_a_request_that_arrives_before_the_trials_start_counts(folder: LocalExperiment) -> None:
    clock = Clock()
    folder.request_stop()
    stop = StopRequests([folder], threading.Event(), None, StageView(), clock)
    clock.now += 1
    assert stop()


def test_a_request_for_an_experiment_that_is_not_running_is_rejected(
    folder: LocalExperiment,
) -> None:
    with pytest.raises(ExperimentError, match="'demo' is not running"):
        request_stop(folder)
    assert not folder.stop_requested()
    wait_until_stopped(folder)


def test_waiting_ends_when_the_run_does(folder: LocalExperiment) -> None:
    released, waited = threading.Event(), threading.Event()

    def wait() -> None:
        wait_until_stopped(folder, poll_seconds=0.01)
        assert released.is_set()
        waited.set()

    with folder.locked():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not waited.wait(0.1)
        released.set()
    assert waited.wait(10)
    thread.join()


def test_a_request_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"cannot be written .* Stop the search with Ctrl-C"):
        LocalExperiment(tmp_path / "none").request_stop()


def test_only_the_first_signal_is_handled() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(1)
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


def test_signals_are_not_handled_outside_the_main_thread() -> None:
    results: list[bool] = []

    def enter() -> None:
        with stop_signals() as stop:
            results.append(stop.is_set())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert results == [False]


def test_a_run_whose_experiment_is_removed_ends_within_a_second(folder: LocalExperiment) -> None:
    clock = Clock()
    stop = StopRequests([folder], threading.Event(), None, StageView(), clock)
    with folder.locked(), folder.open_ledger():
        clock.now += 1
        assert not stop()
        shutil.rmtree(folder.path)
        clock.now += 1
        with pytest.raises(StorageError, match="was removed while the search was running"):
            stop()


def test_an_interrupt_is_deferred_to_the_end_of_imports() -> None:
    before = signal.getsignal(signal.SIGINT)
    reached = []

    def importing() -> None:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        importing()
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_and_outside_of_the_main_thread_nothing_is_deferred() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_deferred():
        pass
    done = []

    def in_thread() -> None:
        with interrupts_deferred():
            done.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert done == [True]
