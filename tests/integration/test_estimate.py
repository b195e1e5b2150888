"""`celltune validate --estimate` trains in processes of its own, without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from tests.integration.test_resume import write_config


@pytest.mark.faults
def test_the_estimate_is_measured_in_other_processes(celltune: Run, tmp_path: Path) -> None:
    """Nothing in imported, where the data of somebody else may be."""
    for name in ("multiprocessing", "pickle", "numpy", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    config = write_config(tmp_path / "c.yaml", budget={"trials": 3, "max_epochs": 2})
    done = celltune("validate", config, "--estimate", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["estimate"]
    assert found["measured_trials"] == found["trials"] == 3
    assert found["worker_bytes"] > 10**8
    assert 0 < found["epoch_seconds"]["mean"] < found["seconds"]["mean"]
    text = celltune("validate", config, "--estimate")
    assert "duration     about" in text.stdout, text.stderr
