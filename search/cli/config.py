"""Commands about configs: `celltune config explain` and `celltune config schema`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from celltune.search.cli.commands import Group, add_command
from celltune.search.cli.completion import complete_keys
from celltune.search.cli.output import emit, make_console, say, wrapped
from celltune.search.results.tables import Column, TextTable

if TYPE_CHECKING:
    from celltune.search.config.reference.keys import Key

config_app = typer.Typer(
    cls=Group,
    help="The keys of a config: what they mean, and a schema for editors.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

OPTIONS: dict[str, str] = {
    "name": "celltune launch --name NAME",
    "budget.trials": "celltune resume --trials N",
    "budget.max_epochs": "celltune resume --max-epochs N",
    "budget.target": "celltune resume --target VALUE",
    "budget.patience": "celltune resume --patience N",
    "budget.repeat": "celltune resume --repeat",
    "budget.time": "celltune launch --time-budget DURATION, and the same with resume",
}
"""Options of commands that set a key, too."""


def explain(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            help="A key or section, such as data.max_tokens or budget. Default: an overview.",
            autocompletion=complete_keys,
        ),
    ] = None,
) -> None:
    """Explain a key of a config: its type, default, allowed values, and where it can be set."""
    from celltune.search.config.reference.keys import config_keys, find_key

    keys = config_keys()
    if key is None:
        _show_keys(each for each in keys.values() if not each.section)
        say("", "Keys of a section: celltune config explain SECTION. All keys: docs/config.md.")
        return
    found = find_key(key, keys)
    lines = [found.path, found.help, ""]
    if found.is_section:
        wrapped(make_console(), *lines)
        section = found.same_as or found.path
        _show_keys(each for each in keys.values() if each.section == section)
        if found.default == "null":
            say("", "Default: null, without this section.")
        return
    facts = {
        "Value": found.kind + (", a choice or a range" if found.section == "space" else ""),
        "Names": ", ".join(found.names),
        "Default": "none, it is required" if found.required else found.default or "",
        "Read": found.condition,
        "Set": _where(found),
    }
    lines += [f"{title + ':':<9}{text}" for title, text in facts.items() if text]
    wrapped(make_console(), *lines)


def schema() -> None:
    """Print the JSON schema of configs, with which editors complete and check them.

    Save it, and begin a config with: # yaml-language-server: $schema=FILE
    """
    from celltune.search.config.reference.json_schema import config_schema

    emit(json.dumps(config_schema(), indent=2, ensure_ascii=False))


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    add_command(config_app, explain)
    add_command(config_app, schema)
    app.add_typer(config_app, name="config")


def _show_keys(keys: Iterable[Key]) -> None:
    rows = [
        (key.path, "required" if key.required else key.default or "", key.summary) for key in keys
    ]
    columns = [Column("key", wrap=False), Column("default"), Column("meaning")]
    make_console().print(TextTable(columns, rows))


def _where(key: Key) -> str:
    value = key.values[0] if key.values else "VALUE"
    text = f"in the config, or with --set {key.path}={value}"
    options = OPTIONS.get(key.path)
    later = "it cannot be changed after a launch"
    if key.changeable:
        same = ", if the documents stay the same" if key.path.startswith("data.") else ""
        later = f"resume and evaluate can set it, too{same}"
    return f"{text}{f', or with {options}' if options else ''}; {later}"
