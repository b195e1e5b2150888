"""A search in an object store that is killed and resumed from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from celltune.search.ledger.events import TrialCreated
from celltune.search.storage.locate import open_storage
from tests.integration.conftest import CELLTUNE, Run
from tests.integration.test_resume import write_config
from tests.search.assertions import assert_all_ended


def test_a_search_in_an_object_store_is_killed_and_resumed(
    bucket: str, env: dict[str, str], address: str, command: Run, tmp_path: Path
) -> None:
    env["CELLTUNE_STORAGE"] = bucket
    config = write_config(tmp_path / "c.yaml", budget={"trials": 4, "max_epochs": 4})
    driver = subprocess.Popen(
        [str(CELLTUNE), "launch", str(config), "--address", address],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = open_storage(bucket).experiment("cut")
    deadline = time.monotonic() + 120
    while driver.poll() is None and time.monotonic() < deadline:
        if folder.exists() and sum(trial.epochs_done for trial in folder.state().trials) >= 3:
            break
        time.sleep(0.1)
    assert folder.is_locked()
    rejected = command("resume", "cut")
    assert rejected.returncode == 2
    assert f"run by another process (pid {driver.pid} on" in rejected.stderr
    driver.send_signal(signal.SIGKILL)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == -signal.SIGKILL, output
    before = folder.events()
    assert command("status", "cut").stdout.startswith(f"cut: killed, stored in {folder.location}")

    resumed = command("resume", "cut")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    after = folder.events()
    assert after[: len(before)] == before
    assert [e.number for e in after if isinstance(e, TrialCreated)] == list(range(4))
    assert_all_ended(folder.state(), 4)
    assert folder.state().count("failed") == 0
    ranked = json.loads(command("leaderboard", "cut", "--format", "json").stdout)
    assert sorted(row["trial"] for row in ranked) == [0, 1, 2, 3]
    assert "finished" in command("list").stdout
    newest = folder.state().trials[ranked[0]["trial"]].epochs[-1].checkpoint
    assert newest is not None
    folder.checkpoints(ranked[0]["trial"]).load(newest)
