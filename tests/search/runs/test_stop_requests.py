from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView
from celltune.search.storage.local import LocalExperiment
from tests.search.support import make_config


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Told(SilentView):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> LocalExperiment:
    folder = LocalExperiment(tmp_path / "demo")
    folder.create(make_config(), ExperimentCreated(at=0.0, fingerprint="f"))
    return folder


def test_a_signal_stops_and_is_told_once(folder: LocalExperiment) -> None:
    signalled, view = threading.Event(), Told()
    stop = StopRequests(folder, signalled, None, view, Clock())
    assert not stop()
    signalled.set()
    assert [stop(), stop()] == [True, True]
    assert stop.reason == "interrupted"
    assert view.lines == ["Stopping; nothing is lost but the epochs in flight"]


def test_the_time_stops_by_a_clock_that_only_grows(folder: LocalExperiment) -> None:
    clock, view = Clock(), Told()
    stop = StopRequests(folder, threading.Event(), 60.0, view, clock)
    clock.now += 59.9
    assert not stop()
    clock.now += 0.1
    assert stop()
    assert stop.reason == "time"
    assert view.lines[0].startswith("The time is over")


def test_a_request_from_elsewhere_stops_and_is_used_up(folder: LocalExperiment) -> None:
    clock = Clock()
    stop = StopRequests(folder, threading.Event(), None, Told(), clock)
    clock.now += 1
    assert not stop()
    folder.request_stop()
    assert not stop(), "it looks only now and then"
    clock.now += 1
    assert stop()
    assert stop.reason == "interrupted"
    assert not folder.stop_requested()


def test_a_request_that_came_while_the_run_got_ready_counts(folder: LocalExperiment) -> None:
    clock = Clock()
    folder.request_stop()
    stop = StopRequests(folder, threading.Event(), None, Told(), clock)
    clock.now += 1
    assert stop()


def test_a_request_that_can_not_be_left_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"cannot be written .* Stop the search with Ctrl-C"):
        LocalExperiment(tmp_path / "none").request_stop()


def test_the_first_signal_is_an_event_and_the_second_acts_as_ever() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(1)
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    found: list[bool] = []

    def look() -> None:
        with stop_signals() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [False]
