"""When a search ends, and when a trial ends by itself: pure functions of config and state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState
from celltune.search.objective import sign
from celltune.search.tuning.untried import all_tried
from celltune.search.types import Metric
from celltune.search.wording import counted, metric_text

SearchEnd = Literal["finished", "exhausted", "target", "no_improvement", "too_many_failed"]
"""The reasons in `ledger.events.EndReason` for which a search itself ends, not only a run."""


def no_new_trials_reason(config: SearchConfig, state: ExperimentState) -> SearchEnd | None:
    """Return the reason why no new trials are started; None if there is none."""
    if too_many_failed(config, state):
        return "too_many_failed"
    if _target_is_reached(config, state):
        return "target"
    if len(state.trials) >= config.budget.trials:
        return "finished"
    if all_tried(config, state):
        return "exhausted"
    return "no_improvement" if _patience_is_exhausted(config, state) else None


def end_reason(config: SearchConfig, state: ExperimentState) -> SearchEnd | None:
    """Return the reason why the search has ended; None while it goes on.

    A search ends at once if the target is reached or too many trials have failed. Otherwise it
    ends when all trials that were started have ended.
    """
    reason = no_new_trials_reason(config, state)
    if reason in ("finished", "exhausted", "no_improvement") and state.count("unfinished"):
        return None
    return reason


def too_many_failed(config: SearchConfig, state: ExperimentState) -> bool:
    """Return whether more trials have failed than `max_failed` allows."""
    return state.count("failed") > config.max_failed * config.budget.trials


def _target_is_reached(config: SearchConfig, state: ExperimentState) -> bool:
    if config.budget.target is None:
        return False
    direction = sign(config.metric)
    target = direction * config.budget.target
    values = (trial.best_value(config.metric) for trial in state.trials)
    return any(value is not None and direction * value >= target for value in values)


def _patience_is_exhausted(config: SearchConfig, state: ExperimentState) -> bool:
    patience = config.budget.patience
    ranked = state.ranked(config.metric) if patience is not None else []
    if patience is None or not ranked:
        return False
    later = state.trials[ranked[0].number + 1 :]
    return sum(trial.status in ("completed", "pruned") for trial in later) >= patience


def stagnates(values: Sequence[float], metric: Metric, patience: int | None) -> bool:
    """Return whether a trial has trained too many epochs without improvement.

    Args:
        values: the metric after each epoch so far.
        metric: the metric of the search.
        patience: the number of epochs after the best one that end a trial; None: no limit.
    """
    if patience is None or not values:
        return False
    scores = [sign(metric) * value for value in values]
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def explain_end(config: SearchConfig, state: ExperimentState, reason: SearchEnd) -> str:
    """Return a sentence that explains why a search has ended, and one on how to continue it."""
    budget = config.budget
    if reason == "target":
        target = metric_text(config.metric, budget.target)
        return (
            f"The target is reached: {config.metric} {target}. To continue, resume the search with "
            "another target or without one."
        )
    if reason == "no_improvement":
        return (
            f"The last {budget.patience} trials did not improve on the best one. To continue, "
            "resume the search with a larger patience or without one."
        )
    if reason == "too_many_failed":
        return (
            f"{state.count('failed')} of {budget.trials} trials failed, more than max_failed "
            f"({config.max_failed:g}) allows. Fix the cause, then resume the search and retry the "
            "failed trials."
        )
    if all_tried(config, state):
        size = config.space.size or 0
        tried = "which was tried" if size == 1 else "and all were tried"
        return (
            f"The space has {counted(size, 'configuration')}, {tried}. To continue, resume the "
            "search with more epochs, or with more trials that repeat configurations with other "
            "seeds."
        )
    return "All trials have ended. To continue, resume the search with more trials or more epochs."
