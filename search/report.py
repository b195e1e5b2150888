"""One page about a search that opens without a network: what was found, and how sure that is.

A page is a row of sections. Each is a function of what is known of the experiment and gives its
heading and its HTML, or None where it has nothing to say.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from search import folder as folders
from search.config import SearchConfig, dump_config
from search.describe import describe, metric_text, telling
from search.events import Event
from search.folder import Folder
from search.formats import html_table
from search.leaderboard import rows
from search.report_evaluation import on_the_test_split, test_split
from search.report_parts import Section, paragraphs, scrolled
from search.state import ExperimentState
from search.stopping import with_budget
from search.summary import cost, duration, wilson

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN_ROWS = 25
"""Trials of the leaderboard that are seen before it is unfolded."""


@dataclass(frozen=True)
class Subject:
    """What a report is about."""

    name: str
    config: SearchConfig
    events: Sequence[Event]
    state: ExperimentState
    running: bool = False
    figures: list[str] = field(default_factory=list)
    """Names of the figures drawn so far."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard."""
        return rows(self.state, self.config.metric, running=self.running)

    def figure(self, drawn: Figure, name: str, caption: str) -> str:
        """Give a figure as HTML; `caption` says in words what is seen, also to those who can't."""
        import plotly.io

        drawn.update_layout(
            template="plotly_white",
            margin_t=60,
            legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top"},
            font={"family": "system-ui, sans-serif", "size": 13},
        )
        self.figures.append(name)
        shown = plotly.io.to_html(
            drawn,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{len(self.figures)}",
            config={"displaylogo": False, "responsive": True, "displayModeBar": False},
        )
        label = html.escape(f"{name}. {caption}", quote=True)
        return (
            f'<figure><div role="img" aria-label="{label}">{shown}</div>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )


def subject_of(folder: Folder) -> Subject:
    """Read what a report is about; works while the search runs.

    Raises:
        LedgerError: the ledger is damaged.
    """
    running = folder.is_locked()
    events = folder.events()
    state = folders.state_of(folder.where, events)
    return Subject(folder.name, with_budget(folder.config(), state), events, state, running)


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
        f"({describe(telling(best.params, subject.config.space.searched))})."
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
    from search.report_figures import learning_curves, rungs

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
    from search import report_figures as figures

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
        f"({duration(spent.seconds)} of training and validating, added up over all workers), "
        f"over {duration(spent.wall_seconds)} on the clock."
    )
    if subject.config.early_stopping is None:
        return "Cost", paragraphs(told, "Early stopping was off, so it saved nothing.")
    saved = (
        f"Early stopping left out {spent.saved_epochs:,} epochs: had every stopped trial been "
        f"trained to the end at its own pace, that would have been another "
        f"{duration(spent.saved_seconds)}, {100 * spent.saved_share:.0f} % of the whole. "
        "Whether one of them would have won is not known."
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
    shown = scrolled("The leaderboard", html_table(subject.rows[:SHOWN_ROWS], columns))
    if len(subject.rows) > SHOWN_ROWS:
        rest = scrolled("The rest", html_table(subject.rows[SHOWN_ROWS:], columns))
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


# ---------------------------------------------------------------------------------------------


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'\
 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<title>$title</title>
<style>
$css
</style>
<script>$plotly</script>
</head>
<body>
<header>
<h1>$title</h1>
<p class="soft">A celltune search$standing</p>
</header>
<main>
$headline
$facts
<nav aria-label="Sections">$links</nav>
$sections
</main>
<script>
$js
</script>
</body>
</html>
""")


def page(subject: Subject) -> str:
    """Write the page.

    Args:
        subject: what it is about.

    Returns:
        HTML that needs no other file and no network; plotly alone is 4 to 5 MB of it.
    """
    written = [section for make in SECTIONS if (section := make(subject)) is not None]
    links = "".join(
        f'<a href="#s{index}">{html.escape(title)}</a>' for index, (title, _) in enumerate(written)
    )
    sections = "\n".join(
        f'<section aria-labelledby="s{index}"><h2 id="s{index}">{html.escape(title)}</h2>'
        f"{body}</section>"
        for index, (title, body) in enumerate(written)
    )
    return _PAGE.substitute(
        title=html.escape(subject.name),
        css=_file("report.css"),
        js=_file("report.js") if subject.figures else "",
        plotly=_plotly() if subject.figures else "",
        standing=", still running: the page shows what was known when it was written"
        if subject.running
        else "",
        headline=headline(subject),
        facts=facts(subject),
        links=links,
        sections=sections,
    )


def _file(name: str) -> str:
    return resources.files("search").joinpath(name).read_text("utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script
