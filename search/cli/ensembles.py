"""The command `celltune ensemble`."""

from __future__ import annotations

from typing import Annotated

import typer

from celltune.search.cli.commands import add_command
from celltune.search.cli.options import Storage, arguments_for, make_console, make_view, print_text
from celltune.search.ensembles.wording import (
    cost_sentence,
    gain_sentence,
    member_name,
    scores_sentence,
)
from celltune.search.ledger.events import EnsembleSelected
from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import counted, describe_params, loss_text, percent_text


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
    for note in result.notes:
        typer.echo(f"celltune: {note}", err=True)
    console, event = make_console(), result.selected
    console.print(members_table(event))
    print_text(
        console,
        f"Selected from {counted(event.candidates, 'model')} by the cross-entropy of "
        f"{counted(event.documents, 'validation document')}.",
    )
    for sentence in (scores_sentence(event), gain_sentence(event), cost_sentence(event)):
        print_text(console, sentence)
    arguments = arguments_for(result.experiment)
    print_text(
        console,
        "Next:\n"
        f"  celltune evaluate {arguments} --ensemble   score it on the test split\n"
        f"  celltune predict {arguments} --ensemble TEXT   predict the class of a text\n"
        f"  celltune export {arguments} --ensemble -o DIR   write it to a folder of its own",
    )


def members_table(event: EnsembleSelected) -> TextTable:
    """Return a table of the members of an ensemble, with the ensemble itself as the last row."""
    columns = [
        Column(title, right=title not in ("member", "hyperparameters"))
        for title in ("member", "epoch", "weight", "accuracy", "loss", "parameters")
    ]
    rows = [
        [
            member_name(member),
            str(member.epoch),
            f"{member.weight:.3f}",
            percent_text(member.valid_accuracy),
            loss_text(member.valid_loss),
            f"{member.parameters:,}",
            describe_params(member.params),
        ]
        for member in event.members
    ]
    scores, total = event.ensemble, sum(member.parameters for member in event.members)
    rows.append(
        [
            "ensemble",
            "",
            "1.000",
            percent_text(scores.accuracy),
            loss_text(scores.loss),
            f"{total:,}",
            "",
        ]
    )
    return TextTable([*columns, Column("hyperparameters")], rows)


def register(app: typer.Typer) -> None:
    """Add the command to the command table."""
    add_command(app, ensemble)
