"""The sections of the report: the result and its uncertainty, figures, cost and reproduction.

A section is a function of the experiment. It returns None if it has nothing to show. To add one,
write the function and list it in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from celltune.search.config.loading import dump_config
from celltune.search.config.schema import SearchConfig
from celltune.search.ensembles.wording import ensemble_sentences
from celltune.search.escaping import html_lines
from celltune.search.ledger.state import ExperimentState
from celltune.search.metrics import wilson
from celltune.search.report.cost import cost
from celltune.search.report.evaluation_section import evaluation_section, evaluation_sentence
from celltune.search.report.markup import (
    FigureBlock,
    Section,
    collapsed,
    paragraphs,
    scrollable,
)
from celltune.search.results.ensemble_table import members_table
from celltune.search.results.formats import readable_table
from celltune.search.results.ranking import (
    Row,
    context_sentences,
    losses_sentence,
    passed_over_sentence,
    ranking_of,
)
from celltune.search.storage.snapshot import Snapshot
from celltune.search.tuning.base import make_rule
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import Metric, is_wide_only
from celltune.search.wording import (
    approximate_duration,
    counted,
    describe_params,
    distinguishing_params,
    metric_text,
    percent_range,
    percent_text,
)

VISIBLE_ROWS = 25
"""Rows of the leaderboard that are visible before the reader expands it."""


# ---------------------------------------------------------------------------------------------
# The top of the page


def headline(snapshot: Snapshot) -> str:
    """Return the best trial and the uncertainty of its result, as HTML."""
    state, metric = snapshot.state, snapshot.config.metric
    ranked = state.ranked(metric)
    if not ranked:
        failed = state.count("failed")
        note = f"{counted(failed, 'trial')} failed." if failed else ""
        return paragraphs(f"No trial has finished an epoch yet, so there is no result. {note}")
    best = ranked[0]
    best_epoch = best.best(metric)
    trials = len(state.trials)
    params = describe_params(distinguishing_params(best.params, snapshot.config.varied))
    lead = (
        f"The best of {counted(trials, 'trial')} is trial {best.number}: "
        f"{_metric_name(metric)} {metric_text(metric, best.best_value(metric))} after epoch "
        f"{best_epoch.epoch if best_epoch else 0} ({params})."
    )
    return paragraphs(lead, *_uncertainty(snapshot, _rows(snapshot)), lead=True)


def _metric_name(metric: Metric) -> str:
    return metric.replace("valid_", "validation ", 1).replace("_", " ")


def _rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    return ranking_of(snapshot.config, snapshot.state, running=snapshot.running)


def _uncertainty(snapshot: Snapshot, rows: Sequence[Row]) -> list[str]:
    """Return sentences about the uncertainty of the best trial's result."""
    state, metric = snapshot.state, snapshot.config.metric
    ranked = len(state.ranked(metric))
    sentences = []
    tied = sum(row["rank"] == 1 for row in rows) - 1
    if tied:
        others = "Another trial" if tied == 1 else f"{tied} other trials"
        sentences.append(f"{others} reached the same value; the first of them is listed first.")
    if rows[0]["note"]:
        sentences.append(f"The trial is {rows[0]['note']}.")
    sentences += [passed_over_sentence(state, metric), *context_sentences(state, metric)]
    sentences.append(_confidence(snapshot.state, rows))
    if ranked > 1:
        sentences.append(
            f"The trial was selected as the best of {ranked:,} trials and of all their epochs on "
            "the same validation split, so this value is biased upwards. Expect a lower one on new "
            "documents. Only an evaluation on the test split gives an unbiased estimate."
        )
    sentences.append(evaluation_sentence(state, metric))
    return [sentence for sentence in sentences if sentence]


def _confidence(state: ExperimentState, rows: Sequence[Row]) -> str:
    """Return the confidence interval of the best trial's accuracy as a sentence."""
    accuracy = rows[0]["valid_accuracy"]
    documents = state.created.valid_reviews if state.created else None
    if accuracy is None:
        return ""
    if not documents:
        return (
            "The accuracy has no confidence interval, because the ledger of this experiment does "
            "not contain the size of the validation split."
        )
    low, high = wilson(accuracy, documents)
    others = [row["valid_accuracy"] for row in rows[1:] if row["rank"] is not None]
    inside = sum(low <= value <= high for value in others)
    return (
        f"The accuracy of {percent_text(accuracy)} was measured on {documents:,} validation "
        f"documents. Its 95 % confidence interval (Wilson) is {percent_range(low, high, 1)}. "
        f"{inside or 'No'} other {'trial lies' if inside <= 1 else 'trials lie'} in this interval."
    )


def facts(snapshot: Snapshot) -> str:
    """Return the number of trials by status, as HTML."""
    state = snapshot.state
    counts = [
        (
            len(state.trials),
            f"of {counted(planned_trials(snapshot.config, state), 'trial')} started",
        ),
        (state.count("completed"), "completed"),
        (state.count("pruned"), "pruned"),
        (state.count("failed"), "failed"),
        (state.count("unfinished"), "running" if snapshot.running else "unfinished"),
    ]
    items = "".join(f"<li><strong>{number:,}</strong> {label}</li>" for number, label in counts)
    lost = losses_sentence(state)
    return f'<ul class="facts">{items}</ul>' + (paragraphs(lost) if lost else "")


# ---------------------------------------------------------------------------------------------
# Sections


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

    title = "Learning curves"
    figure = learning_curves(snapshot.config, snapshot.state)
    early_stopping = _early_stopping(snapshot.config)
    caption = f"{snapshot.config.metric} of every trial after each epoch. {early_stopping}"
    return Section(title, [FigureBlock(figure, title, caption)])


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
    return FigureBlock(figure, "Parallel coordinates", caption)


def _slices(snapshot: Snapshot) -> FigureBlock:
    from celltune.search.report import figures

    figure = figures.slices(snapshot.config, snapshot.state)
    caption = (
        f"Best {snapshot.config.metric} of each trial by hyperparameter. Pruned trials are shown "
        "with the best value before they were stopped."
    )
    return FigureBlock(figure, "Slices", caption)


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
    rows = _rows(snapshot)
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
