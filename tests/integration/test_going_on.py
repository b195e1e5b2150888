"""Searches that are extended or stopped, and trials that hang or exceed their memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from celltune.search.ledger.events import BudgetChanged, RunEnded, WorkerLost
from celltune.search.ledger.ledger import read
from celltune.search.runs.launch import launch, resume
from celltune.search.storage.local import LocalExperiment
from celltune.search.tuning.budget_changes import Changes
from tests.integration.conftest import Run, start, workers_of
from tests.integration.test_resume import CONFIG, write_config
from tests.search.assertions import assert_all_ended

SMALL = {
    **CONFIG,
    "data": {"source": "synthetic", "reviews": 200, "max_tokens": 30},
    "budget": {"trials": 4, "max_epochs": 2},
    "baselines": False,
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
}


@pytest.fixture
def storage(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_CACHE", env["CELLTUNE_CACHE"])
    return Path(env["CELLTUNE_STORAGE"])


def wait_for_epochs(folder: LocalExperiment, epochs: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if folder.ledger.exists():
            done = sum(trial.epochs_done for trial in folder.state().trials)
            if done >= epochs:
                return
        time.sleep(0.02)
    raise AssertionError(process.communicate(timeout=10))


@pytest.mark.usefixtures("local_ray")
def test_a_finished_search_is_extended_by_trials_and_epochs(storage: Path) -> None:
    launch(SMALL, storage=storage)
    folder = LocalExperiment(storage / "cut")
    before = read(folder.ledger)
    result = resume("cut", storage=storage, changes=Changes(trials="+2", max_epochs=4))
    assert read(folder.ledger)[: len(before)] == before
    assert result.reason == "finished"
    assert (result.config.budget.trials, result.config.budget.max_epochs) == (6, 4)
    changed = [event for event in read(folder.ledger) if isinstance(event, BudgetChanged)]
    assert len(changed) == 1
    assert changed[0].extended
    for number in changed[0].extended:
        assert result.state.trials[number].epochs_done > 2
    assert resume("cut", storage=storage).state.trials == result.state.trials
    warm = launch(SMALL, storage=storage, name="warm", warm_start="cut")
    assert warm.state.prior is not None
    assert len(warm.state.prior.trials) == 6


def test_a_search_is_stopped_by_another_process_and_resumed(
    env: dict[str, str], address: str, celltune: Run, command: Run, tmp_path: Path
) -> None:
    long = write_config(tmp_path / "c.yaml", budget={"trials": 500, "max_epochs": 6})
    process = start(env, "launch", long, "--address", address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    wait_for_epochs(folder, 2, process)
    stopped = celltune("stop", "cut")
    assert stopped.returncode == 0, stopped.stderr
    assert "resume with: celltune resume cut" in stopped.stdout
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "as another process requested" in output
    assert not folder.stop_requested()
    again = command("stop", "cut")
    assert again.returncode == 2
    assert "is not running" in again.stderr
    timed = command("resume", "cut", "--time-budget", "0.01s")
    assert timed.returncode == 0, timed.stdout + timed.stderr
    assert "The time limit was reached. Progress is saved" in timed.stdout
    ends = [event.reason for event in read(folder.ledger) if isinstance(event, RunEnded)]
    assert ends == ["interrupted", "time"]
    target = command("resume", "cut", "--target", "0.3")
    assert target.returncode == 0
    assert "The target is reached: valid_accuracy 30.00 %" in target.stdout
    assert command("status", "cut").stdout.startswith("cut: finished")


def test_a_hanging_trial_is_retried_and_the_search_finishes(
    env: dict[str, str], address: str, tmp_path: Path
) -> None:
    before = set(workers_of(address))
    config = write_config(
        tmp_path / "c.yaml", trial_timeout="7s", resources={"concurrent_trials": 1}
    )
    process = start(env, "launch", config, "--address", address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    wait_for_epochs(folder, 2, process)
    os.kill((set(workers_of(address)) - before).pop(), signal.SIGSTOP)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    state = folder.state()
    assert_all_ended(state, 8)
    assert state.count("failed") == 0
    lost = [event for event in read(folder.ledger) if isinstance(event, WorkerLost)]
    assert [(event.cause, event.error) for event in lost] == [
        ("hung", "The trial reported no epoch within 7s (trial_timeout).")
    ]
    assert "Traceback" not in output


@pytest.mark.usefixtures("local_ray")
def test_a_trial_that_exceeds_its_memory_fails_with_the_reason(storage: Path) -> None:
    space = {**CONFIG["space"], "embedding_size": [16, 65_536]}
    config = {
        **SMALL,
        "space": space,
        "retries": 1,
        "resources": {"memory_per_trial_gb": 0.2, "concurrent_trials": 1},
        "budget": {"trials": 5, "max_epochs": 1},
        "baselines": False,
        "max_failed": 1.0,
    }
    state = launch(config, storage=storage).state
    huge = [trial for trial in state.trials if trial.params["embedding_size"] == 65_536]
    assert_all_ended(state, 5)
    assert huge
    assert all(trial.status == "failed" for trial in huge)
    assert all("the last time because it ran out of memory" in trial.error for trial in huge)
    assert {t.status for t in state.trials if t not in huge} == {"completed"}


@pytest.mark.usefixtures("local_ray")
def test_too_many_failures_end_the_search_and_a_retry_continues_it(storage: Path) -> None:
    space = {**CONFIG["space"], "learning_rate": 1e30, "gradient_clip": None}
    result = launch({**SMALL, "space": space, "max_failed": 0.25}, storage=storage)
    assert result.reason == "too_many_failed"
    assert result.state.count("failed") >= 2
    assert len(result.state.trials) < 4 or result.state.count("failed") < 4
    assert resume("cut", storage=storage).reason == "too_many_failed"
    again = resume("cut", storage=storage, changes=Changes(retry_failed=True))
    assert again.reason == "too_many_failed"
