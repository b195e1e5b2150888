"""Commands for a trained model: `celltune export` and `graph`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from celltune.search.cli import output as outputs
from celltune.search.cli.commands import add_command
from celltune.search.cli.options import (
    Ensemble,
    Name,
    Overrides,
    Overwrite,
    Storage,
    Trial,
    Unset,
    config_changes,
    make_view,
)
from celltune.search.cli.output import say, say_next
from celltune.search.errors import OptionError
from celltune.search.wording import (
    describe_params,
    distinguishing_params,
    metric_text,
    percent_text,
    trial_label,
)


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
    say_next(
        {
            f"celltune predict {_folder_argument(output)} TEXT": "predict the class of a text",
            f"{output / 'README.md'}": "the model card, with the data's licence",
        }
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
    unset: Unset = None,
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
    drawing = diagram(
        source, trial=trial, overrides=config_changes(overrides, unset), storage=storage
    )
    outputs.write(output, drawing.render(picture_format), overwrite)
    say(f"Wrote a diagram of {drawing.title} to {output}.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    for command in (export, graph):
        add_command(app, command)
