"""Searches that are copied, moved, or were begun under an earlier release, go on."""

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

pytestmark = pytest.mark.usefixtures("local_ray")

EARLIER = Path(__file__).parent / "earlier"
"""One folder a release: experiments that its driver left behind when it was killed."""


@pytest.fixture(autouse=True)
def _own_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(shared_cache))


@pytest.mark.parametrize("release", sorted(path.name for path in EARLIER.iterdir()))
def test_a_search_of_an_earlier_release_goes_on(release: str, tmp_path: Path) -> None:
    shutil.copytree(EARLIER / release, tmp_path / "renamed")
    folder = LocalExperiment(tmp_path / "renamed")
    before, began = read(folder.ledger), folder.state()
    assert began.count("unfinished") == 1
    state = resume("renamed", storage=tmp_path, changes=Changes(trials="+1")).state
    assert state.finished(5)
    assert state.count("failed") == 0
    assert read(folder.ledger)[: len(before)] == before


def test_data_that_moved_are_found_where_the_resume_says(tmp_path: Path) -> None:
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
    assert state.finished(2)
    assert state.count("completed") == 2


@pytest.mark.parametrize("override", ["space.cell=gru", "budget.trials=9", "seed=2", "database=1"])
def test_what_would_change_the_meaning_of_numbers_can_not_be_set(
    override: str, tmp_path: Path
) -> None:
    shutil.copytree(EARLIER / "0.1.0", tmp_path / "earlier")
    with pytest.raises(ConfigError, match=r"can't be set at a resume: .* --from earlier"):
        resume("earlier", storage=tmp_path, overrides=[override])
