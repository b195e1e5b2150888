"""SIGKILL at 50 random moments: driver and workers with and without packs, and a node."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.search.ledger.events import Event, TrialCreated
from celltune.search.ledger.ledger import read
from celltune.search.storage.local import LocalExperiment
from tests.integration.conftest import Run, start, workers_of
from tests.integration.test_resume import CONFIG, outcome, write_config
from tests.search.assertions import assert_all_ended

pytestmark = pytest.mark.faults

KILLS = 10
LONG: dict[str, Any] = {
    "data": {**CONFIG["data"], "reviews": 4000},
    "budget": {"trials": 12, "max_epochs": 8},
    "retries": 3 * KILLS,
}


def events_of(folder: LocalExperiment) -> list[Event]:
    return read(folder.ledger) if folder.ledger.exists() else []


def assert_complete(folder: LocalExperiment) -> None:
    """Check that every trial was created once, has ended, and did not fail."""
    created = [event.number for event in events_of(folder) if isinstance(event, TrialCreated)]
    state = folder.state()
    assert created == list(range(12))
    assert_all_ended(state, 12)
    assert state.count("failed") == 0


def unrecorded_epochs(folder: LocalExperiment) -> list[int]:
    """Return how many epochs the checkpoints of each trial are ahead of the ledger."""
    counts = []
    for trial in folder.state().trials:
        names = [path.name for path in (folder.path / "trials" / str(trial.number)).glob("epoch-*")]
        newest = max((int(name.removeprefix("epoch-")) for name in names), default=0)
        counts.append(newest - trial.epochs_done)
    return counts


@pytest.mark.parametrize("trials", [1, 4])
def test_a_search_survives_ten_kills_of_its_driver(
    trials: int, env: dict[str, str], address: str, celltune: Run, tmp_path: Path
) -> None:
    moments = np.random.default_rng(1)
    one_worker = {"concurrent_trials": trials, "trials_per_worker": trials}
    config = write_config(tmp_path / "c.yaml", **LONG, resources=one_worker)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    before: list[Event] = []
    for kill in range(KILLS):
        command = ("resume", "cut") if folder.path.exists() else ("launch", config)
        process = start(env, *command, "--address", address)
        if kill % 3:  # two of three while trials run, the third possibly during the start
            wait_for_events(folder, len(before), process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, 3.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        events = events_of(folder)
        assert events[: len(before)] == before
        before = events
        if before:
            assert set(unrecorded_epochs(folder)) <= {0, 1}
    done = celltune("resume", "cut", "--address", address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_complete(folder)
    undisturbed = celltune("launch", config, "--name", "undisturbed", "--address", address)
    assert undisturbed.returncode == 0
    assert outcome(folder) == outcome(LocalExperiment(folder.path.parent / "undisturbed"))


def wait_for_events(folder: LocalExperiment, known: int, process: subprocess.Popen[str]) -> None:
    """Wait until the ledger has two events more than `known`, or the process ends."""
    deadline = time.monotonic() + 120
    while len(events_of(folder)) < known + 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("trials", [1, 4])
def test_a_search_survives_ten_kills_of_workers(
    trials: int, env: dict[str, str], address: str, tmp_path: Path
) -> None:
    moments = np.random.default_rng(2)
    config = write_config(tmp_path / "c.yaml", **LONG, resources={"trials_per_worker": trials})
    process = start(env, "launch", config, "--address", address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    killed = 0
    while killed < KILLS and process.poll() is None:
        if events_of(folder) and (workers := workers_of(address)):
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, 2.0))
            with suppress(ProcessLookupError):
                os.kill(moments.choice(workers), signal.SIGKILL)
                killed += 1
        time.sleep(0.1)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert_complete(folder)
    assert killed >= KILLS // 2
    losses = sum(trial.losses for trial in folder.state().trials)
    assert 0 < losses <= killed * trials
    assert "Traceback" not in output


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


def test_a_search_survives_ten_kills_of_a_node(
    env: dict[str, str], cluster: Any, tmp_path: Path
) -> None:
    moments = np.random.default_rng(3)
    node = cluster.add_node(num_cpus=2)
    config = write_config(tmp_path / "c.yaml", **LONG)
    process = start(env, "launch", config, "--address", cluster.address)
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    wait_for_events(folder, 0, process)
    killed = 0
    while killed < KILLS and process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.5, 4.0))
        cluster.remove_node(node, allow_graceful=False)
        killed += 1
        node = cluster.add_node(num_cpus=2)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert_complete(folder)
    assert killed >= KILLS // 2
    assert "Traceback" not in output
