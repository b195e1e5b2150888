"""One page about a search that opens without a network: what was found, and how sure that is.

A page is a row of sections. Each is a function of what is known of the experiment and gives its
heading and its HTML, or None where it has nothing to say.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

from celltune.search.config.loading import dump_config
from celltune.search.evaluation.metrics import wilson
from celltune.search.report.cost import cost
from celltune.search.report.evaluation_section import on_the_test_split, test_split
from celltune.search.report.markup import Section, paragraphs, scrollable
from celltune.search.report.subject import Subject
from celltune.search.results.formats import readable_table
from celltune.search.wording import (
    approximate_duration,
    describe_params,
    distinguishing_params,
    metric_text,
)

if TYPE_CHECKING:
    pass

SHOWN_ROWS = 25
"""Trials of the leaderboard that are seen before it is unfolded."""


# ---------------------------------------------------------------------------------------------
# The report's sections, in their order


def headline(subject: Subject) -> str:
    """Say in words what was found, how sure it is, and what it doesn't say."""
    state, metric = subject.state, subject.config.metric
    ranked = state.ranked(metric)
    if not ranked:
        failed = state.count("failed")
        told = f"All {failed} trials failed." if failed == len(state.trials) > 0 else ""
        return paragraphs(
            f"No trial of this search has finished an epoch yet, so nothing is ranked. {told}"
        )
    best = ranked[0]
    found = best.best(metric)
    value = metric_text(metric, best.best_value(metric))
    trials = len(state.trials)
    lead = (
        f"The best of {trials:,} {'trial' if trials == 1 else 'trials'} is trial {best.number}: "
        f"{value} {metric.replace('_', ' ')} after epoch {found.epoch if found else 0} "
        f"({describe_params(distinguishing_params(best.params, subject.config.space.searched))})."
    )
    return paragraphs(lead, *_how_sure(subject), lead=True)


def _how_sure(subject: Subject) -> list[str]:
    state, metric = subject.state, subject.config.metric
    ranked = state.ranked(metric)
    best = ranked[0].best(metric)
    told = []
    tied = sum(row["rank"] == 1 for row in subject.rows) - 1
    if tied:
        what = "Another trial" if tied == 1 else f"{tied} other trials"
        told.append(f"{what} reached the same value; the earliest is named.")
    reviews = state.created.valid_reviews if state.created else None
    accuracy = best.metrics.get("valid_accuracy") if best else None
    if reviews and accuracy is not None:
        low, high = wilson(accuracy, reviews)
        within = [row["valid_accuracy"] for row in subject.rows[1:] if row["rank"] is not None]
        alike = sum(low <= value <= high for value in within)
        told.append(
            f"Its accuracy of {100 * accuracy:.2f} % was counted on {reviews:,} validation "
            f"reviews: its 95 % interval is {100 * low:.1f} to {100 * high:.1f} % (Wilson). "
            f"{alike or 'No'} other {'trials lie' if alike > 1 else 'trial lies'} within it."
        )
    elif accuracy is not None:
        told.append("This ledger doesn't say how many reviews were validated on: no interval.")
    if len(ranked) > 1:
        told.append(
            f"It is the best of {len(ranked):,} that were measured on the same reviews, and of all "
            "their epochs: a selected maximum, which flatters. On new reviews expect less; only "
            "the test split, read once, can say how much."
        )
    told.append(on_the_test_split(state, metric))
    return told


def facts(subject: Subject) -> str:
    """Give the search in a few numbers."""
    state = subject.state
    counts = [
        (len(state.trials), f"of {subject.config.budget.trials} trials begun"),
        (state.count("completed"), "trained to the end"),
        (state.count("pruned"), "stopped early"),
        (state.count("failed"), "failed"),
        (state.count("unfinished"), "running" if subject.running else "unfinished"),
    ]
    items = "".join(f"<li><strong>{count:,}</strong> {what}</li>" for count, what in counts)
    return f'<ul class="facts">{items}</ul>'


def curves(subject: Subject) -> Section | None:
    """Draw the learning curves with ASHA's rungs."""
    if not subject.state.ranked(subject.config.metric):
        return None
    from celltune.search.report.figures import learning_curves, rungs

    stopping = subject.config.early_stopping
    judged = ", ".join(map(str, rungs(subject.config)))
    told = (
        f"ASHA judges by {stopping.by} at the rungs, after epoch {judged}: there the poorer trials "
        "end."
        if judged and stopping
        else "There was no early stopping."
    )
    caption = f"{subject.config.metric} of every trial after each of its epochs. {told}"
    drawn = learning_curves(subject.config, subject.state)
    return "Learning curves", subject.figure(drawn, "Learning curves", caption)


