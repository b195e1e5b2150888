from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.ledger.events import ExperimentCreated
from celltune.search.runs.status import summarize
from celltune.search.storage.local import LocalExperiment
from tests.search.simulated_search import finished_search, make_config, make_controller, steps


@pytest.fixture
def folder(tmp_path: Path) -> LocalExperiment:
    folder = LocalExperiment(tmp_path / "demo")
    folder.create(make_config(), ExperimentCreated(at=0.0, fingerprint="f"))
    return folder


def test_a_finished_search(tmp_path: Path) -> None:
    config = make_config()
    summary = summarize(finished_search(tmp_path, config))
    assert (summary.status, summary.end_reason) == ("finished", "finished")
    assert summary.trials_ended == config.budget.trials
    assert summary.trials_remaining == 0
    assert summary.max_epochs == config.budget.trials * config.budget.max_epochs
    assert summary.epochs == sum(len(trial.epochs) for trial in summary.state.trials)
    best = max(trial.best_value("valid_accuracy") or 0.0 for trial in summary.state.trials)
    assert summary.best_value == best
    assert summary.best_trial is not None
    assert summary.best_trial.best_value("valid_accuracy") == best


def test_a_search_that_is_not_over_is_running_killed_or_stopped(folder: LocalExperiment) -> None:
    with folder.locked():
        assert summarize(folder).status == "running"
    summary = summarize(folder)
    assert (summary.status, summary.end_reason) == ("killed", None)
    assert (summary.best_trial, summary.best_value) == (None, None)
    with folder.open_ledger() as ledger:
        controller = make_controller(make_config(), ledger)
        controller.start(celltune="1", host="h", pid=1, versions={})
        for _ in zip(range(3), steps(controller), strict=False):
            pass
        assert summarize(folder).status == "killed"
        controller.end("interrupted")
    stopped = summarize(folder)
    assert stopped.status == "stopped"
    assert stopped.epochs == 3
    assert stopped.trials_remaining == make_config().budget.trials - len(stopped.state.trials)
