"""The commands about a finished model: ``celltune export | predict | graph``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from celltune.search.cli import output_files as outputs
from celltune.search.cli.options import Name, Overrides, Storage, make_console, make_view
from celltune.search.errors import OptionError
from celltune.search.wording import describe_params, metric_text

if TYPE_CHECKING:
    from celltune.search.bundles.predictor import TrainedModel
    from celltune.search.cli.prediction_output import Row

Trial = Annotated[
    int | None,
    typer.Option(min=0, help="Which trial of the experiment; the leader if not given."),
]


def export(
    name: Name,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write: a new or an empty one.")
    ],
    trial: Trial = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write model.onnx as well; needs the extra celltune[onnx]."),
    ] = False,
    storage: Storage = None,
) -> None:
    """Write a trial's model into a folder of its own.

    The folder holds the weights of the trial's best epoch (safetensors), config, vocabulary, a
    model card with the numbers, the data's terms, and a manifest with checksums. It needs neither
    the experiment nor its data.
    """
    from celltune.search.bundles.export import export as write

    taken = write(
        name, output, trial=trial, onnx=onnx, storage=storage, progress=make_view().progress
    )
    metric = taken.config.metric
    typer.echo(
        f"Wrote trial {taken.trial.number} of {name} ({describe_params(taken.trial.params)}) after "
        f"epoch {taken.epoch.epoch} to {output}: {metric} "
        f"{metric_text(metric, taken.epoch.metrics[metric])}."
    )
    typer.echo(
        "Next:\n"
        f"  celltune predict {_folder_argument(output)} TEXT   label and probability\n"
        f"  {output / 'README.md'}   the model card, with the data's terms"
    )


def _folder_argument(path: Path) -> str:
    text = str(path)
    return shlex.quote(text if "/" in text else f"./{text}")


def predict(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|DIR", help="An experiment, or the folder that celltune export wrote."
        ),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT", help="What to classify; - reads standard input, a text a line."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A file of texts: .csv, .tsv, .jsonl, .parquet, or .txt with a text a line; - is "
            "standard input."
        ),
    ] = None,
    text_column: Annotated[
        str, typer.Option(help="The column of the file that holds the text.")
    ] = "text",
    form: Annotated[str, typer.Option("--format", help="One of: table, csv, jsonl.")] = "table",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show how the probability moves word by word; one text."),
    ] = False,
    trial: Trial = None,
    storage: Storage = None,
) -> None:
    """Classify texts with a trained model: label and probability.

    A single text that can't be answered (no word, or none that the model knows) is an error. Among
    several, and in a file, it gets an empty label and a note, and the others are answered.
    """
    from celltune.search.cli.prediction_output import FORMATS
    from celltune.search.results.formats import check_format

    check_format(form, FORMATS)
    given = list(texts or ())
    if explain and (file is not None or len(given) != 1 or given == ["-"]):
        raise OptionError("--explain takes one text: celltune predict NAME TEXT --explain")
    asked = _asked(given, file, text_column)
    from celltune.search.bundles.export import load_model

    model = load_model(source, trial=trial, storage=storage)
    if explain:
        _explain(model, given[0], form)
    elif len(given) == 1 and given != ["-"]:
        _print([(1, model.predict_one(given[0]), given[0])], form, header=form == "csv")
    else:
        _answer_all(model, asked, form)


def _asked(given: Sequence[str], file: Path | None, column: str) -> Iterator[str]:
    from celltune.search.cli.prediction_input import STANDARD_INPUT, lines_of, texts_of

    if bool(given) == (file is not None):
        raise OptionError(
            "Give texts, or a file with --file, and not both; - reads standard input."
        )
    if list(given) == [STANDARD_INPUT] or (file is not None and str(file) == STANDARD_INPUT):
        return lines_of(sys.stdin.buffer)
    return texts_of(file, column) if file is not None else iter(given)


def _print(rows: Sequence[Row], form: str, *, header: bool) -> None:
    from celltune.search.cli.prediction_output import FORMATS

    typer.echo(FORMATS[form](rows, header))


def _answer_all(model: TrainedModel, texts: Iterator[str], form: str) -> None:
    from celltune.search.cli.prediction_input import blocks

    done = without = 0
    for block in blocks(texts):
        found = model.predict(block)
        rows = list(zip(range(done + 1, done + len(block) + 1), found, block, strict=True))
        _print(rows, form, header=done == 0)
        done += len(block)
        without += sum(each.label is None for each in found)
    if not done:
        raise OptionError("There is no text to classify: the input is empty.")
    if without:
        typer.echo(f"{without:,} of {done:,} texts have no answer; their notes say why.", err=True)


def _explain(model: TrainedModel, text: str, form: str) -> None:
    from celltune.search.cli import prediction_output as answers_out

    found = model.explain(text)
    if form == "csv":
        typer.echo(answers_out.explained_as_csv(found))
    elif form == "jsonl":
        typer.echo(answers_out.explained_as_jsonl(found))
    else:
        console = make_console()
        console.print(answers_out.heading(found), highlight=False)
        if console.is_terminal and len(found.steps) > answers_out.LARGEST_STEPS:
            console.print(answers_out.coloured(found))
            console.print(answers_out.LEGEND, style="dim", highlight=False)
            console.print("\nThe largest changes:")
            console.print(answers_out.step_table(found, largest=answers_out.LARGEST_STEPS))
        else:
            console.print(answers_out.step_table(found))


def graph(
    source: Annotated[
        str, typer.Argument(metavar="CONFIG|NAME", help="A YAML file, or an experiment.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write: .png, .svg or .pdf.")
    ],
    trial: Trial = None,
    overrides: Overrides = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over a file that exists already.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Draw a model: its layers with their shapes and weights, from text to probability.

    Of a config whose space is searched, one model is drawn: the first of each choice and the middle
    of each range. --set fixes what should be another. Needs the extra celltune[graph].
    """
    from celltune.search.bundles.diagram import check_picture_format, diagram

    outputs.check_output_free(output, overwrite)
    picture_format = output.suffix.removeprefix(".").lower()
    check_picture_format(picture_format)
    drawing = diagram(source, trial=trial, overrides=overrides or (), storage=storage)
    outputs.write(output, drawing.render(picture_format), overwrite)
    typer.echo(f"Drew {drawing.title} to {output}.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    for command in (export, predict, graph):
        app.command()(command)
