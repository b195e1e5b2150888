"""Writes the pages that are made from the code.

docs/commands has a page for each command, made from the help that the command itself prints, and
docs/config.md lists the keys of a config.

Usage: python docs/make_pages.py (or make docs)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from celltune.search.cli.app import app
from celltune.search.config.reference.keys import Key, config_keys

COMMANDS = Path(__file__).parent / "commands"
INDEX = "README.md"
CONFIG = Path(__file__).parent / "config.md"

CONFIG_BEGINNING = """# The keys of a config

A config is a YAML file; `configs/` contains examples. `celltune config explain KEY` prints what
this page says about a key, and `celltune validate FILE` lists everything that is wrong in a file.

**Changes on the command line.** `--set data.max_tokens=100` sets a key for one command, with the
value written as in YAML, and `--unset data.test_path` removes one, so that its default counts.
The keys marked with † can also be set by `celltune resume` and `celltune evaluate`, as long as
the documents stay the same; the others are fixed by the launch.

**What YAML reads.** yes, no, on, off, true and false without quotes are truth values, and ` #`
begins a comment: put names, labels and paths that contain them in quotes. Numbers have no leading
zeros. Dates and times are texts, as they are written. A duration is a number of seconds, or a
number with a unit: 90s, 30m, 2h, 1d.

**In an editor.** `celltune config schema > celltune.schema.json` writes a JSON schema (draft
2020-12) of the installed version, with the settings of installed extensions. An editor with a
YAML language server completes and checks a config that begins with this line:

```yaml
# yaml-language-server: $schema=celltune.schema.json
```

**In the shell.** `celltune --install-completion` installs completion for bash, zsh, fish or
PowerShell: commands, options, names of experiments in folders, keys and values after `--set`, and
formats. `celltune --show-completion` prints the script.
"""


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


def config_page() -> str:
    """The page about the keys of a config, one table for each section."""
    keys = config_keys()
    parts = [CONFIG_BEGINNING, _table([key for key in keys.values() if not key.section])]
    for section in (key for key in keys.values() if key.is_section and not key.same_as):
        inside = [key for key in keys.values() if key.section == section.path]
        forms = " Each key is a value, a choice such as `[a, b]`, or, if it is a number, a range "
        forms += "such as `{low: 1, high: 9, log: true}` or `{low: 1, high: 9, step: 2}`."
        about = section.help + (forms if section.path == "space" else "")
        parts += [f"\n## {section.path}\n\n{_cell(about)}\n", _table(inside)]
    return "\n".join([*parts, "\nMade by `make docs` from the code.\n"])


def _table(keys: list[Key]) -> str:
    rows = []
    for key in keys:
        mark = " †" if key.changeable else ""
        names = ", ".join(f"`{name}`" for name in key.names)
        values = key.kind.replace("one of the names", names)
        values = f"as [{key.same_as}](#{key.same_as})" if key.same_as else values
        default = "required" if key.required else key.default or ""
        default = default if key.required or key.is_section else f"`{default}`"
        condition = f" (Read {key.condition}.)" if key.condition else ""
        cells = (f"`{key.name}`{mark}", values, default, f"{key.help}{condition}")
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


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
    CONFIG.write_text(config_page(), "utf-8")


if __name__ == "__main__":
    main()
