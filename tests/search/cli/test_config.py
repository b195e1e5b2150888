"""`celltune config`, and the options --set, --unset and --time-budget of other commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from celltune.search.cli.app import app
from celltune.search.cli.config import OPTIONS
from celltune.search.cli.scores import commands as scores
from celltune.search.errors import OptionError
from tests.search.command_line import run
from tests.search.simulated_search import RAW


@pytest.fixture
def celltune(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "storage"))
    data = {"source": "synthetic", "reviews": 20}
    Path("x.yaml").write_text(yaml.safe_dump({**RAW, "data": data}))
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def test_a_key_is_explained(celltune: Any) -> None:
    code, out, _ = celltune("config", "explain", "data.max_tokens")
    assert code == 0
    assert out.splitlines() == [
        "data.max_tokens",
        "Longer documents are truncated to this number of tokens.",
        "",
        "Value:   a whole number of at least 1 and at most 10,000,000",
        "Default: 256",
        "Set:     in the config, or with --set data.max_tokens=256; resume and evaluate can set "
        "it, too, if the documents stay the same",
    ]
    _, out, _ = celltune("config", "explain", "space.cell")
    assert "Value:   one of the names or null, a choice or a range" in out
    assert "Names:   rnn, lstm, gru, gru_reset_before, mgu" in out
    assert "it cannot be changed after a launch" in out
    _, out, _ = celltune("config", "explain", "early_stopping.grace_period")
    assert "Read:    with early_stopping.rule asha" in out
    _, out, _ = celltune("config", "explain", "name")
    assert "Default: none, it is required" in out
    assert "--set name=VALUE, or with celltune launch --name NAME;" in out


def test_sections_and_the_whole_config_are_listed(celltune: Any) -> None:
    code, out, _ = celltune("config", "explain", "budget")
    assert code == 0
    assert out.splitlines()[:2] == ["budget", "The limits of the search."]
    assert "budget.trials          20       Number of trials." in out
    code, out, _ = celltune("config", "explain", "data.vectors")
    assert out.rstrip().endswith("Default: null, without this section.")
    code, out, _ = celltune("config", "explain")
    assert "name            required        Name of the experiment" in out
    assert "\nbudget.trials" not in out
    assert "celltune config explain SECTION" in out
    code, out, _ = celltune("config", "explain", "published.stand_in")
    assert "data.max_tokens" in out


def test_a_misspelled_key_is_rejected(celltune: Any) -> None:
    code, out, err = celltune("config", "explain", "data.max_token")
    assert (code, out) == (2, "")
    assert err == (
        "celltune: 'data.max_token' is not a key of a config. Did you mean 'data.max_tokens'?\n"
    )


def test_the_schema_is_json(celltune: Any) -> None:
    code, out, _ = celltune("config", "schema")
    assert code == 0
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_options_that_set_a_key_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for text in OPTIONS.values():
        _, command, option, *_ = text.split()
        assert any(option in parameter.opts for parameter in commands[command].params), text


def test_keys_can_be_removed_and_set(celltune: Any) -> None:
    assert "budget" in RAW
    code, out, err = celltune("launch", "x.yaml", "--dry-run", "--unset", "budget")
    assert code == 0, err
    assert "\n  trials: 20\n" in out
    code, out, err = celltune(
        "launch", "x.yaml", "--dry-run", "--set", "budget.trials=3", "--unset", "budget"
    )
    assert code == 0, err
    assert "\n  trials: 3\n" in out
    code, out, err = celltune("validate", "x.yaml", "--unset", "data.reviws")
    assert (code, out) == (2, "")
    assert "The key 'data.reviws' cannot be removed: data does not set 'reviws'. Did you" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-budget", "1:30"], "budget.time is '1:30', which can mean 90s or 90m. It must be"),
        (["--set", "budget.time=010"], "budget.time is '010'. It must be a number of seconds"),
        (["--set", "trial_timeout=1:30"], "trial_timeout is '1:30', which can mean 90s or 90m."),
        (["--set", "seed=010"], "Omit the leading zero, with which some read it as octal: 10."),
        (["--set", "name=on"], "name is true. It must be text. YAML reads yes, on and true with"),
        (["--set", "name=5"], "name is 5. It must be text. Put it in quotes: '5'."),
        (["--set", "data.path=a #1"], "--set contains 'data.path=a #1', whose value ends before"),
    ],
)
def test_values_that_yaml_reads_otherwise_are_reported(
    celltune: Any, arguments: list[str], message: str
) -> None:
    code, out, err = celltune("launch", "x.yaml", "--dry-run", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_date_is_a_name(celltune: Any) -> None:
    code, out, err = celltune("launch", "x.yaml", "--dry-run", "--set", "name=2024-01-31")
    assert code == 0, err
    assert "name: '2024-01-31'\n" in out


def test_the_time_limit_of_a_comparison_is_a_duration() -> None:
    assert scores._seconds("2m") == 120
    with pytest.raises(OptionError, match="`time_budget` is '1:30', which can mean 90s or 90m"):
        scores._seconds("1:30")
