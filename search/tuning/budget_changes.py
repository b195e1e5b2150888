"""Changes of a search's budget: more trials, more epochs, another target, retries of failed trials.

Pure: turns the current state and the requested changes into one budget event. The driver records
the event before it continues the search, so that a later resume finds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from celltune.search.config.given import check_given
from celltune.search.config.loading import first_problem
from celltune.search.config.problems import shown
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import BudgetChanged, EpochReported, Event
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.snapshot import with_budget
from celltune.search.tuning.base import EarlyStoppingRule, make_rule
from celltune.search.tuning.stopping import stagnates
from celltune.search.types import is_wide_only
from celltune.search.wording import counted

_TRIALS = re.compile(r"(\+?)([0-9]{1,15})")
_NONE = ("none", "null")


@dataclass(frozen=True)
class Changes:
    """Requested changes of a budget; None keeps the current value."""

    trials: int | str | None = None
    """The total number of trials, or an increment such as `+20`."""
    max_epochs: int | None = None
    """The maximum number of epochs of a trial; it can only grow."""
    target: float | str | None = None
    """A value of the metric, or `none` for no target."""
    patience: int | str | None = None
    """A number of trials, or `none` for no limit."""
    repeat: bool = False
    """Whether further trials may repeat configurations that were tried, with other seeds."""
    retry_failed: bool = False
    """Whether failed trials are retried from their newest checkpoints."""


def config_after(config: SearchConfig, state: ExperimentState, changes: Changes) -> SearchConfig:
    """Return the config with the budget after the changes.

    Args:
        config: the config of the launch.
        state: the experiment's current state.
        changes: the requested changes.

    Raises:
        ConfigError: a change is invalid.
    """
    config = with_budget(config, state)
    requested = {
        "trials": _total_trials(changes.trials, config.budget.trials),
        "max_epochs": changes.max_epochs,
        "target": _parse_number(changes.target, "target", float),
        "patience": _parse_number(changes.patience, "patience", int),
        "repeat": changes.repeat or None,
    }
    updates = {name: value for name, value in requested.items() if value is not None}
    cleared = {name: None for name in ("target", "patience") if getattr(changes, name) in _NONE}
    if not updates and not cleared:
        return config
    plain = config.model_dump(mode="json")
    budget = {**plain["budget"], **updates, **cleared}
    try:
        new = SearchConfig.model_validate({**plain, "budget": budget})
    except ValidationError as error:
        raise ConfigError(f"The budget cannot be changed: {first_problem(error)}") from error
    check_given(new, ["budget"])
    _check_growth(config, new, state)
    return new


def _total_trials(requested: int | str | None, current: int) -> int | None:
    if requested is None or isinstance(requested, int):
        return requested
    match = _TRIALS.fullmatch(requested.strip())
    if match is None:
        raise ConfigError(
            f"`trials` is {shown(requested)}. Give a number of trials (100) or an increment (+20)."
        )
    return int(match[2]) + (current if match[1] else 0)


def _parse_number(value: float | str | None, name: str, kind: type) -> float | int | None:
    if not isinstance(value, str):
        return value
    if value in _NONE:
        return None
    try:
        number: float | int = kind(value)
    except ValueError as error:
        allowed = "a whole number" if kind is int else "a number"
        raise ConfigError(f"`{name}` is {shown(value)}. Give {allowed} or none.") from error
    return number


def _check_growth(old: SearchConfig, new: SearchConfig, state: ExperimentState) -> None:
    if new.budget.trials < len(state.trials):
        raise ConfigError(
            f"`trials` is {new.budget.trials}, but {len(state.trials)} trials were already "
            "started. Give at least this number."
        )
    if new.budget.max_epochs < old.budget.max_epochs:
        raise ConfigError(
            f"`max_epochs` is {new.budget.max_epochs}, but trials were started with "
            f"{old.budget.max_epochs}. Give at least this number."
        )


def budget_event(
    config: SearchConfig,
    ledger: Iterable[Event],
    state: ExperimentState,
    changes: Changes,
    at: float,
) -> BudgetChanged | None:
    """Return the changes as a single event (atomic), or None if nothing changes.

    If `max_epochs` grows, unfinished trials get the additional epochs, and so do those completed
    trials that the early-stopping rule would let continue, unless they ended because they no longer
    improved (`epoch_patience`). Pruned trials stay pruned. The best trained trial is an exception:
    it continues whatever the rule says, because the rule compares losses at a rung, while the
    ranking also asks whether a trial improves on the wide part alone.

    Args:
        config: the config of the launch.
        ledger: all events so far.
        state: the state after these events.
        changes: the requested changes.
        at: the event's time stamp, in seconds since 1970.

    Raises:
        ConfigError: a change is invalid.
    """
    old, new = with_budget(config, state), config_after(config, state, changes)
    extended: list[int] = []
    if new.budget.max_epochs > old.budget.max_epochs:
        extended = _extended_trials(new, ledger, state)
    failed = [trial.number for trial in state.trials if trial.status == "failed"]
    retried = failed if changes.retry_failed else []
    if new.budget == old.budget and not retried:
        return None
    recorded = new.budget.model_dump(
        include={"trials", "max_epochs", "target", "patience", "repeat"}
    )
    return BudgetChanged(at=at, **recorded, extended=extended, retried=retried)


def _extended_trials(
    config: SearchConfig, ledger: Iterable[Event], state: ExperimentState
) -> list[int]:
    rule = make_rule(config)
    for event in ledger:
        if rule is None or not isinstance(event, EpochReported):
            continue
        if not is_wide_only(state.trials[event.number].params):
            rule.take(event.number, event.epoch, event.metrics)
    best = _best_trained(config, state)
    return [
        trial.number
        for trial in state.trials
        if trial.status == "unfinished"
        or (
            trial.status in ("completed", "pruned")
            and not _has_converged(config, trial)
            and (trial is best or _may_extend(rule, trial))
        )
    ]


def _best_trained(config: SearchConfig, state: ExperimentState) -> TrialRecord | None:
    """Return the trial that ranks first, apart from the wide part alone."""
    ranked = state.ranked(config.metric)
    return next((trial for trial in ranked if not is_wide_only(trial.params)), None)


def _may_extend(rule: EarlyStoppingRule | None, trial: TrialRecord) -> bool:
    if trial.status == "pruned":
        return False
    return rule is None or rule.may_extend(trial.number)


def describe_extension(config: SearchConfig, state: ExperimentState, event: BudgetChanged) -> str:
    """Return which trials get the additional epochs of a budget event, and about the best trial.

    Args:
        config: the config of the launch.
        state: the state before the event.
        event: the result of `budget_event`.

    Returns:
        The sentences; empty if `max_epochs` does not grow.
    """
    if event.max_epochs <= with_budget(config, state).budget.max_epochs or not state.trials:
        return ""
    names = ", ".join(map(str, event.extended))
    sentences = [
        f"Trained further, up to {counted(event.max_epochs, 'epoch')}: "
        f"{'trial' if len(event.extended) == 1 else 'trials'} {names}."
        if names
        else "No trial is trained further."
    ]
    best = next(iter(state.ranked(config.metric)), None)
    if best is not None and best.number not in event.extended:
        sentences.append(f"The best trial, {best.number}, stays as it is: {_why_over(best)}.")
    return " ".join(sentences)


def _why_over(trial: TrialRecord) -> str:
    if is_wide_only(trial.params):
        return "it is the wide part alone, which is not trained in epochs"
    if trial.status == "failed":
        return "it failed"
    return "it ended because it no longer improved"


def _has_converged(config: SearchConfig, trial: TrialRecord) -> bool:
    """Return whether more epochs do not help a trial, according to the config."""
    values = [epoch.metrics[config.metric] for epoch in trial.epochs]
    stagnated = stagnates(values, config.metric, config.budget.epoch_patience)
    return stagnated or is_wide_only(trial.params)
