"""The command `celltune ensemble`."""

from __future__ import annotations

from typing import Annotated

import typer

from celltune.search.cli.commands import add_command
from celltune.search.cli.options import Storage, arguments_for, make_view
from celltune.search.cli.output import make_console, say, say_next, wrapped
from celltune.search.ensembles.wording import ensemble_sentences
from celltune.search.results.ensemble_table import members_table


def ensemble(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Experiments on the same data; the ensemble belongs to the first one.",
        ),
    ],
    size: Annotated[
        int, typer.Option(min=1, help="Number of selections; a model can be selected repeatedly.")
    ] = 8,
    trials_considered: Annotated[
        int, typer.Option(min=1, help="Number of best trials of each experiment to select from.")
    ] = 30,
    storage: Storage = None,
) -> None:
    """Select an ensemble: trained models whose probabilities are averaged.

    The models are selected by their predictions for the validation split, so nothing is trained and
    the test split is not read. The estimates are free of the bias of this selection.
    """
    from celltune.search.ensembles.ensemble import ensemble as select

    result = select(
        *names,
        size=size,
        trials_considered=trials_considered,
        storage=storage,
        progress=make_view().progress,
    )
    say(*(f"celltune: {note}" for note in result.notes), error=True)
    console, event = make_console(), result.selected
    console.print(members_table(event))
    wrapped(console, *ensemble_sentences(event))
    arguments = arguments_for(result.experiment)
    say_next(
        {
            f"celltune evaluate {arguments} --ensemble": "score it on the test split",
            f"celltune predict {arguments} TEXT --ensemble": "predict the class of a text",
            f"celltune export {arguments} --ensemble -o FOLDER": "a folder of its own",
        }
    )


def register(app: typer.Typer) -> None:
    """Add the command to the command table."""
    add_command(app, ensemble)
