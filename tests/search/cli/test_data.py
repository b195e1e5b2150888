from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from celltune.data_prep.cache import ray_store as store
from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.cli.app import app

SAMPLE = str(Path(__file__).parents[3] / "configs" / "sample.yaml")
SMALL = ["--set", "data.reviews=60"]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path))
    return tmp_path


def test_prepare_fills_what_the_list_shows_and_clear_empties() -> None:
    assert "Nothing is prepared" in run("cache", "list")
    said = run("prepare", SAMPLE, *SMALL, "--set", "data.test_size=0.2", "--test")
    assert "Prepared 36 reviews to train on and 12 to validate on" in said
    assert "Prepared 12 reviews of the test part. Their text stands also in: train" in said
    listed = run("cache", "list")
    assert "synthetic, 36 train, 12 valid" in listed
    assert "a test part, 12 reviews" in listed
    assert "Removed 2 of" in run("cache", "clear")
    assert "Nothing is prepared" in run("cache", "list")


def test_downloads_are_not_looked_for_in_a_cluster() -> None:
    done = CliRunner().invoke(app, ["cache", "clear", "--downloads", "--address", "auto"])
    assert done.exit_code == 2
    assert "downloads lie on this machine" in done.output


@pytest.mark.usefixtures("local_ray")
def test_the_memory_of_a_cluster_is_listed_and_cleared(cache: Path) -> None:
    store.clear()
    data = prepare(DataConfig(source="synthetic", reviews=60), cache_dir=cache)
    with store.published(data):
        assert run("cache", "list", "--address", "auto").splitlines()[2].split()[-1] == "1"
        said = run("cache", "clear", "--address", "auto", data.fingerprint[:12])
        assert f"Kept what searches use: {data.fingerprint[:12]}" in said
    listed = run("cache", "list", "--address", "auto")
    assert data.fingerprint[:12] in listed
    assert f"Removed 1 of the cluster at auto: {data.fingerprint[:12]}" in run(
        "cache", "clear", "--address", "auto"
    )
    assert "holds no prepared sets" in run("cache", "list", "--address", "auto")
    assert data.fingerprint[:12] in run("cache", "list")
