"""What commands that run a search print at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.cli.run import _shown_config
from tests.search.command_line import run
from tests.search.simulated_search import RAW, finished_search, make_config


@pytest.mark.parametrize(
    ("data", "has_test"),
    [
        ({}, False),
        ({"test_size": 0.2}, True),
        ({"source": "imdb"}, True),
        ({"source": "csv", "path": "a.csv", "test_path": "b.csv"}, True),
    ],
)
def test_the_next_commands_contain_evaluate_if_there_is_a_test_split(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, object],
    has_test: bool,
) -> None:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path))
    described = data if "source" in data else {**RAW["data"], **data}
    finished_search(tmp_path, make_config(name="demo", data=described))
    code, out, err = run(capsys, monkeypatch, "resume", "demo")
    assert code == 0, err
    following = out.partition("Next:\n")[2].splitlines()
    assert following[0].startswith("  celltune leaderboard demo  ")
    evaluate = (
        "  celltune evaluate demo --top 1 --seeds 2   retrain the best trial, read the test split"
    )
    assert any(line.startswith(evaluate) for line in following) is has_test


def test_a_dry_run_shows_the_names_of_few_classes_only() -> None:
    def shown(count: int) -> list[str]:
        names = [f"c{index}" for index in range(count)]
        return _shown_config(make_config(data={"path": "r.csv", "classes": names}))

    assert "  - c19" in shown(20)
    assert "  classes: null  # 1,000 classes, which are not shown" in shown(1_000)
    assert not any("c19" in line for line in shown(21))
