"""Writes docs/commands: a page for each command, made from the help that the command itself prints.

Usage: python docs/make_pages.py (or make docs)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from celltune.search.cli.app import app

COMMANDS = Path(__file__).parent / "commands"
INDEX = "README.md"


def pages() -> dict[str, str]:
    """The content of every page, by its file's name."""
    group = typer.main.get_command(app)
    found = dict(_pages(group, "celltune"))
    lines = ["# The commands", "", (group.help or "").strip(), ""]
    lines += [f"- [{title}]({name}): {about}" for name, (title, about, _) in found.items()]
    lines += ["", "Made by `make docs` from what `celltune COMMAND --help` prints.", ""]
    return {INDEX: "\n".join(lines), **{name: text for name, (_, _, text) in found.items()}}


def _pages(group: Any, path: str) -> list[tuple[str, tuple[str, str, str]]]:
    found = []
    for name, command in sorted(group.commands.items()):
        title = f"{path} {name}"
        if hasattr(command, "commands"):
            found += _pages(command, title)
            continue
        about = (command.help or "").strip()
        text = _page(title, command, about)
        file = f"{title.removeprefix('celltune ').replace(' ', '-')}.md"
        found.append((file, (title, about.splitlines()[0], text)))
    return found


def _page(title: str, command: Any, about: str) -> str:
    with command.make_context(title, [], resilient_parsing=True) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        arguments, options = [], []
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record is None:
                continue
            kind = arguments if parameter.param_type_name == "argument" else options
            kind.append((_cell(record[0]), _cell(record[1])))
    parts = [f"# {title}", f"```\n{title} {usage}\n```", about]
    for heading, rows in (("Arguments", arguments), ("Options", options)):
        if rows:
            table = [f"| `{name}` | {text} |" for name, text in rows]
            parts.append("\n".join([f"## {heading}\n", "| | |", "|---|---|", *table]))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write every page, and remove those of commands that are gone."""
    COMMANDS.mkdir(exist_ok=True)
    wanted = pages()
    for old in COMMANDS.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (COMMANDS / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
