"""The command `celltune predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from celltune.search.cli.commands import add_command
from celltune.search.cli.options import Ensemble, Storage, Trial
from celltune.search.cli.output import emit, make_console, say, wrapped
from celltune.search.errors import OptionError
from celltune.search.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from celltune.search.bundles.predictor import Explanation, TrainedModel
    from celltune.search.cli.prediction.output import Row


def predict(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|DIR", help="An experiment or an exported folder."),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT", help="Texts to classify. - reads standard input, one text per line."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="File of texts: .csv, .tsv, .jsonl, .parquet, or .txt with one text per line. "
            "- reads standard input."
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Name of the file's text column.")] = "text",
    form: Annotated[
        str, typer.Option("--format", help="Output format: table, csv or jsonl.")
    ] = "table",
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show the probability after each word of one text, and its n-grams."
        ),
    ] = False,
    trial: Trial = None,
    ensemble: Ensemble = False,
    storage: Storage = None,
) -> None:
    """Predict the class of each text and the probability of that class.

    A text without any word that the model knows cannot be classified, unless its wide part knows
    an n-gram of characters. If it is the only text, this
    is an error; among several texts, its label is empty and a note gives the reason.
    """
    from celltune.search.cli.prediction.output import FORMATS
    from celltune.search.results.formats import check_format

    check_format(form, FORMATS)
    given = list(texts or ())
    if explain and (file is not None or len(given) != 1 or given == ["-"]):
        texts_from = "standard input" if given == ["-"] else counted(len(given), "text")
        if file is not None:
            texts_from = "a file"
        raise OptionError(
            f"`explain` was given with {texts_from}. Give exactly one text as an argument."
        )
    to_classify = _texts(given, file, text_column)
    from celltune.search.bundles.export import load_model

    model = load_model(source, trial=trial, ensemble=ensemble, storage=storage)
    if explain:
        _explain(model, given[0], form)
    elif len(given) == 1 and given != ["-"]:
        _print([(1, model.predict_one(given[0]), given[0])], form, header=form == "csv")
    else:
        _predict_all(model, to_classify, form)


def _texts(given: Sequence[str], file: Path | None, column: str) -> Iterator[str]:
    from celltune.search.cli.prediction.input import STANDARD_INPUT, read_lines, read_texts

    if bool(given) == (file is not None):
        problem = "Both texts and `file` were given" if given else "No text was given"
        raise OptionError(f"{problem}. Give texts, or `file`, or - for standard input.")
    if list(given) == [STANDARD_INPUT] or (file is not None and str(file) == STANDARD_INPUT):
        return read_lines(sys.stdin.buffer)
    return read_texts(file, column) if file is not None else iter(given)


def _print(rows: Sequence[Row], form: str, *, header: bool) -> None:
    from celltune.search.cli.prediction.output import FORMATS

    emit(FORMATS[form](rows, header))


def _predict_all(model: TrainedModel, texts: Iterator[str], form: str) -> None:
    from celltune.search.cli.prediction.input import blocks

    done = unclassified = 0
    for block in blocks(texts):
        predictions = model.predict(block)
        numbers = range(done + 1, done + len(block) + 1)
        rows = list(zip(numbers, predictions, block, strict=True))
        _print(rows, form, header=done == 0)
        done += len(block)
        unclassified += sum(prediction.label is None for prediction in predictions)
    if not done:
        raise OptionError("The input contains no text to classify.")
    if unclassified:
        say(
            f"{unclassified:,} of {done:,} texts could not be classified; see their notes.",
            error=True,
        )


def _explain(model: TrainedModel, text: str, form: str) -> None:
    from celltune.search.cli.prediction import output

    explanation = model.explain(text)
    if form == "csv":
        emit(output.explained_as_csv(explanation))
    elif form == "jsonl":
        emit(output.explained_as_jsonl(explanation))
    else:
        console = make_console()
        wrapped(console, *output.heading(explanation))
        if explanation.steps:
            _print_steps(console, explanation)
        if model.wide is not None:
            wrapped(console, "", output.ngram_heading(explanation))
            console.print(output.ngram_table(explanation))


def _print_steps(console: Console, explanation: Explanation) -> None:
    from celltune.search.cli.prediction import output

    if console.is_terminal and len(explanation.steps) > output.LARGEST_STEPS:
        console.print(output.coloured(explanation))
        console.print(output.LEGEND, style="dim")
        wrapped(console, "", "Largest changes:")
        largest = output.LARGEST_STEPS
        console.print(output.step_table(explanation, largest=largest))
    else:
        console.print(output.step_table(explanation))


def register(app: typer.Typer) -> None:
    """Add the command to the command table."""
    add_command(app, predict)
