"""Searches whose process is stopped or killed, in the shared local Ray cluster."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from celltune.search.ledger.events import TrialCreated
from celltune.search.ledger.ledger import read
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import open_storage
from tests.integration.conftest import Run, start, wait_until, workers_of
from tests.search.assertions import assert_all_ended

CONFIG: dict[str, Any] = {
    "name": "cut",
    "data": {"source": "synthetic", "reviews": 1000, "max_tokens": 60},
    "space": {
        "cell": ["gru", "mgu", "rnn"],
        "hidden_size": [8, 16],
        "dropout": {"low": 0.0, "high": 0.3},
        "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
        "embedding_size": 16,
    },
    "budget": {"trials": 8, "max_epochs": 6},
    "baselines": False,
    "early_stopping": {"grace_period": 2, "reduction_factor": 2},
    "sampler": {"startup_trials": 3},
}


def write_config(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


def launch_and_signal(
    env: dict[str, str], address: str, config: Path, number: int, epochs: int
) -> tuple[LocalExperiment, int, str]:
    """Launch a search and signal its driver once the ledger contains `epochs` epochs.

    Returns the experiment, the exit code and the output.
    """
    process = start(env, "launch", config, "--address", address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if folder.ledger.exists() and epochs_done(folder) >= epochs:
            break
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return folder, process.returncode, output


def epochs_done(folder: LocalExperiment) -> int:
    """Return the number of recorded epochs of all trials."""
    return sum(trial.epochs_done for trial in folder.state().trials)


def outcome(folder: LocalExperiment) -> list[Any]:
    """Return the results of a search that do not depend on time."""
    timings = ("seconds", "tokens_per_second")
    return [
        (
            trial.params,
            trial.status,
            [
                {k: v for k, v in epoch.metrics.items() if k not in timings}
                for epoch in trial.epochs
            ],
        )
        for trial in folder.state().trials
    ]


def test_a_killed_search_has_the_same_outcome_as_an_undisturbed_one(
    env: dict[str, str], address: str, command: Run, tmp_path: Path
) -> None:
    sequential = write_config(tmp_path / "one.yaml", resources={"concurrent_trials": 1})
    folder, code, _ = launch_and_signal(env, address, sequential, signal.SIGKILL, 7)
    assert code == -signal.SIGKILL
    before = read(folder.ledger)
    assert command("status", "cut").stdout.startswith("cut: killed")
    resumed = command("resume", "cut")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert read(folder.ledger)[: len(before)] == before
    created = [event.number for event in read(folder.ledger) if isinstance(event, TrialCreated)]
    assert created == list(range(8))
    assert_all_ended(folder.state(), 8)

    undisturbed = command("launch", sequential, "--name", "undisturbed")
    assert undisturbed.returncode == 0
    assert outcome(folder) == outcome(LocalExperiment(folder.path.parent / "undisturbed"))


def test_ctrl_c_stops_cleanly_and_names_the_command_to_resume(
    env: dict[str, str], address: str, command: Run, tmp_path: Path
) -> None:
    folder, code, output = launch_and_signal(
        env, address, write_config(tmp_path / "c.yaml"), signal.SIGINT, 4
    )
    assert code == 130
    assert "resume with: celltune resume cut" in output
    assert "Traceback" not in output
    assert command("status", "cut").stdout.startswith("cut: stopped")
    assert command("resume", "cut").returncode == 0
    assert_all_ended(folder.state(), 8)
    assert folder.state().count("failed") == 0


def test_resume_rejects_changed_data_and_a_damaged_ledger(
    env: dict[str, str], address: str, command: Run, tmp_path: Path
) -> None:
    documents = tmp_path / "documents.csv"
    lines = [f"good film number {n},1\nbad film number {n},0" for n in range(200)]
    documents.write_text("text,label\n" + "\n".join(lines))
    config = write_config(tmp_path / "c.yaml", data={"source": "csv", "path": str(documents)})
    folder, _, _ = launch_and_signal(env, address, config, signal.SIGKILL, 2)
    before = folder.ledger.read_bytes()
    documents.write_text("text,label\n" + "\n".join(lines[:-1]))
    rejected = command("resume", "cut")
    assert rejected.returncode == 2
    assert "The data of the experiment 'cut' has changed" in rejected.stderr
    assert folder.ledger.read_bytes() == before

    damaged = before.replace(b"trial_created", b"trial_cre4ted", 1)
    folder.ledger.write_bytes(damaged)
    rejected = command("resume", "cut")
    assert rejected.returncode == 2
    assert "ledger.jsonl is damaged" in rejected.stderr
    assert "cut the file before line 3" in rejected.stderr
    assert folder.ledger.read_bytes() == damaged


def test_a_trial_is_retried_after_its_worker_was_killed(
    env: dict[str, str], address: str, tmp_path: Path
) -> None:
    process = start(env, "launch", write_config(tmp_path / "c.yaml"), "--address", address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    wait_until(lambda: folder.ledger.exists() and epochs_done(folder) >= 2)
    os.kill(workers_of(address)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    state = folder.state()
    assert process.returncode == 0, output
    assert_all_ended(state, 8)
    assert state.count("failed") == 0
    assert sum(trial.losses for trial in state.trials) == 1
    assert "continues from its checkpoint because its worker died" in output
    assert "Traceback" not in output


def test_the_next_commands_name_the_storage(command: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    config = write_config(tmp_path / "c.yaml", budget={"trials": 1, "max_epochs": 2})
    done = command("launch", config, "--storage", elsewhere)
    assert f"celltune leaderboard cut --storage {elsewhere}" in done.stdout
    assert open_storage(elsewhere).names() == ["cut"]
