from __future__ import annotations

import pytest
import typer

from celltune.search.cli.app import app
from celltune.search.cli.commands import _invalid_value, name_options

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("launch", "Set `warm_start` or `overrides`.", "Set --from or --set."),
        ("compare", "`only` is 'a'.", "--only is 'a'."),
        ("resume", "`max_epochs` is 3.", "--max-epochs is 3."),
        ("evaluate", "`baselines` is set.", "--baselines is set."),
        ("leaderboard", "Set `output`; `names` is empty.", "Set --output; NAME is empty."),
        ("predict", "`source` has no `vocabulary`.", "NAME|DIR has no vocabulary."),
        ("export-study", "Set `storage` to a folder.", "Set --from to a folder."),
        ("export-study", "Set `study_storage`.", "Set --storage."),
        ("validate", "Use `data.missing: drop`.", "Use --set data.missing=drop."),
        ("validate", "`data.classes: [a, 'b c']`.", "--set \"data.classes=[a, 'b c']\"."),
        ("validate", "`data.classes: ['$', b]`", """--set 'data.classes=['"'"'$'"'"', b]'"""),
        ("stop", "Use `data.missing: drop`.", "Use data.missing: drop."),
        ("resume", "Launch with `warm_start` 'a'.", "Launch with --from 'a'."),
    ],
)
def test_errors_name_the_options_of_the_command(command: str, message: str, shown: str) -> None:
    assert name_options(message, COMMANDS[command].params) == shown


def test_an_invalid_value_that_typer_describes_itself_is_a_sentence() -> None:
    error = typer.BadParameter("0 is not in the range x>=1.", param_hint="--top")
    assert _invalid_value(error) == "Invalid value for --top: 0 is not in the range x>=1."


def test_the_help_shows_whole_sentences_and_begins_with_the_first_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    app(["--help"], standalone_mode=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    listed = out.partition("Commands:\n")[2]
    assert "..." not in listed
    assert listed.startswith("  init ")
    names = {line.split()[0] for line in listed.splitlines() if line[2:3].strip()}
    assert names >= {*COMMANDS}
