"""The first trials of a search, whose hyperparameters the config gives (`first_trials`).

Those with values outside of the space are recorded and ranked, but a sampler cannot learn from
them: its model of the space has no place for them. It receives such a trial as failed, with the
values that are within the space, when the trial is created and again in every replay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Highest, Space
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import ParameterValue, is_wide_only
from celltune.search.wording import listed


def given_by_config(config: SearchConfig, number: int) -> Mapping[str, ParameterValue] | None:
    """Return the hyperparameters that the config gives to a trial; None if it gives none."""
    first = config.first_trials
    return first[number] if number < len(first) else None


def is_withheld(config: SearchConfig, trial: TrialRecord) -> bool:
    """Return whether the sampler does not learn from a trial."""
    # Only first trials can be outside of the space.
    return trial.number < len(config.first_trials) and not config.space.contains(trial.params)


def as_failed(trial: TrialRecord, space: Space) -> TrialRecord:
    """Return a withheld trial as the sampler sees it."""
    inside = {name: value for name, value in trial.params.items() if space.allows(name, value)}
    error = "a hyperparameter is outside of the space"
    return replace(trial, params=inside, epochs=[], status="failed", error=error, details="")


def outside_note(config: SearchConfig) -> str:
    """Return which first trials the sampler does not learn from, as a sentence; empty if none.

    The wide part alone is not mentioned, because a sampler could not learn from it anyway.
    """
    space, shown = config.space, []
    for number, trial in enumerate(config.first_trials):
        active = space.suggest(Highest(), trial)
        outside = [name for name in trial if name in active and not space.allows(name, trial[name])]
        if outside and not is_wide_only(active):
            names = listed([f"{name} {trial[name]}" for name in outside])
            shown.append(f"{number} ({names})")
    if not shown:
        return ""
    trials = "first trial" if len(shown) == 1 else "first trials"
    return f"Outside of the space, so that the sampler does not learn: {trials} {listed(shown)}."


def seen_by_sampler(config: SearchConfig, state: ExperimentState) -> ExperimentState:
    """Return the state of a search as the sampler sees it."""
    withheld = {t.number for t in state.trials if is_withheld(config, t)}
    if not withheld:
        return state
    seen = copy.copy(state)
    seen.trials = [
        as_failed(trial, config.space) if trial.number in withheld else trial
        for trial in state.trials
    ]
    return seen
