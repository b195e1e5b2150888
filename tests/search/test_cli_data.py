from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from search.cli import app

SAMPLE = str(Path(__file__).parents[2] / "configs" / "sample.yaml")
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
    assert "Prepared 12 reviews of the test part" in said
    listed = run("cache", "list")
    assert "synthetic, 36 train, 12 valid" in listed
    assert "a test part, 12 reviews" in listed
    assert "Removed 2 of" in run("cache", "clear")
    assert "Nothing is prepared" in run("cache", "list")
