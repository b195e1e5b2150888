"""The command `celltune predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from celltune.search.cli.commands import add_command
from celltune.search.cli.options import Ensemble, Overwrite, Storage, Trial

if TYPE_CHECKING:
    from celltune.search.bundles.predictor import TrainedModel

Texts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TEXT", help="Texts to classify. - reads standard input, one text per line."
    ),
]
File = Annotated[
    Path | None,
    typer.Option(
        help="A file of texts in any format that training reads, such as .csv, .jsonl, .xlsx "
        "or .parquet, or with one text per line. - reads standard input."
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(help="Name of the file's text column. Default: found by its name or content."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="Name of a column with the true labels; the accuracy is printed."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Copy this column of the file to the output; all copies every column. Can be "
        "repeated.",
    ),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="How the file is written, if it is not recognized: delimiter, quoting, header, "
        "encoding, sheet or format, as in data of a config. Can be repeated.",
    ),
]
Top = Annotated[
    int | None,
    typer.Option(min=1, help="Number of classes to show for each text. Default: 1."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write a file instead of standard output."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Output format: table, csv, jsonl, or parquet with -o. Default: that of the "
        "name of the output file, or table.",
    ),
]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain", help="Show the probability after each word of one text, and its n-grams."
    ),
]


def predict(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|DIR", help="An experiment or an exported folder."),
    ],
    texts: Texts = None,
    file: File = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    keep: Keep = None,
    read: Read = None,
    top: Top = None,
    output: Output = None,
    overwrite: Overwrite = False,
    form: Format = None,
    explain: Explain = False,
    trial: Trial = None,
    ensemble: Ensemble = False,
    storage: Storage = None,
) -> None:
    """Predict the class of each text and the probability of that class.

    A text without any word that the model knows cannot be classified, unless its wide part knows
    an n-gram of characters. If it is the only text, this
    is an error; among several texts, its label is empty and a note gives the reason.
    """
    from celltune.search.cli.prediction.classify import Request, classify

    request = Request(
        texts=tuple(texts or ()),
        file=file,
        text_column=text_column,
        label_column=label_column,
        keep=tuple(dict.fromkeys(keep or ())),
        read=tuple(read or ()),
        top=top,
        output=output,
        overwrite=overwrite,
        form=form,
        explain=explain,
    )
    classify(request, lambda: _load(source, trial, ensemble, storage))


def _load(source: str, trial: int | None, ensemble: bool, storage: str | None) -> TrainedModel:
    from celltune.search.bundles.export import load_model

    return load_model(source, trial=trial, ensemble=ensemble, storage=storage)


def register(app: typer.Typer) -> None:
    """Add the command to the command table."""
    add_command(app, predict)
