"""Resuming experiments that were copied, moved, or created by an earlier release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from celltune.search.errors import ConfigError
from celltune.search.ledger.ledger import read
from celltune.search.runs.launch import launch, resume
from celltune.search.storage.local import LocalExperiment
from celltune.search.tuning.budget_changes import Changes
from tests.integration.test_engine import CONFIG
from tests.search.assertions import assert_all_ended

pytestmark = pytest.mark.usefixtures("local_ray")

EARLIER = Path(__file__).parent / "earlier"
"""One folder per release: an experiment whose driver was killed."""


@pytest.fixture(autouse=True)
def _shared_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(shared_cache))


@pytest.mark.parametrize("release", sorted(path.name for path in EARLIER.iterdir()))
def test_an_experiment_of_an_earlier_release_is_resumed(release: str, tmp_path: Path) -> None:
    shutil.copytree(EARLIER / release, tmp_path / "renamed")
    folder = LocalExperiment(tmp_path / "renamed")
    before, state = read(folder.ledger), folder.state()
    assert state.count("unfinished") == 1
    state = resume("renamed", storage=tmp_path, changes=Changes(trials="+1")).state
    assert_all_ended(state, 5)
    assert state.count("failed") == 0
    assert read(folder.ledger)[: len(before)] == before


def test_moved_data_and_a_moved_storage_are_found(tmp_path: Path) -> None:
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    lines = [f"good film number {n},1\nbad film number {n},0" for n in range(60)]
    here.write_text("text,label\n" + "\n".join(lines))
    config = {**CONFIG, "data": {"source": "csv", "path": str(here)}}
    launch({**config, "budget": {"trials": 1, "max_epochs": 1}}, storage=tmp_path / "a")
    here.rename(there)
    (tmp_path / "a").rename(tmp_path / "b")
    more = Changes(trials=2)
    moved = [f"data.path={there}", "resources.concurrent_trials=1"]
    state = resume("demo", storage=tmp_path / "b", changes=more, overrides=moved).state
    assert_all_ended(state, 2)
    assert state.count("completed") == 2


@pytest.mark.parametrize("override", ["space.cell=gru", "budget.trials=9", "seed=2", "database=1"])
def test_a_resume_rejects_overrides_of_keys_that_cannot_change(
    override: str, tmp_path: Path
) -> None:
    shutil.copytree(EARLIER / "0.1.0", tmp_path / "earlier")
    with pytest.raises(ConfigError, match=r"which cannot be changed after the launch\. Keys that"):
        resume("earlier", storage=tmp_path, overrides=[override])
