"""Commands for results: `celltune leaderboard`, `report` and `export-study`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from celltune.search.baselines.comparison import verdict_sentence
from celltune.search.cli import output as outputs
from celltune.search.cli.commands import add_command
from celltune.search.cli.completion import complete_names
from celltune.search.cli.options import (
    Name,
    Overwrite,
    Storage,
    make_view,
)
from celltune.search.cli.output import emit, make_console, say, wrapped
from celltune.search.ensembles.wording import gain_sentence, scores_sentence
from celltune.search.errors import OptionError
from celltune.search.escaping import markdown_text
from celltune.search.extensions import LEADERBOARD_FORMATS
from celltune.search.results.formats import (
    Rendered,
    common_sentence,
    format_of,
    notes_below,
    render,
)
from celltune.search.results.ranking import (
    RankedSearch,
    Row,
    Selection,
    SortOrder,
    context_sentences,
    fingerprint,
    majority_sentence,
    ranking,
)
from celltune.search.results.searches import read_searches
from celltune.search.results.tables import TextTable
from celltune.search.storage.locate import find_experiment
from celltune.search.types import Metric
from celltune.search.uris import without_secrets
from celltune.search.wording import counted


def leaderboard(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Names of experiments; see celltune list."),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Metric to rank by. Default: the metric of the searches.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Show matching trials only: \"cell == 'gru' and hidden_size >= 64\"."),
    ] = None,
    best_per: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Show the best trial per value of a column. Can be repeated."
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Sort by a column instead of by rank; -COLUMN sorts descending."
        ),
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Reverse the order.")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="Show the first N trials only.")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Output format: {', '.join(LEADERBOARD_FORMATS.builtin_names())}, or that of an "
            "extension. Default: the suffix of --output, or table.",
            autocompletion=complete_names(LEADERBOARD_FORMATS.names),
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.")
    ] = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Rank the trials of one or more experiments, also while they run.

    csv, json and parquet contain all columns with every digit.
    """
    chosen = _format(form, output)
    if output is not None:
        outputs.check_output_free(output, overwrite)
    order = SortOrder.parse(sort, reverse=descending)
    selection = Selection(where, tuple(best_per or ()), order, top)
    searches, ranking_metric = read_searches(names, storage, metric)
    rows = selection.apply(ranking(searches, ranking_metric))
    below = [common_sentence(rows), *_sentences_below(searches, ranking_metric)]
    notes = notes_below(rows) if chosen == "table" else []
    below = [*notes, *(sentence for sentence in below if sentence)]
    drawn = _render(rows, chosen, below)
    _warn_about_different_data(searches)
    _explain_no_rows(rows, where)
    if output is not None:
        outputs.write(output, _content(drawn, notes), overwrite)
        say(f"Wrote {output}")
    else:
        _print(drawn, chosen, below)


def _format(form: str | None, output: Path | None) -> str:
    if form is None:
        return "table" if output is None else format_of(output.suffix)
    return LEADERBOARD_FORMATS.check(form)


def _render(rows: Sequence[Row], form: str, below: Sequence[str]) -> Rendered:
    """Return the leaderboard; a Markdown document also contains the sentences below it."""
    drawn = render(rows, form)
    return "\n\n".join([str(drawn), *map(markdown_text, below)]) if form == "md" else drawn


def _content(drawn: Rendered, notes: Sequence[str]) -> str | bytes:
    if isinstance(drawn, TextTable):
        return outputs.drawn_as_text(drawn) + "".join(f"{note}\n" for note in notes)
    return f"{drawn}\n" if isinstance(drawn, str) else drawn


def _print(drawn: Rendered, form: str, below: Sequence[str]) -> None:
    if isinstance(drawn, bytes):
        raise OptionError(f"'{form}' is a binary format. Set `output` to a file.")
    if isinstance(drawn, str):
        emit(drawn)
        return
    console = make_console()
    console.print(drawn)
    wrapped(console, *below)


def _sentences_below(searches: Sequence[RankedSearch], metric: Metric) -> list[str]:
    """Return what the best trial of each search has to be compared with."""
    ensembles = _ensemble_sentences(searches)
    if len(searches) == 1:
        return [*context_sentences(searches[0].state, metric), *ensembles]
    verdicts = {search.name: verdict_sentence(search.state, metric) for search in searches}
    named = (f"{name}: {sentence}" for name, sentence in verdicts.items() if sentence)
    return [*_majority_sentences(searches), *named, *ensembles]


def _majority_sentences(searches: Sequence[RankedSearch]) -> list[str]:
    """Return what always predicting one class achieves, once for searches with equal data."""
    sentences: dict[str, str] = {}
    for search in searches:
        # Experiments of older releases did not record it, but others with their data may have.
        data = fingerprint(search.state)
        sentences[data] = sentences.get(data) or majority_sentence(search.state)
    if len(sentences) == 1:
        return [sentence for sentence in sentences.values() if sentence]
    return [f"Data {data[:12]}: {sentence}" for data, sentence in sentences.items() if sentence]


def _ensemble_sentences(searches: Sequence[RankedSearch]) -> list[str]:
    """Return the scores and the gain of each ensemble, which is not a trial and has no row."""
    found = [(search.name, search.state.ensemble) for search in searches]
    return [
        f"{f'{name}: ' if len(found) > 1 else ''}{scores_sentence(event)} {gain_sentence(event)}"
        for name, event in found
        if event is not None
    ]


def _explain_no_rows(rows: Sequence[Row], where: str | None) -> None:
    if not rows:
        say(f"No trial {'matches the filter' if where else 'has started yet'}.", error=True)


def _warn_about_different_data(searches: list[RankedSearch]) -> None:
    if len({fingerprint(search.state) for search in searches}) > 1:
        say(
            "celltune: these experiments used different data (see the column data), so their "
            "metrics are not comparable.",
            error=True,
        )


def report(
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write. Default: NAME.html."),
    ] = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Write a report as one HTML file with figures; it needs no network to open."""
    folder = find_experiment(name, storage)
    path = output or Path(f"{name}.html")
    outputs.check_output_free(path, overwrite)
    from celltune.search.report.page import page

    outputs.write(path, page(folder.snapshot()), overwrite)
    say(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def export_study(
    name: Name,
    study_storage: Annotated[
        str,
        typer.Option(
            "--storage", metavar="URL", help="Optuna storage to write, such as sqlite:///study.db."
        ),
    ],
    study_name: Annotated[
        str | None, typer.Option(help="Name of the study. Default: the experiment's name.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORAGE",
            envvar="CELLTUNE_STORAGE",
            help="Where experiments are stored, as --storage of the other commands.",
        ),
    ] = None,
) -> None:
    """Copy the trials to an Optuna storage, for optuna-dashboard and Optuna's plots."""
    from celltune.search.results.optuna_study import copy_to_storage

    folder = find_experiment(name, storage)
    snapshot = folder.snapshot(check_running=False)
    config, state = snapshot.config, snapshot.state
    view = make_view()
    copy_to_storage(
        config, state, study_storage, study_name or name, partial(view.progress, "Copying trials")
    )
    say(
        f"Copied {counted(len(state.trials), 'trial')} to the study '{study_name or name}'. "
        f"View them with: optuna-dashboard {shlex.quote(without_secrets(study_storage))}"
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    add_command(app, leaderboard)
    add_command(app, report)
    add_command(app, export_study, "export-study")
