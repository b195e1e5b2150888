"""The table of the members of an ensemble."""

from __future__ import annotations

from celltune.search.ensembles.wording import member_name
from celltune.search.ledger.ensembles import total_parameters
from celltune.search.ledger.events import EnsembleSelected
from celltune.search.results.tables import Column, TextTable
from celltune.search.wording import (
    describe_params,
    distinguishing_params,
    loss_text,
    percent_text,
    varying_params,
)


def members_table(event: EnsembleSelected) -> TextTable:
    """Return a table of the members of an ensemble, with the ensemble itself as the last row."""
    columns = [
        Column(title, right=title not in ("member", "hyperparameters"))
        for title in ("member", "epoch", "weight", "accuracy", "loss", "parameters")
    ]
    varying = varying_params([member.params for member in event.members])
    rows = [
        [
            member_name(member),
            str(member.epoch),
            f"{member.weight:.3f}",
            percent_text(member.valid_accuracy),
            loss_text(member.valid_loss),
            f"{member.parameters:,}",
            describe_params(distinguishing_params(member.params, varying)),
        ]
        for member in event.members
    ]
    scores, total = event.ensemble, total_parameters(event.members)
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
