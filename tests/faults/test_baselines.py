"""SIGKILL of the driver while the baselines of its search are measured."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from celltune.search.baselines.linear import BASELINES
from celltune.search.ledger.events import BaselineValidated
from celltune.search.ledger.ledger import read
from celltune.search.storage.local import LocalExperiment
from tests.integration.conftest import Run, start, wait_until
from tests.integration.test_resume import CONFIG, write_config
from tests.search.assertions import assert_all_ended

pytestmark = pytest.mark.faults


def test_a_resume_measures_what_a_killed_search_has_not(
    env: dict[str, str], address: str, celltune: Run, tmp_path: Path
) -> None:
    changes = {
        "data": {**CONFIG["data"], "reviews": 20_000},
        "budget": {"trials": 4, "max_epochs": 6},
        "baselines": True,
    }
    process = start(
        env, "launch", write_config(tmp_path / "c.yaml", **changes), "--address", address
    )
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    wait_until(lambda: bool(measured(folder)) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    before = measured(folder)
    assert 0 < len(before) < len(BASELINES), output
    done = celltune("resume", "cut", "--address", address)
    assert done.returncode == 0, done.stdout + done.stderr
    after = measured(folder)
    assert after[: len(before)] == before
    assert [event.name for event in after] == list(BASELINES)
    assert_all_ended(folder.state(), 4)


def measured(folder: LocalExperiment) -> list[BaselineValidated]:
    events = read(folder.ledger) if folder.ledger.exists() else []
    return [event for event in events if isinstance(event, BaselineValidated)]
