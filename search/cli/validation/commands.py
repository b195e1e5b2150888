"""The command `celltune validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.io.files import default_cache_dir
from celltune.search.cli.commands import add_command
from celltune.search.cli.init import config_for
from celltune.search.cli.options import (
    AsJson,
    ConfigPath,
    Overrides,
    Unset,
    config_changes,
    describe_plan,
    shown_progress,
)
from celltune.search.cli.output import emit_json, make_console, say, wrapped
from celltune.search.cli.validation.estimate import estimate_as_json, show_estimate
from celltune.search.cli.validation.survey import show_survey, survey_as_json
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.session import checked_config, resolve_for_run
from celltune.search.runs.view import SilentView, View
from celltune.search.tuning.untried import planned_trials

if TYPE_CHECKING:
    from celltune.data_prep.preparation.survey import Survey
    from celltune.search.runs.estimate import Estimate


def validate(
    config: ConfigPath,
    overrides: Overrides = None,
    unset: Unset = None,
    with_estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Also prepare the data and train some trials for seconds, and print the expected "
            "duration and memory of the search on this machine.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a config and its data without starting anything, and show what it trains on."""
    changes = config_changes(overrides, unset)
    if as_json:
        source = config_for(config, changes, SilentView())
        values = _as_json(checked_config(source, changes), with_estimate=with_estimate)
        emit_json({"config": str(config), **values})
        return
    with shown_progress() as view:
        source = config_for(config, changes, view)
        resolved = resolve_for_run(source, changes, view=view)
        data = read_data(resolved, view)
        expected = _estimate(resolved, view) if with_estimate else None
    wrapped(make_console(), *describe_plan(resolved))
    show_data(data, resolved)
    if expected is not None:
        show_estimate(expected)
    say(f"{config} is valid.")


def read_data(config: SearchConfig, view: View) -> Survey | None:
    """Read the data of a config and count what is trained on; None if it is not downloaded yet.

    Args:
        config: the config.
        view: shows the progress.
    """
    source = SOURCES.load(config.data.source)
    if source.needs_download(config.data, default_cache_dir()):
        return None
    from celltune.data_prep.preparation.survey import survey

    return survey(config.data, progress=view.progress)


def show_data(data: Survey | None, config: SearchConfig) -> None:
    """Print what is trained on.

    Args:
        data: the result of `read_data`.
        config: the config.
    """
    if data is None:
        say(
            f"Data: the source '{config.data.source}' is downloaded at the first launch; it was "
            "not checked."
        )
        return
    say("")
    show_survey(data, config.data)
    say("")


def _estimate(config: SearchConfig, view: View) -> Estimate:
    from celltune.search.runs.estimate import estimate

    return estimate(config, view)


def _as_json(config: SearchConfig, *, with_estimate: bool) -> dict[str, Any]:
    """Read the data of a config, and return its plan and what it trains on."""
    from celltune.data_prep.inference.infer import infer

    inferred = infer(config.data, progress=None)
    complete = config.model_copy(update={"data": inferred.config})
    data = read_data(complete, SilentView())
    return {
        "name": config.name,
        "metric": config.metric,
        "trials": config.budget.trials,
        "max_epochs": config.budget.max_epochs,
        "configurations": config.space.size,
        "planned_trials": planned_trials(config, ExperimentState()),
        "searched": list(config.space.searched),
        "fixed": dict(config.space.fixed),
        "inferred": [to_jsonable_python(note._asdict()) for note in inferred.notes],
        "warnings": list(inferred.warnings),
        "data": survey_as_json(data) if data else None,
        "estimate": estimate_as_json(_estimate(complete, SilentView())) if with_estimate else None,
    }


def register(app: typer.Typer) -> None:
    """Add the command to the command table."""
    add_command(app, validate)
