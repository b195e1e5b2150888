"""Hostile text in every output format of every command.

The formats are those of the command line itself: a command or format without a case fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from celltune.search.cli import app as cli
from celltune.search.cli.output import LONGEST_LINE
from celltune.search.storage.local import LocalExperiment
from tests.search.cli.untrusted_cases import CASES, Patch, Place
from tests.search.command_line import run
from tests.search.hostile_text import (
    EVERYTHING,
    HOSTILE,
    assert_safe_terminal,
    hostile_experiment,
    hostile_model,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        hostile_model(folder / "storage", folder / "cache", patch)
    hostile_experiment(folder / "storage")
    return folder


@pytest.fixture
def place(root: Path, tmp_path: Path, monkeypatch: Patch, capsys: Any) -> Place:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(root / "storage"))
    monkeypatch.setenv("CELLTUNE_CACHE", str(root / "cache"))
    monkeypatch.chdir(tmp_path)
    return Place(
        root,
        lambda *arguments: run(capsys, monkeypatch, *arguments),
        monkeypatch,
        LocalExperiment(root / "storage" / "small"),
    )


def commands(table: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in table.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_there_is_a_case_for_every_format_of_every_command(place: Place) -> None:
    found = set()
    for name, command in commands(typer.main.get_command(cli.app)):
        formats = ["text"]
        arguments = ["x" for parameter in command.params if parameter.param_type_name == "argument"]
        if any("--format" in parameter.opts for parameter in command.params):
            _, _, err = place.celltune(*name.split(), *arguments, "--format", "none")
            formats = re.findall(r"\w+", err.partition("Allowed: ")[2].partition(".")[0])
        elif name == "graph":
            _, _, err = place.celltune("graph", "x", "-o", "x.none")
            formats = re.findall(r"\w+", err.partition("Allowed: ")[2].partition(".")[0])
        if any("--json" in parameter.opts for parameter in command.params):
            formats.append("json")
        found |= {(name, form) for form in formats}
    assert found == set(CASES)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_no_format_lets_text_act(case: tuple[str, str], place: Place) -> None:
    CASES[case](place)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "hostile"),
        ("leaderboard", "hostile"),
        ("leaderboard", "hostile", "--format", "csv"),
        ("predict", "small", "--format", "csv", f"the plot {EVERYTHING}"),
        ("predict", "small", "--explain", f"the plot {EVERYTHING}"),
        ("status", HOSTILE[1]),
        (HOSTILE[1],),
        ("list", f"--{HOSTILE[1]}"),
    ],
    ids=lambda arguments: " ".join(arguments)[:20].partition("\x1b")[0],
)
def test_a_terminal_receives_no_codes_of_data(arguments: tuple[str, ...], place: Place) -> None:
    place.patch.setenv("TERM", "xterm-256color")
    place.patch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, err = place.celltune(*arguments)
    assert_safe_terminal(out)
    assert_safe_terminal(err)
    assert r"\x1b]8;;https://evil" in out + err


@pytest.mark.parametrize(
    ("arguments", "shown", "code"),
    [
        (("leaderboard", "hostile", "-o", "x\udcff.csv"), r"Wrote x\udcff.csv", 0),
        (("validate", "x\udcff.yaml"), r"x\udcff.yaml cannot be read", 2),
        (("predict", "./x\udcff", "text"), r"x\udcff", 2),
        (("predict", "small", "--file", "x\udcff.txt"), r"x\udcff.txt", 2),
        (("graph", "./x\udcff", "-o", "x.png"), r"x\udcff", 2),
    ],
)
def test_names_of_files_may_be_invalid_utf_8(
    arguments: tuple[str, ...], shown: str, code: int, place: Place
) -> None:
    assert shown in place.text(*arguments, code=code)


def test_a_name_of_any_length_makes_a_short_message(place: Place) -> None:
    message = place.text("status", "long" * 25_000, code=2)
    assert message.startswith("celltune: ")
    assert len(message) <= len("celltune: \n") + LONGEST_LINE
