"""What an earlier search learned, as far as it lies in a new search's space.

Pure: a state in, an event out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celltune.search.config.space import Space, defaults
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import PriorTrial, WarmStarted
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.types import Metric, ParameterValue


class _OutsideError(Exception):
    """A trial's value isn't in the new space."""


@dataclass(frozen=True)
class _Given:
    """Answers a space's questions with the values that a trial had (see `space.Suggests`)."""

    params: Mapping[str, ParameterValue]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self.params.get(name)
        # 1 == True == 1.0, but they aren't the same choice.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise _OutsideError(name)
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:  # noqa: ARG002
        value = self.params.get(name)
        inside = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if not inside or not isinstance(value, int) or (value - low) % step:
            raise _OutsideError(name)
        return value

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None,
        log: bool,  # noqa: ARG002
    ) -> float:
        value = self.params.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _OutsideError(name)
        if not low <= value <= high or (step and not _on_grid(value - low, step)):
            raise _OutsideError(name)
        return float(value)


def _on_grid(distance: float, step: float) -> bool:
    return abs(distance / step - round(distance / step)) < 1e-9


def warm_start_event(
    origin: str, state: ExperimentState, space: Space, metric: Metric, at: float
) -> WarmStarted:
    """Give what the trials of an earlier search say about a new space.

    A trial is taken if it completed or was pruned and each of its values lies in the new space; a
    hyperparameter that it didn't name had its default. Hyperparameters that the new space doesn't
    search are left out.

    Args:
        origin: the earlier search's name.
        state: the earlier search's state.
        space: the new search's.
        metric: the new search's.
        at: the time to stamp the event with, in seconds since 1970.

    Raises:
        ConfigError: not one trial can be taken.
    """
    ended = [t for t in state.trials if t.status in ("completed", "pruned") and t.epochs]
    taken = [prior for trial in ended if (prior := _prior(trial, space, metric)) is not None]
    if not taken:
        raise ConfigError(
            f"Nothing can be learned from '{origin}': {len(ended)} of its trials ended with a "
            "result, and none of them lies in the new space. Launch without --from, or widen the "
            "space."
        )
    names = {name for trial in ended for name in trial.params}
    return WarmStarted(
        at=at,
        origin=origin,
        trials=taken,
        outside=len(ended) - len(taken),
        parameters_left_out=sorted(names - set(space.searched)),
    )


def _prior(trial: TrialRecord, space: Space, metric: Metric) -> PriorTrial | None:
    try:
        params = space.suggest(_Given({**defaults(), **trial.params}))
    except _OutsideError:
        return None
    return PriorTrial(
        number=trial.number,
        params={name: value for name, value in params.items() if name in space.searched},
        status="completed" if trial.status == "completed" else "pruned",
        values={epoch.epoch: epoch.metrics[metric] for epoch in trial.epochs},
    )


def describe_warm_start(event: WarmStarted) -> str:
    """Say in words what was taken over."""
    parts = [f"Warm start: {len(event.trials)} trials of '{event.origin}' are known"]
    if event.outside:
        parts.append(f"{event.outside} lie outside the new space and were left out")
    if event.parameters_left_out:
        parts.append(f"parameters not searched here: {', '.join(event.parameters_left_out)}")
    if not event.same_data:
        parts.append("it searched on other data, so its values may not compare with these")
    return "; ".join(parts)
