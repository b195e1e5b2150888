"""Commands for a trained model: `celltune export`, `predict` and `graph`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from celltune.search.cli import output as outputs
from celltune.search.cli.commands import add_command
from celltune.search.cli.options import (
    Name,
    Overrides,
    Overwrite,
    Storage,
    make_view,
)
from celltune.search.cli.output import emit, make_console, say, wrapped
from celltune.search.errors import OptionError
from celltune.search.wording import (
    counted,
    describe_params,
    distinguishing_params,
    metric_text,
    percent_text,
    trial_label,
)

if TYPE_CHECKING:
    from rich.console import Console

    from celltune.search.bundles.predictor import Explanation, TrainedModel
    from celltune.search.cli.prediction_output import Row

Trial = Annotated[
    int | None,
    typer.Option(min=0, help="Number of the trial. Default: the best trial."),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble", help="Use the ensemble of the experiment instead; see celltune ensemble."
    ),
]


def export(
    name: Name,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to create; it may exist if it is empty.")
    ],
    trial: Trial = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Also write model.onnx. Needs celltune[onnx]."),
    ] = False,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline", help="Export a linear model on n-grams instead of the model of a trial."
        ),
    ] = False,
    ensemble: Ensemble = False,
    storage: Storage = None,
) -> None:
    """Export the model of a trial, or an ensemble, as a self-contained folder.

    The folder contains the weights of the trial's best epoch and its wide part (safetensors), the
    config, the vocabulary, a model card with the scores and the data's licence, and a manifest with
    checksums. Prediction needs neither the experiment nor its data.
    """
    if baseline and ensemble:
        raise OptionError("`baseline` and `ensemble` were given, which are two models. Omit one.")
    if baseline:
        _export_baseline(name, output, trial, onnx, storage)
    elif ensemble:
        _export_ensemble(name, output, trial, onnx, storage)
    else:
        _export_trial(name, output, trial, onnx, storage)
    say(
        "Next:",
        f"  celltune predict {_folder_argument(output)} TEXT   predict the class of a text",
        f"  {output / 'README.md'}   the model card, with the data's licence",
    )


def _export_trial(
    name: str, output: Path, trial: int | None, onnx: bool, storage: str | None
) -> None:
    from celltune.search.bundles.export import export as write

    exported = write(
        name, output, trial=trial, onnx=onnx, storage=storage, progress=make_view().progress
    )
    metric = exported.config.metric
    params = distinguishing_params(exported.trial.params, exported.config.varied)
    label = trial_label(exported.beats_majority, exported.beats_wide)
    say(
        f"Exported trial {exported.trial.number} of {name} "
        f"({describe_params(params)}), epoch {exported.epoch.epoch}, to {output}: {metric} "
        f"{metric_text(metric, exported.epoch.metrics[metric])}{label and f', {label}'}."
    )


def _export_baseline(
    name: str, output: Path, trial: int | None, onnx: bool, storage: str | None
) -> None:
    if trial is not None or onnx:
        given = "trial" if trial is not None else "onnx"
        raise OptionError(
            f"`baseline` exports a linear model, which is no trial and has no ONNX form. Omit "
            f"`{given}`."
        )
    from celltune.search.bundles.linear import export_linear
    from celltune.search.bundles.linear_card import versus_best_trial

    model = export_linear(name, output, storage=storage, progress=make_view().progress)
    say(
        f"Exported the linear model of {name} to {output}: validation accuracy "
        f"{percent_text(model.valid_accuracy)}."
    )
    if sentence := versus_best_trial(model):
        say(sentence)


def _export_ensemble(
    name: str, output: Path, trial: int | None, onnx: bool, storage: str | None
) -> None:
    from celltune.search.bundles.ensemble_export import export_ensemble
    from celltune.search.bundles.ensemble_model import check_no_trial
    from celltune.search.ensembles.wording import ensemble_title, gain_sentence

    check_no_trial(trial)
    if onnx:
        raise OptionError(
            "`onnx` was given with `ensemble`, but an ensemble has no ONNX form. Omit `onnx`, or "
            "export a trial."
        )
    exported = export_ensemble(name, output, storage=storage, progress=make_view().progress)
    selected = exported.selected
    say(
        f"Exported the {ensemble_title(selected)} of {name} to {output}: estimated validation "
        f"accuracy {percent_text(selected.ensemble.estimated_accuracy)}. {gain_sentence(selected)}"
    )


def _folder_argument(path: Path) -> str:
    text = str(path)
    return shlex.quote(text if "/" in text else f"./{text}")


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
    from celltune.search.cli.prediction_output import FORMATS
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
    from celltune.search.cli.prediction_input import STANDARD_INPUT, read_lines, read_texts

    if bool(given) == (file is not None):
        problem = "Both texts and `file` were given" if given else "No text was given"
        raise OptionError(f"{problem}. Give texts, or `file`, or - for standard input.")
    if list(given) == [STANDARD_INPUT] or (file is not None and str(file) == STANDARD_INPUT):
        return read_lines(sys.stdin.buffer)
    return read_texts(file, column) if file is not None else iter(given)


def _print(rows: Sequence[Row], form: str, *, header: bool) -> None:
    from celltune.search.cli.prediction_output import FORMATS

    emit(FORMATS[form](rows, header))


def _predict_all(model: TrainedModel, texts: Iterator[str], form: str) -> None:
    from celltune.search.cli.prediction_input import blocks

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
    from celltune.search.cli import prediction_output

    explanation = model.explain(text)
    if form == "csv":
        emit(prediction_output.explained_as_csv(explanation))
    elif form == "jsonl":
        emit(prediction_output.explained_as_jsonl(explanation))
    else:
        console = make_console()
        wrapped(console, *prediction_output.heading(explanation))
        if explanation.steps:
            _print_steps(console, explanation)
        if model.wide is not None:
            wrapped(console, "", prediction_output.ngram_heading(explanation))
            console.print(prediction_output.ngram_table(explanation))


def _print_steps(console: Console, explanation: Explanation) -> None:
    from celltune.search.cli import prediction_output

    if console.is_terminal and len(explanation.steps) > prediction_output.LARGEST_STEPS:
        console.print(prediction_output.coloured(explanation))
        console.print(prediction_output.LEGEND, style="dim")
        wrapped(console, "", "Largest changes:")
        largest = prediction_output.LARGEST_STEPS
        console.print(prediction_output.step_table(explanation, largest=largest))
    else:
        console.print(prediction_output.step_table(explanation))


def graph(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|NAME|DIR", help="A YAML config, an experiment or an exported folder."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture file to write: .png, .svg or .pdf.")
    ],
    trial: Trial = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Draw the layers of a model with their shapes and numbers of weights.

    For a config, the drawn model takes the first value of each choice and the middle of each
    range; --set selects other values. Needs celltune[graph].
    """
    from celltune.search.bundles.diagram import check_picture_format, diagram

    outputs.check_output_free(output, overwrite)
    picture_format = output.suffix.removeprefix(".").lower()
    check_picture_format(picture_format)
    drawing = diagram(source, trial=trial, overrides=overrides or (), storage=storage)
    outputs.write(output, drawing.render(picture_format), overwrite)
    say(f"Wrote a diagram of {drawing.title} to {output}.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    for command in (export, predict, graph):
        add_command(app, command)
