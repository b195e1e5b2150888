"""Warm starts: the trials of an earlier search that are within a new search's space.

Pure: turns the state of the earlier search into an event of the new one.
"""

from __future__ import annotations

from celltune.search.config.space import Space, defaults
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import PriorTrial, WarmStarted
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import Metric, is_wide_only


def warm_start_event(
    origin: str, state: ExperimentState, space: Space, metric: Metric, at: float
) -> WarmStarted:
    """Return the event that gives a new search the trials of an earlier one.

    A trial is used if it was completed or pruned, recorded the metric, and all of its values are
    within the new space. A hyperparameter that the trial does not record counts with its default
    value. Hyperparameters that the new space does not search are omitted.

    Args:
        origin: the name of the earlier search.
        state: the state of the earlier search.
        space: the space of the new search.
        metric: the metric of the new search.
        at: the event's time stamp, in seconds since 1970.

    Raises:
        ConfigError: no trial can be used.
    """
    ended = [t for t in state.trials if t.status in ("completed", "pruned") and t.epochs]
    measured = [trial for trial in ended if metric in trial.epochs[-1].metrics]
    usable = [prior for trial in measured if (prior := _prior(trial, space, metric)) is not None]
    if not usable:
        raise ConfigError(
            f"`warm_start` names '{origin}', but none of its {len(ended)} completed or pruned "
            f"trials has a value of {metric} and is within the new space. Launch without a warm "
            "start, or widen the space."
        )
    names = {name for trial in ended for name in trial.params}
    return WarmStarted(
        at=at,
        origin=origin,
        trials=usable,
        outside=len(ended) - len(usable),
        parameters_left_out=sorted(names - set(space.searched)),
    )


def _prior(trial: TrialRecord, space: Space, metric: Metric) -> PriorTrial | None:
    params = space.recorded({**defaults(), **trial.params})
    # The wide part alone has no other hyperparameters, so their defaults say nothing about it.
    if params is None or is_wide_only(params) != is_wide_only(trial.params):
        return None
    return PriorTrial(
        number=trial.number,
        params={name: value for name, value in params.items() if name in space.searched},
        status="completed" if trial.status == "completed" else "pruned",
        values={epoch.epoch: epoch.metrics[metric] for epoch in trial.epochs},
    )


def describe_warm_start(event: WarmStarted, metric: Metric) -> str:
    """Return a summary of a warm start.

    Args:
        event: the warm start.
        metric: the metric of the new search.
    """
    sentences = [f"The warm start uses {_trials(len(event.trials))} of '{event.origin}'."]
    if event.outside:
        verb = "is" if event.outside == 1 else "are"
        has = "has" if event.outside == 1 else "have"
        sentences.append(
            f"It omits {_trials(event.outside)} that {verb} outside the new space or {has} no "
            f"{metric}."
        )
    if event.parameters_left_out:
        sentences.append(f"Not searched here: {', '.join(event.parameters_left_out)}.")
    if not event.same_data:
        sentences.append(
            "The experiments used different data, so the values may not be comparable."
        )
    return " ".join(sentences)


def _trials(number: int) -> str:
    return "1 trial" if number == 1 else f"{number} trials"
