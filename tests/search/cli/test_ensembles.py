from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.search.command_line import run

Celltune = Callable[..., tuple[int, str, str]]


@pytest.fixture
def celltune(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Celltune:
    """Run commands on a copy of the trained experiment."""
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def test_the_command_shows_members_estimates_gain_and_cost(celltune: Celltune) -> None:
    code, out, err = celltune("ensemble", "small", "--size", 4)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == [
        *("member", "epoch", "weight", "accuracy", "loss", "parameters", "hyperparameters")
    ]
    members = [line for line in lines if line.startswith("trial ")]
    weights = [float(line.split()[3]) for line in members]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert any(line.split()[:2] == ["ensemble", "1.000"] for line in lines)
    assert f"The ensemble of 4 ({len(members)} model" in out
    assert "has an estimated validation accuracy of" in out
    assert "the best single trial" in out
    assert "parameters together; trial 0 has" in out
    assert "Selected from 2 models by the cross-entropy of" in out


@pytest.mark.parametrize("command", [["status"], ["leaderboard"]])
def test_results_show_the_ensemble_in_a_line_of_its_own(
    command: list[str], celltune: Celltune
) -> None:
    assert "ensemble of" not in celltune(*command, "small")[1]
    celltune("ensemble", "small")
    _, out, _ = celltune(*command, "small")
    assert sum("The ensemble of 8 (" in line for line in out.splitlines()) == 1


def test_machine_readable_leaderboards_contain_trials_only(celltune: Celltune) -> None:
    before = celltune("leaderboard", "small", "--format", "json")[1]
    celltune("ensemble", "small")
    assert celltune("leaderboard", "small", "--format", "json")[1] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "has no experiment 'none'"),
        (["small", "--size", "0"], "--size is '0'. It must be at least 1."),
    ],
)
def test_invalid_arguments_are_errors(
    arguments: list[str], message: str, celltune: Celltune
) -> None:
    code, _, err = celltune("ensemble", *arguments)
    assert code == 2
    assert message in err
