"""Completions as a shell requests them, and what they import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from celltune.search.cli import completion
from celltune.search.cli.app import main
from celltune.search.cli.completion import complete_keys, complete_overrides, join_words
from tests.search.simulated_search import finished_search, make_config


def test_a_shell_gets_commands_experiments_and_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out.split()

    for name in ("first", "second"):
        finished_search(tmp_path, make_config(name=name))
    monkeypatch.setattr(sys, "argv", ["celltune"])
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path))
    monkeypatch.setenv("_CELLTUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("_CELLTUNE_KEY", "")
    assert complete("celltune la") == ["launch"]
    assert complete("celltune status ") == ["first", "second"]
    assert complete("celltune launch x.yaml --set data.keep = t") == ["tail"]
    assert complete("celltune leaderboard first --format l") == ["latex"]
    assert complete("celltune compare x --format c") == ["csv"]
    assert complete("celltune evaluate first --format j") == ["json"]


def test_completion_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from celltune.search.cli.completion import complete_overrides\n"
        "import celltune.search.cli.app\n"
        "assert complete_overrides('data.')\n"
        "print(*{'ray', 'torch', 'optuna', 'pandas', 'pyarrow', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("incomplete", "expected"),
    [
        ("data.vectors.t", ["data.vectors.train=", "data.vectors.tuned="]),
        ("data.vectors.tr", ["data.vectors.train=word2vec"]),
        ("budget.tri", ["budget.trials=20"]),
        ("data.keep=", ["data.keep=head", "data.keep=tail", "data.keep=both"]),
        ("baselines=", ["baselines=true", "baselines=false"]),
        ("nam", ["name="]),
        ("nothing", []),
        ("nothing=", []),
    ],
)
def test_keys_and_values_after_set(
    monkeypatch: pytest.MonkeyPatch, incomplete: str, expected: list[str]
) -> None:
    monkeypatch.delenv("_CELLTUNE_KEY", raising=False)
    assert [value for value, _ in complete_overrides(incomplete)] == expected


def test_experiments_are_those_of_the_given_storage(tmp_path: Path) -> None:
    class Context:
        params: dict[str, Any] = {"storage": str(tmp_path)}  # noqa: RUF012

    for name in ("first", "second"):
        finished_search(tmp_path, make_config(name=name))
    assert completion.complete_experiments(Context(), "s") == ["second"]


def test_keys_without_values() -> None:
    assert [key for key, _ in complete_keys("data.max")] == ["data.max_bytes", "data.max_tokens"]
    assert dict(complete_keys("budget.tri")) == {"budget.trials": "Number of trials."}


@pytest.mark.parametrize(
    ("words", "current", "joined", "key"),
    [
        (["celltune", "launch", "--set", "a", "=", "b"], 5, "celltune launch --set b", "a="),
        (["celltune", "launch", "--set", "a", "="], 4, "celltune launch --set ", "a="),
        (["celltune", "launch", "--set", "a", "=", ""], 5, "celltune launch --set ", "a="),
        (["celltune", "launch", "--set", "a", "=", "b", "c"], 6, "celltune launch --set a=b c", ""),
        (["celltune", "launch", "--set", "a", "x"], 3, "celltune launch --set a", ""),
        (["celltune", "a"], 1, "celltune a", ""),
        (["celltune"], 0, "celltune", ""),
    ],
)
def test_words_that_bash_divides_are_joined(
    monkeypatch: pytest.MonkeyPatch, words: list[str], current: int, joined: str, key: str
) -> None:
    monkeypatch.setenv("_CELLTUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(current))
    monkeypatch.setenv("_CELLTUNE_KEY", "")
    join_words()
    assert os.environ["COMP_WORDS"].split("\n") == joined.split(" ")
    assert os.environ["COMP_CWORD"] == str(joined.count(" "))
    assert os.environ["_CELLTUNE_KEY"] == key


def test_what_cannot_be_read_has_no_completions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context:
        params: dict[str, Any] = {"storage": "nowhere://x"}  # noqa: RUF012

    assert completion.complete_experiments(Context(), "") == []
    (tmp_path / "file").touch()
    Context.params = {"storage": str(tmp_path / "file")}
    assert completion.complete_experiments(Context(), "") == []
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.setenv("_CELLTUNE_COMPLETE", "complete_bash")
    join_words()
    assert "COMP_WORDS" not in os.environ
