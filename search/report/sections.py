"""The sections of the report: results, figures, cost and reproduction.

A section is a function of the experiment. It returns None if it has nothing to show. To add one,
write the function and list it in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable

from celltune.search.baselines.comparison import compared_metric
from celltune.search.config.loading import dump_config
from celltune.search.config.schema import SearchConfig
from celltune.search.ensembles.wording import ensemble_sentences
from celltune.search.escaping import html_lines
from celltune.search.report.cost import cost
from celltune.search.report.evaluation_section import evaluation_section
from celltune.search.report.markup import (
    FigureBlock,
    Section,
    collapsed,
    paragraphs,
    scrollable,
)
from celltune.search.results.ensemble_table import members_table
from celltune.search.results.formats import readable_table
from celltune.search.results.ranking import ranking_of
from celltune.search.storage.snapshot import Snapshot
from celltune.search.tuning.base import make_rule
from celltune.search.types import is_wide_only
from celltune.search.wording import (
    approximate_duration,
    counted,
    percent_text,
)

VISIBLE_ROWS = 25
"""Rows of the leaderboard that are visible before the reader expands it."""


def evaluation(snapshot: Snapshot) -> Section | None:
    """Return the results on the test split."""
    return evaluation_section(snapshot.state, snapshot.config.metric)


def ensemble(snapshot: Snapshot) -> Section | None:
    """Return the members of the ensemble that was selected last, and its gain."""
    selected = snapshot.state.ensemble
    if selected is None:
        return None
    table = scrollable("Members of the ensemble", members_table(selected).html())
    return Section("Ensemble", [paragraphs(*ensemble_sentences(selected)), table])


def curves(snapshot: Snapshot) -> Section | None:
    """Return the learning curves and the rungs."""
    if not snapshot.state.ranked(snapshot.config.metric):
        return None
    from celltune.search.report.figures import learning_curves

    title, metric = "Learning curves", snapshot.config.metric
    blocks = []
    # Linear models have no loss, so a search by loss also shows the metric that compares them.
    for name in dict.fromkeys((metric, compared_metric(snapshot.state, metric))):
        caption = f"{name} of every trial after each epoch."
        if name == metric:
            caption += f" {_early_stopping(snapshot.config)}"
        figure = learning_curves(snapshot.config, snapshot.state, name)
        blocks.append(FigureBlock(figure, f"{title}: {name}", caption))
    return Section(title, blocks)


def _early_stopping(config: SearchConfig) -> str:
    settings, rule = config.early_stopping, make_rule(config)
    if settings is None or rule is None:
        return "Early stopping was off."
    if rule.rungs == ():
        return f"{settings.title} has no rung before the last epoch, so it prunes no trial."
    when = "after every epoch"
    if rule.rungs is not None:
        when = f"at the rungs (after epoch {', '.join(map(str, rule.rungs))})"
    return (
        f"{settings.title} compares the trials by {settings.by} {when} and prunes the worst ones."
    )


def hyperparameters(snapshot: Snapshot) -> Section | None:
    """Return the importance of each hyperparameter, parallel coordinates and slices."""
    from celltune.search.report import figures

    title = "Hyperparameters"
    measured = len(snapshot.state.ranked(snapshot.config.metric))
    if not snapshot.config.space.searched:
        return Section(title, [paragraphs("The search had no hyperparameters to vary.")])
    if measured < figures.MIN_TRIALS:
        note = (
            f"The figures need at least {figures.MIN_TRIALS} trials with a finished epoch. This "
            f"search has {measured}."
        )
        return Section(title, [paragraphs(note)])
    return Section(
        title, [_importance(snapshot), _parallel_coordinates(snapshot), _slices(snapshot)]
    )


def _importance(snapshot: Snapshot) -> str | FigureBlock:
    from celltune.search.report import figures

    found = figures.importances(snapshot.config, snapshot.state)
    if not found:
        return paragraphs(
            f"The importance of the hyperparameters is not shown, because fewer than "
            f"{figures.MIN_RANKED} trials can be compared or too many of them have the same value."
        )
    caption = (
        "PED-ANOVA importance: how strongly each hyperparameter separates the best trials from the "
        "others. Only values after equal training are compared. The importance holds for the "
        "ranges that were searched and is imprecise if there are few trials."
    )
    return FigureBlock(figures.importance_bars(found), "Importance", caption)


def _parallel_coordinates(snapshot: Snapshot) -> FigureBlock:
    from celltune.search.report import figures

    figure = figures.parallel_coordinates(snapshot.config, snapshot.state)
    caption = (
        f"Each line is a trial; its color is the trial's best {snapshot.config.metric}. Drag along "
        "an axis to select a range. Pruned trials are shown with the best value before they were "
        "stopped."
    )
    axes = len(snapshot.config.space.searched) + 1
    return FigureBlock(figure, "Parallel coordinates", caption, min_width=180 + 90 * axes)


def _slices(snapshot: Snapshot) -> FigureBlock:
    from celltune.search.report import figures

    figure = figures.slices(snapshot.config, snapshot.state)
    caption = (
        f"Best {snapshot.config.metric} of each trial by hyperparameter. Pruned trials are shown "
        "with the best value before they were stopped."
    )
    return FigureBlock(figure, "Slices", caption, min_width=700)


def costs(snapshot: Snapshot) -> Section | None:
    """Return the cost of the search, and what early stopping saved."""
    total = cost(snapshot.state, snapshot.events)
    spent = (
        f"The trials trained {counted(total.epochs, 'epoch')}. Training and validation took "
        f"{approximate_duration(total.seconds)}, summed over all workers. The runs took "
        f"{approximate_duration(total.wall_seconds)} of wall-clock time."
    )
    stops_early = snapshot.config.budget.epoch_patience is not None
    if snapshot.config.early_stopping is None and not stops_early:
        return Section("Cost", [paragraphs(spent, "Early stopping was off.")])
    if total.saved_epochs == 0:
        return Section("Cost", [paragraphs(spent, "Early stopping ended no trial.")])
    saved = (
        f"Early stopping saved {counted(total.saved_epochs, 'epoch')}, an estimated "
        f"{approximate_duration(total.saved_seconds)}. This is "
        f"{percent_text(total.saved_fraction, digits=0)} of the time that the trials would "
        "have taken without it. Whether a pruned trial would have become the best one is unknown."
    )
    return Section("Cost", [paragraphs(spent, saved)])


_RESULTS = ("rank", "trial", "status", "epochs", "valid_accuracy", "note", "valid_loss")
_DETAILS = ("parameters", "seconds", "last_valid_accuracy", "train_accuracy", "stopped", "error")
"""Columns after the hyperparameters, where a narrow window has to be scrolled."""


def leaderboard(snapshot: Snapshot) -> Section | None:
    """Return the leaderboard."""
    rows = ranking_of(snapshot.config, snapshot.state, running=snapshot.running)
    if not rows:
        return None
    varied = (*snapshot.config.space.searched, *sorted(snapshot.config.varied))
    wide = ["wide"] if any(is_wide_only(row) for row in rows) else []
    candidates = (*_RESULTS, snapshot.config.metric, *wide, *varied, *_DETAILS)
    columns = [
        name
        for name in dict.fromkeys(candidates)
        if name in rows[0] and any(row[name] is not None for row in rows)
    ]
    note = (
        '<p class="soft">Accuracy and loss are those of a trial\'s best epoch; columns that begin '
        "with last_ show its last epoch.</p>"
    )
    blocks = [note, scrollable("Leaderboard", readable_table(rows[:VISIBLE_ROWS], columns).html())]
    hidden = rows[VISIBLE_ROWS:]
    if hidden:
        table = scrollable("Other trials", readable_table(hidden, columns).html())
        blocks.append(collapsed(f"Show {counted(len(hidden), 'more trial')}", table))
    return Section("Leaderboard", blocks)


def reproduction(snapshot: Snapshot) -> Section | None:
    """Return the config and the versions that reproduce the search."""
    state = snapshot.state
    versions = {"celltune": state.run.celltune, **state.run.versions} if state.run else {}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    fingerprint = state.created.fingerprint if state.created else "not recorded"
    text = paragraphs(
        f"Save this config as a file and launch it under a new name. {_same_trials(snapshot)}",
        f"Versions: {listed or 'not recorded'}.",
        f"Fingerprint of the prepared data: {fingerprint}.",
    )
    config = f"<pre>{html_lines(dump_config(snapshot.config))}</pre>"
    return Section("How to reproduce this search", [text, config])


def _same_trials(snapshot: Snapshot) -> str:
    """Return whether another launch proposes the same trials, as a sentence."""
    if snapshot.state.prior is not None:
        return (
            "The new search proposes other trials, because this one was warm-started with the "
            f"trials of '{snapshot.state.prior.origin}'."
        )
    if snapshot.state.budget is not None:
        return (
            "The new search may propose other trials, because the budget was changed during this "
            "one; the config contains the last budget."
        )
    return (
        "If trials run one at a time, the new search proposes the same trials. If several run at "
        "once, their order can vary and change the proposals."
    )


SECTIONS: tuple[Callable[[Snapshot], Section | None], ...] = (
    evaluation,
    ensemble,
    curves,
    hyperparameters,
    costs,
    leaderboard,
    reproduction,
)
"""The sections of the page below the headline, in order."""
