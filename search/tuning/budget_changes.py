"""Going further than was planned: more trials, more epochs, failed trials once more.

Pure: from what is there and what is wanted to the events that say it. The driver writes them before
it takes up the search, so that a resume after any death finds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from celltune.search.config.loading import first_mistake
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import BudgetChanged, EpochReported, Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.snapshot import with_budget
from celltune.search.tuning.asha import make_rungs

_TRIALS = re.compile(r"(\+?)(\d+)")


@dataclass(frozen=True)
class Changes:
    """What a resume should change; None leaves a thing as it is."""

    trials: int | str | None = None
    """In all, or `+20` for so many more."""
    max_epochs: int | None = None
    target: float | str | None = None
    """A value of the metric, or `none` for no target."""
    patience: int | str | None = None
    """A number of trials, or `none` for no end by it."""
    retry_failed: bool = False


def config_after(config: SearchConfig, state: ExperimentState, changes: Changes) -> SearchConfig:
    """Give the config with the budget that `changes` ask for.

    Args:
        config: as launched.
        state: of the experiment.
        changes: what is wanted.

    Raises:
        ConfigError: it can't be had.
    """
    config = with_budget(config, state)
    wanted = {
        "trials": _trials(changes.trials, config.budget.trials),
        "max_epochs": changes.max_epochs,
        "target": _number(changes.target, "--target", float),
        "patience": _number(changes.patience, "--patience", int),
    }
    lifted = {
        name: None for name in ("target", "patience") if getattr(changes, name) in ("none", "null")
    }
    given = {name: value for name, value in wanted.items() if value is not None} | lifted
    if not given:
        return config
    plain = config.model_dump(mode="json")
    try:
        new = SearchConfig.model_validate({**plain, "budget": {**plain["budget"], **given}})
    except ValidationError as error:
        raise ConfigError(f"The budget can't be changed: {first_mistake(error)}") from error
    _check_grows(config, new, state)
    return new


def _trials(wanted: int | str | None, now: int) -> int | None:
    if wanted is None or isinstance(wanted, int):
        return wanted
    match = _TRIALS.fullmatch(wanted.strip())
    if match is None:
        raise ConfigError(
            f"--trials is '{wanted}'; it must be a number of trials in all (100) or more of them "
            "(+20)."
        )
    return int(match[2]) + (now if match[1] else 0)


def _number(wanted: float | str | None, option: str, kind: type) -> float | int | None:
    if not isinstance(wanted, str) or wanted in ("none", "null"):
        return None if isinstance(wanted, str) else wanted
    try:
        number: float | int = kind(wanted)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{option} is '{wanted}'; it must be {what}, or none.") from error
    return number


def _check_grows(old: SearchConfig, new: SearchConfig, state: ExperimentState) -> None:
    if new.budget.trials < len(state.trials):
        raise ConfigError(
            f"--trials is {new.budget.trials}, but {len(state.trials)} trials were begun already; "
            "name at least as many."
        )
    if new.budget.max_epochs < old.budget.max_epochs:
        raise ConfigError(
            f"--max-epochs is {new.budget.max_epochs}, below the {old.budget.max_epochs} that "
            "trials were begun with; it can only grow."
        )


def budget_event(
    config: SearchConfig,
    ledger: Iterable[Event],
    state: ExperimentState,
    changes: Changes,
    at: float,
) -> BudgetChanged | None:
    """Say a change as one event, so that it happens whole or not at all; None: nothing changes.

    With more epochs, unfinished trials get them, and of the completed ones those whose value at
    the last rung they reached is among the best 1/reduction_factor of all that reached it: the ones
    that ASHA would let pass. Pruned trials stay pruned.

    Args:
        config: as launched.
        ledger: all events so far.
        state: what they come to.
        changes: what is wanted.
        at: the time to stamp it with, in seconds since 1970.

    Raises:
        ConfigError: it can't be had.
    """
    old, new = with_budget(config, state), config_after(config, state, changes)
    extended: list[int] = []
    if new.budget.max_epochs > old.budget.max_epochs:
        extended = _passing(new, ledger, state)
    failed = [trial.number for trial in state.trials if trial.status == "failed"]
    retried = failed if changes.retry_failed else []
    if new.budget == old.budget and not retried:
        return None
    kept = new.budget.model_dump(include={"trials", "max_epochs", "target", "patience"})
    return BudgetChanged(at=at, **kept, extended=extended, retried=retried)


def _passing(config: SearchConfig, ledger: Iterable[Event], state: ExperimentState) -> list[int]:
    rungs = make_rungs(config)
    for event in ledger:
        if rungs is not None and isinstance(event, EpochReported):
            rungs.take(event.number, event.epoch, event.metrics)
    return [
        trial.number
        for trial in state.trials
        if trial.status == "unfinished"
        or (trial.status == "completed" and (rungs is None or rungs.would_pass(trial.number)))
    ]
