"""The command `celltune init`, and data sets in place of configs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from celltune.search.cli.commands import add_command
from celltune.search.cli.options import Overrides, Overwrite, shown_progress
from celltune.search.cli.output import (
    check_output_free,
    make_console,
    say,
    say_next,
    wrapped,
    write,
)
from celltune.search.config.overrides import REMOVE, apply_overrides, key_of
from celltune.search.errors import OptionError
from celltune.search.runs.view import View

if TYPE_CHECKING:
    from celltune.search.setup.inspection import Inspection


DataFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="The labelled texts: a file, a folder or, in quotes, a pattern of several files.",
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Time for the search, which stops then: 90s, 30m or 2h. Default: a search of the "
        "usual size, if it takes at most about 10m, and no limit.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE.yaml", help="The config. Default: named after FILE."
    ),
]


def init(
    file: DataFile,
    test: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The test split. Default: a tenth of the texts."),
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The validation split. Default: a fifth or a tenth of the texts."
        ),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Texts without labels, to learn word vectors from."),
    ] = None,
    time: Time = None,
    output: Output = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Read labelled texts and write a config for them, with the reason of each choice."""
    from celltune.search.setup.inspection import experiment_name

    name = experiment_name(str(output or file))
    target = output or Path(f"{name}.yaml")
    check_output_free(target, overwrite)
    for override in overrides or ():
        if not _is_about_data(override):
            raise OptionError(
                f"`overrides` sets {key_of(override)}, but only keys of data say how the file is "
                f"read. Change the others in {target}."
            )
    files = {"path": file, "test_path": test, "valid_path": valid, "unlabelled": unlabelled}
    given = {key: path for key, path in files.items() if path is not None}
    with shown_progress() as view:
        inspection = _inspected(given, overrides or (), view, name=name, time=time)
    wrapped(make_console(), *inspection.warnings)
    write(target, inspection.proposal.yaml, overwrite)
    shown = shlex.quote(str(target))
    say(f"Wrote {target}: the config, with the reason of each choice.")
    say_next(
        {
            f"celltune launch {shown}": "run the search",
            f"celltune validate {shown}": "show what it trains on, such as after a change",
        }
    )


def config_for(
    path: Path,
    overrides: Sequence[str],
    view: View,
    *,
    name: str | None = None,
    time: str | None = None,
) -> Path | Mapping[str, Any]:
    """Return the config that a command's argument names, or the proposal for a data set.

    Args:
        path: a YAML file, or a data set.
        overrides: of the command; for a data set, those of `data` are given and not proposed.
        view: shows what was inferred and proposed.
        name: of the experiment; None for a name after the file.
        time: for the search.

    Raises:
        InputError: an override or the data is invalid.
    """
    from celltune.search.setup.inspection import is_data

    if not is_data(path):
        return path
    return proposal_for({"path": str(path)}, overrides, view, name=name, time=time)


def proposal_for(
    data: Mapping[str, Any],
    overrides: Sequence[str],
    view: View,
    *,
    name: str | None = None,
    time: str | float | None = None,
) -> Mapping[str, Any]:
    """Return the proposal for a data set, as plain values of a config.

    Args:
        data: keys of the section `data`; at least `path`.
        overrides: see `config_for`.
        view: see `config_for`.
        name: see `config_for`.
        time: for the search, in seconds or with a unit.

    Raises:
        InputError: an override or the data is invalid.
    """
    return _inspected(data, overrides, view, name=name, time=time).proposal.values


def register(app: typer.Typer) -> None:
    """Add the command to the command table."""
    add_command(app, init)


def _is_about_data(override: str) -> bool:
    return f"{key_of(override)}.".startswith("data.")


def _inspected(
    data: Mapping[str, Any],
    overrides: Sequence[str],
    view: View,
    *,
    name: str | None,
    time: str | float | None,
) -> Inspection:
    """Inspect a data set and say what was inferred and proposed."""
    from celltune.search.setup.inspection import propose

    content: dict[str, Any] = {"data": dict(data)}
    # What is removed may be a key of the proposal, and is removed from it later.
    of_data = [each for each in overrides if _is_about_data(each) and not each.startswith(REMOVE)]
    apply_overrides(content, of_data)
    inspection = propose(content["data"], name=name, time=time, progress=view.progress)
    # The proposal depends on the time.
    given = {key_of(override) for override in overrides} - {"budget.time"}
    for line in (*inspection.inferred.lines(), *inspection.proposal.lines(given)):
        view.message(line)
    return inspection
