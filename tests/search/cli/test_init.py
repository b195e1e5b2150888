"""`celltune init`, and data files in place of configs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from celltune.search.config.loading import load_config
from tests.search.command_line import run
from tests.search.setup.test_inspection import write_reviews

Celltune = Callable[..., tuple[int, str, str]]


@pytest.fixture
def celltune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Celltune:
    """Run a command in a folder with the file reviews.csv."""
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "reviews.csv")
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def test_init_writes_a_config_and_names_the_next_command(
    celltune: Celltune, tmp_path: Path
) -> None:
    code, out, err = celltune("init", "reviews.csv")
    assert (code, err) == (0, "")
    config = load_config(tmp_path / "reviews.yaml")
    assert config.data.classes == ("neg", "pos")
    assert str(config.data.path) == "reviews.csv"
    assert "  celltune launch reviews.yaml" in out
    assert "  budget           8 trials of up to 6 epochs  (about " in out
    assert "  data.max_tokens  32  (half of the texts have at most 5 tokens, " in out
    assert celltune("validate", "reviews.yaml")[0] == 0


def test_init_never_replaces_a_file_by_accident(celltune: Celltune, tmp_path: Path) -> None:
    path = tmp_path / "reviews.yaml"
    path.write_text("mine")
    code, _, err = celltune("init", "reviews.csv")
    assert code == 2
    assert "reviews.yaml already exists. Choose another name or set --overwrite." in err
    assert path.read_text() == "mine"
    assert celltune("init", "reviews.csv", "--overwrite")[0] == 0
    assert load_config(path).name == "reviews"
    assert celltune("init", "reviews.csv", "-o", "other.yaml", "--time", "30m")[0] == 0
    other = load_config(tmp_path / "other.yaml")
    assert (other.name, other.budget.time) == ("other", 1_800)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "none.csv"),
        (["reviews.csv", "--time", "soon"], "--time is 'soon'"),
        (["reviews.csv", "--time", "0s"], "--time "),
        (["reviews.csv", "-o", "no/such.yaml"], "The folder no does not exist"),
        (["reviews.csv", "--set", "budget.trials=3"], "--set sets budget.trials, but only keys of"),
        (["reviews.csv", "--set", "data.tokenizer=x"], "data.tokenizer: 'x' is not"),
        (["reviews.csv", "--test", "none.csv"], "none.csv"),
    ],
)
def test_invalid_input_of_init_writes_nothing(
    celltune: Celltune, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, _, err = celltune("init", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]


def test_what_is_set_is_not_shown_as_proposed(celltune: Celltune) -> None:
    _, out, _ = celltune("validate", "reviews.csv", "--set", "budget.trials=3")
    assert "  metric           valid_loss  " in out
    assert "8 trials" not in out
    assert "Plan: 3 trials" in out


def test_a_launch_checks_name_and_time_before_it_reads_the_data(celltune: Celltune) -> None:
    code, out, err = celltune("launch", "reviews.csv", "--name", "not a name")
    assert (code, out) == (2, "")
    assert "'not a name' is not a valid experiment name" in err
    code, out, err = celltune("launch", "reviews.csv", "--time-budget", "1:30")
    assert (code, out) == (2, "")
    assert "--time-budget is '1:30', which can mean 90s or 90m" in err


def test_a_data_file_stands_for_its_config(celltune: Celltune, tmp_path: Path) -> None:
    code, out, err = celltune("validate", "reviews.csv")
    assert (code, err) == (0, "")
    assert "reviews.csv is valid." in out
    arguments = ("--time-budget", "20m", "--name", "mine", "--set", "data.max_tokens=5")
    code, out, err = celltune("launch", "reviews.csv", "--dry-run", *arguments)
    assert (code, err) == (0, "")
    assert "name: mine" in out
    assert "max_tokens: 5" in out
    assert "time: 1200" in out
    code, out, err = celltune("launch", "reviews.csv", "--dry-run", "--unset", "data.keep")
    assert (code, err) == (0, "")
    assert "keep: head" in out
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]
