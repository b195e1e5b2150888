"""Searches whose workers train several trials at the same time, in the shared local Ray cluster.

The longer tests are run by `make faults`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from celltune.search.ledger.events import TrialCreated
from celltune.search.ledger.ledger import read
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.runs.launch import launch, resume
from celltune.search.storage.local import LocalExperiment
from tests.integration.conftest import Run, start, wait_until, workers_of
from tests.integration.test_resume import epochs_done, launch_and_signal, outcome, write_config
from tests.search.assertions import assert_all_ended

pytestmark = pytest.mark.usefixtures("local_ray")

SPACE: dict[str, Any] = {
    "cell": ["gru", "mgu"],
    "hidden_size": 8,
    "embedding_size": 8,
    "dropout": {"low": 0.0, "high": 0.3},
    "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
}
FIXED = {**SPACE, "cell": "gru", "dropout": 0.2, "learning_rate": 0.01}
"""Trials that differ only in their seeds."""
CONFIG: dict[str, Any] = {
    "name": "packed",
    "data": {"source": "synthetic", "reviews": 300, "max_tokens": 30},
    "space": SPACE,
    "budget": {"trials": 9, "max_epochs": 4},
    "baselines": False,
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
    "sampler": {"startup_trials": 3},
    "resources": {"trials_per_worker": 4, "concurrent_trials": 4},
}


@pytest.fixture(autouse=True)
def _shared_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(shared_cache))


def search(storage: Path, trials_per_worker: int = 4, **changes: Any) -> ExperimentState:
    resources = {"trials_per_worker": trials_per_worker, "concurrent_trials": 4}
    return launch({**CONFIG, "resources": resources, **changes}, storage=storage).state


@pytest.mark.faults
def test_first_trials_of_a_packed_search_may_be_the_wide_part_alone(tmp_path: Path) -> None:
    state = search(
        tmp_path,
        data={**CONFIG["data"], "wide": True},
        space={**SPACE, "wide": "add"},
        first_trials=[{"wide": "only"}, {"cell": "mgu", "hidden_size": 12}],
    )
    assert_all_ended(state, 9)
    assert (state.trials[0].params, state.trials[0].epochs_done) == ({"wide": "only"}, 1)
    assert state.trials[1].params["hidden_size"] == 12
    assert state.trials[0] in state.ranked("valid_accuracy")
    assert all("wide_gain" in trial.epochs[0].metrics for trial in state.trials[1:])


@pytest.mark.faults
def test_packed_trials_equal_unpacked_ones(tmp_path: Path) -> None:
    budget = {"trials": 6, "max_epochs": 3, "repeat": True}
    changes = {"space": FIXED, "budget": budget, "early_stopping": None}
    packed = search(tmp_path / "packed", 4, **changes)
    alone = search(tmp_path / "alone", 1, **changes)
    assert_all_ended(packed, 6)
    for one, other in zip(packed.trials, alone.trials, strict=True):
        assert_same_numbers(one, other)
    assert packed.trials[0].epochs[0].metrics != packed.trials[1].epochs[0].metrics


def assert_same_numbers(one: TrialRecord, other: TrialRecord) -> None:
    timings = ("seconds", "tokens_per_second")
    assert one.params == other.params
    for mine, theirs in zip(one.epochs, other.epochs, strict=True):
        assert mine.metrics.keys() == theirs.metrics.keys()
        for name in mine.metrics.keys() - timings:
            assert mine.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-4), name


def test_pruned_trials_are_replaced_while_their_neighbours_continue(tmp_path: Path) -> None:
    state = search(tmp_path, space={**SPACE, "cell": "gru"})
    assert_all_ended(state, 9)
    assert state.count("pruned") > 0
    assert state.count("failed") == 0
    created = {
        event.number: index
        for index, event in enumerate(read(LocalExperiment(tmp_path / "packed").ledger))
        if isinstance(event, TrialCreated)
    }
    assert sorted(created) == list(range(9))
    first = state.trials[0].epochs[0].at
    assert all(trial.epochs[0].at > first for trial in state.trials[4:])


def test_a_diverging_trial_fails_alone(tmp_path: Path) -> None:
    space = {**SPACE, "cell": "gru", "learning_rate": [1e-3, 1e30], "gradient_clip": None}
    state = search(tmp_path, space=space, early_stopping=None, max_failed=1)
    failed = {trial.number for trial in state.trials if trial.status == "failed"}
    diverging = {t.number for t in state.trials if t.params["learning_rate"] == 1e30}
    assert_all_ended(state, 9)
    assert failed <= diverging
    assert 0 < len(failed) < 9
    assert all("learning rate" in state.trials[number].error for number in failed)
    assert all(trial.losses == 0 for trial in state.trials)


@pytest.mark.faults
@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4)])
def test_checkpoints_are_interchangeable(
    before: int, after: int, env: dict[str, str], address: str, tmp_path: Path
) -> None:
    budget = {"trials": 4, "repeat": True}
    search_config = {**CONFIG, "space": FIXED, "early_stopping": None, "budget": budget}
    resources = {"trials_per_worker": before, "concurrent_trials": 4}
    config = write_config(
        tmp_path / "c.yaml", **{**search_config, "name": "cut", "resources": resources}
    )
    folder, _, _ = launch_and_signal(env, address, config, signal.SIGKILL, 7)
    assert folder.state().count("unfinished") > 0
    override = f"resources.trials_per_worker={after}"
    state = resume("cut", storage=folder.path.parent, overrides=[override]).state
    uncut = launch(search_config, storage=tmp_path).state
    for one, other in zip(state.trials, uncut.trials, strict=True):
        assert_same_numbers(one, other)


@pytest.mark.faults
def test_a_search_that_is_killed_within_a_pack_has_the_same_outcome(
    env: dict[str, str], address: str, command: Run, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", **{**CONFIG, "name": "cut"})
    folder, code, _ = launch_and_signal(env, address, config, signal.SIGKILL, 3)
    assert code == -signal.SIGKILL
    assert folder.state().count("unfinished") > 0
    resumed = command("resume", "cut")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    undisturbed = command("launch", config, "--name", "undisturbed")
    assert undisturbed.returncode == 0
    assert outcome(folder) == outcome(LocalExperiment(folder.path.parent / "undisturbed"))


@pytest.mark.faults
def test_all_trials_of_a_killed_worker_are_retried_once(
    env: dict[str, str], address: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", **{**CONFIG, "name": "cut"})
    process = start(env, "launch", config, "--address", address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    wait_until(lambda: folder.ledger.exists() and epochs_done(folder) >= 4)
    os.kill(workers_of(address)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    state = folder.state()
    assert process.returncode == 0, output
    assert_all_ended(state, 9)
    assert state.count("failed") == 0
    assert 1 < sum(trial.losses for trial in state.trials) <= 4
    assert max(trial.losses for trial in state.trials) == 1
    assert "Traceback" not in output
    assert "Unhandled" not in output
