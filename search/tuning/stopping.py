"""When a search is over: pure functions of its config and its state."""

from __future__ import annotations

from typing import Literal

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import Metric, sign
from celltune.search.wording import metric_text

SearchEnd = Literal["finished", "target", "no_improvement", "too_many_failed"]
"""See `events.EndReason`."""


def no_new_trials_reason(config: SearchConfig, state: ExperimentState) -> SearchEnd | None:
    """Say why no further trial is begun; None if there is more to try."""
    if too_many_failed(config, state):
        return "too_many_failed"
    if _target_is_met(config, state):
        return "target"
    if len(state.trials) >= config.budget.trials:
        return "finished"
    return "no_improvement" if _patience_is_over(config, state) else None


def end_reason(config: SearchConfig, state: ExperimentState) -> SearchEnd | None:
    """Say why the search is over; None while anything goes on.

    With the target met or too many trials failed, it is over at once. Otherwise the trials that
    were begun are trained to their ends.
    """
    reason = no_new_trials_reason(config, state)
    if reason in ("finished", "no_improvement") and state.count("unfinished"):
        return None
    return reason


def too_many_failed(config: SearchConfig, state: ExperimentState) -> bool:
    """Whether more trials failed than the config bears."""
    return state.count("failed") > config.max_failed * config.budget.trials


def _target_is_met(config: SearchConfig, state: ExperimentState) -> bool:
    if config.budget.target is None:
        return False
    wanted = sign(config.metric) * config.budget.target
    values = (trial.best_value(config.metric) for trial in state.trials)
    return any(value is not None and sign(config.metric) * value >= wanted for value in values)


def _patience_is_over(config: SearchConfig, state: ExperimentState) -> bool:
    patience = config.budget.patience
    if patience is None:
        return False
    leader = _leader(state, config.metric)
    since = 0 if leader is None else leader.number + 1
    ended = [trial for trial in state.trials[since:] if trial.status in ("completed", "pruned")]
    return leader is not None and len(ended) >= patience


def _leader(state: ExperimentState, metric: Metric) -> TrialRecord | None:
    ranked = state.ranked(metric)
    return ranked[0] if ranked else None


def explain_end(config: SearchConfig, state: ExperimentState, reason: SearchEnd) -> str:
    """Say in a sentence why a search is over, and how it could go on."""
    if reason == "target":
        target = metric_text(config.metric, config.budget.target)
        return f"The target is met: {config.metric} {target}. To go on: --target none."
    if reason == "no_improvement":
        return (
            f"The last {config.budget.patience} trials brought nothing better. "
            "To go on: --patience none."
        )
    if reason == "too_many_failed":
        return (
            f"{state.count('failed')} of {config.budget.trials} trials failed, more than "
            f"max_failed ({config.max_failed:g}) allows. When the reason is mended: --retry-failed."
        )
    return "All trials have ended. For more: --trials +20, or --max-epochs."