def hyperparameters(subject: Subject) -> Section | None:
    """Show what each hyperparameter did: importance, parallel coordinates, slices."""
    from celltune.search.report import figures

    searched, metric = subject.config.space.searched, subject.config.metric
    title = "What each hyperparameter did"
    measured = len(subject.state.ranked(metric))
    if not searched or measured < figures.FEWEST:
        why = "none was searched" if not searched else f"{measured} measured trials can't tell"
        return title, paragraphs(f"Nothing is drawn: {why}.")
    parts = []
    found = figures.importances(subject.config, subject.state)
    if not found:
        parts.append(paragraphs("No importance is drawn: too few trials, or the best are equal."))
    else:
        caption = (
            "PED-ANOVA: how much each hyperparameter told the best trials from the rest. Trials of "
            "unlike budgets are never compared. It says what mattered within the ranges that were "
            "searched, not why; with few trials it is rough."
        )
        parts.append(subject.figure(figures.importance_bars(found), "Importance", caption))
    caption = (
        "Every trial as a line through its hyperparameters, coloured by its best "
        f"{metric}. Drag along an axis to keep a part. Stopped trials count with what they reached."
    )
    drawn = figures.parallel_coordinates(subject.config, subject.state)
    parts.append(subject.figure(drawn, "Parallel coordinates", caption))
    caption = (
        f"The best {metric} of each trial over each hyperparameter by itself. "
        "Stopped trials count with what they reached."
    )
    drawn = figures.slices(subject.config, subject.state)
    parts.append(subject.figure(drawn, "Slices", caption))
    return title, "".join(parts)


def costs(subject: Subject) -> Section | None:
    """Say what the search took, and what early stopping saved."""
    spent = cost(subject.state, subject.events)
    told = (
        f"{spent.epochs:,} epochs in {spent.seconds / 3600:.2f} trial-hours "
        f"({approximate_duration(spent.seconds)} of training and validating, added up over all "
        f"workers), over {approximate_duration(spent.wall_seconds)} on the clock."
    )
    if subject.config.early_stopping is None:
        return "Cost", paragraphs(told, "Early stopping was off, so it saved nothing.")
    saved = (
        f"Early stopping left out {spent.saved_epochs:,} epochs: had every stopped trial been "
        f"trained to the end at its own pace, that would have been another "
        f"{approximate_duration(spent.saved_seconds)}, {100 * spent.saved_share:.0f} % of the "
        "whole. Whether one of them would have won is not known."
    )
    return "Cost", paragraphs(told, saved)


_MEASURES = (
    *("rank", "trial", "status", "epochs", "valid_accuracy", "valid_loss"),
    *("last_valid_accuracy", "train_accuracy", "parameters", "seconds"),
)


def ranking(subject: Subject) -> Section | None:
    """Give the leaderboard."""
    if not subject.rows:
        return None
    told = (*_MEASURES, *subject.config.space.searched, "stopped", "error")
    columns = [
        name
        for name in told
        if name in subject.rows[0] and any(row[name] is not None for row in subject.rows)
    ]
    shown = scrollable("The leaderboard", readable_table(subject.rows[:SHOWN_ROWS], columns).html())
    if len(subject.rows) > SHOWN_ROWS:
        rest = scrollable("The rest", readable_table(subject.rows[SHOWN_ROWS:], columns).html())
        shown += f"<details><summary>The other {len(subject.rows) - SHOWN_ROWS:,} trials</summary>"
        shown += f"{rest}</details>"
    note = "accuracy and loss are those of a trial's best epoch, last_... those of its last."
    return "Leaderboard", f'<p class="soft">{note}</p>{shown}'


def reproduction(subject: Subject) -> Section | None:
    """Give what it takes to run the search again."""
    run = subject.state.run
    versions = {"celltune": run.celltune, **run.versions} if run else {}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    created = subject.state.created
    parts = [
        f"Save this config and run it: celltune launch FILE --name NEW. {_proposals(subject)}",
        f"Versions: {told or 'not recorded'}.",
        f"Fingerprint of the prepared data: {created.fingerprint if created else 'not recorded'}.",
    ]
    shown = f"<pre>{html.escape(dump_config(subject.config))}</pre>"
    return "To run it again", paragraphs(*parts) + shown


def _proposals(subject: Subject) -> str:
    """Say whether the same trials would be proposed again."""
    if subject.state.prior is not None:
        return (
            "Other trials will be proposed: this search knew those of "
            f"'{subject.state.prior.origin}' (--from)."
        )
    if subject.state.budget is not None:
        return (
            "Other trials may be proposed: its budget was changed on the way, and this is the one "
            "in force."
        )
    return (
        "With one trial at a time the same trials are proposed; with more, their order and so the "
        "proposals can differ."
    )


def measured_on_the_test_split(subject: Subject) -> Section | None:
    """Say what was measured on the test split."""
    return test_split(subject.state, subject.config.metric)


SECTIONS: tuple[Callable[[Subject], Section | None], ...] = (
    measured_on_the_test_split,
    curves,
    hyperparameters,
    costs,
    ranking,
    reproduction,
)
"""Every section of the page below its headline. A new one is written above and named here."""
