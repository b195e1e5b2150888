"""The search space: fixed and searched hyperparameters.

Each hyperparameter of `models.ModelConfig` and `models.TrainingConfig` can be set by one line of
`space` in a config, in one of three forms; the others keep their defaults::

    space:
      cell: [gru, lstm]                                  # a choice
      hidden_size: {low: 16, high: 128, log: true}       # a range, of the hyperparameter's type
      embedding_size: 100                                # a fixed value
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from pydantic import BaseModel

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.search.types import ParameterValue, is_wide_only

OWNERS: Mapping[str, type[BaseModel]] = {
    name: owner for owner in (ModelConfig, TrainingConfig) for name in owner.model_fields
}
"""The config that each hyperparameter belongs to. Values are suggested in this order: wide first,
and num_layers before layer_dropout, because others depend on them (see `CONDITIONS`)."""


@dataclass(frozen=True)
class Choice:
    """A list of possible values."""

    values: tuple[ParameterValue, ...]


@dataclass(frozen=True)
class Range:
    """The numbers between two bounds, both included."""

    low: float
    high: float
    log: bool = False
    """True if the logarithm is distributed uniformly."""
    step: float | None = None
    """Distance of the possible values from each other; None: every number, or every integer."""
    integer: bool = False


Dimension = Choice | Range
"""The possible values of a searched hyperparameter."""


class ValueSource(Protocol):
    """Provides the values of searched hyperparameters; an `optuna.Trial` is one."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return an integer from `low` to `high`."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """Return a number from `low` to `high`."""


@dataclass(frozen=True)
class Condition:
    """When a hyperparameter is active: a condition on another one, which precedes it."""

    depends_on: str
    holds: Callable[[Any], bool]


CONDITIONS: Mapping[str, Condition] = {
    **{name: Condition("wide", lambda wide: wide != "only") for name in OWNERS if name != "wide"},
    "layer_dropout": Condition("num_layers", lambda layers: layers > 1),
}
"""When each hyperparameter is active; one without a condition always is. If the one that it depends
on is inactive, the default of that one decides: the wide part alone has no layer dropout."""


class _OutsideError(Exception):
    """A recorded value is outside of the space."""


@dataclass(frozen=True)
class _Recorded:
    """Provides the values of an earlier trial (a `ValueSource`)."""

    params: Mapping[str, ParameterValue]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self.params.get(name)
        # 1 == True == 1.0, but they are different choices.
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
        if not low <= value <= high or (step and not _is_multiple(value - low, step)):
            raise _OutsideError(name)
        return float(value)


def _is_multiple(distance: float, step: float) -> bool:
    return abs(distance / step - round(distance / step)) < 1e-9


@dataclass(frozen=True)
class Space:
    """The fixed and the searched hyperparameters, by name."""

    fixed: Mapping[str, ParameterValue]
    searched: Mapping[str, Dimension]

    def suggest(
        self, source: ValueSource, given: Mapping[str, ParameterValue] | None = None
    ) -> dict[str, ParameterValue]:
        """Return all active hyperparameters.

        Args:
            source: provides the values of the searched hyperparameters.
            given: values for which `source` is not asked. They replace fixed values and may be
                outside of the space.
        """
        given = given or {}
        params: dict[str, ParameterValue] = {}
        for name in OWNERS:
            if not is_active(name, params):
                continue
            if name in given:
                params[name] = given[name]
            elif name in self.searched:
                params[name] = _suggest(source, name, self.searched[name])
            elif name in self.fixed:
                params[name] = self.fixed[name]
        return params

    def recorded(
        self,
        params: Mapping[str, ParameterValue],
        given: Mapping[str, ParameterValue] | None = None,
    ) -> dict[str, ParameterValue] | None:
        """Return the active hyperparameters of this space with the values of an earlier trial.

        Args:
            params: the hyperparameters of the trial. Those that this space does not search are
                ignored.
            given: see `suggest`.

        Returns:
            None if the value of a searched hyperparameter is missing or outside of the space.
        """
        try:
            return self.suggest(_Recorded(params), given)
        except _OutsideError:
            return None

    def contains(self, params: Mapping[str, ParameterValue]) -> bool:
        """Return whether hyperparameters are a point of this space: it could have proposed them."""
        return self.recorded(params) == dict(params)

    def allows(self, name: str, value: ParameterValue) -> bool:
        """Return whether a point of this space may have a value of one hyperparameter."""
        if name not in self.searched:
            return name in self.fixed and self.fixed[name] == value
        try:
            _suggest(_Recorded({name: value}), name, self.searched[name])
        except _OutsideError:
            return False
        return True

    def largest(
        self, given: Mapping[str, ParameterValue] | None = None
    ) -> Iterator[dict[str, ParameterValue]]:
        """Yield the hyperparameters of trials, one of which is the largest model of the space.

        They have the highest value of each number (none counts as the highest) and flag, with each
        combination of the other choices, such as cells. The wide part alone is not among them.

        Args:
            given: values that all of these trials have (see `suggest`).
        """
        names = {
            name: dimension.values
            for name, dimension in self.searched.items()
            if isinstance(dimension, Choice) and isinstance(dimension.values[0], str)
        }
        for values in itertools.product(*names.values()):
            chosen = dict(zip(names, values, strict=True))
            params = self.suggest(Highest(), {**chosen, **(given or {})})
            if not is_wide_only(params):
                yield params

    def values(self, name: str) -> tuple[ParameterValue, ...]:
        """Return all values of a hyperparameter that is not a range."""
        dimension = self.searched.get(name)
        if isinstance(dimension, Choice):
            return dimension.values
        return (self.fixed.get(name, defaults().get(name)),)

    @cached_property
    def size(self) -> int | None:
        """Number of configurations; None if a hyperparameter has a continuous range."""
        # That module imports this one. The number is asked for after every epoch.
        from celltune.search.config.configurations import Configurations

        return Configurations(self).finite

    def to_yaml(self) -> dict[str, Any]:
        """Return the space in the form in which a YAML file contains it."""
        searched = {name: _dimension_to_yaml(value) for name, value in self.searched.items()}
        return {**self.fixed, **searched}


class Highest:
    """Provides the highest number or flag of each hyperparameter."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ARG002
        return None if None in choices else max(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:  # noqa: ARG002
        return high

    def suggest_float(
        self,
        name: str,  # noqa: ARG002
        low: float,  # noqa: ARG002
        high: float,
        *,
        step: float | None,  # noqa: ARG002
        log: bool,  # noqa: ARG002
    ) -> float:
        return high


def is_active(name: str, params: Mapping[str, ParameterValue]) -> bool:
    """Return whether a hyperparameter has an effect in a trial.

    Args:
        name: the hyperparameter.
        params: the hyperparameters of the trial, at least those that precede `name` in `OWNERS`.
    """
    condition = CONDITIONS.get(name)
    if condition is None:
        return True
    field = OWNERS[condition.depends_on].model_fields[condition.depends_on]
    return condition.holds(params.get(condition.depends_on, field.default))


def _suggest(source: ValueSource, name: str, dimension: Dimension) -> ParameterValue:
    if isinstance(dimension, Choice):
        value: ParameterValue = source.suggest_categorical(name, dimension.values)
        return value
    if dimension.integer:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return source.suggest_int(name, low, high, step=step, log=dimension.log)
    return source.suggest_float(
        name, dimension.low, dimension.high, step=dimension.step, log=dimension.log
    )


def _dimension_to_yaml(dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return list(dimension.values)
    kind = int if dimension.integer else float
    plain: dict[str, Any] = {"low": kind(dimension.low), "high": kind(dimension.high)}
    if dimension.log:
        plain["log"] = True
    if dimension.step is not None:
        plain["step"] = kind(dimension.step)
    return plain


def hyperparameters() -> tuple[str, ...]:
    """Return the names of all hyperparameters."""
    return tuple(OWNERS)


def defaults() -> dict[str, ParameterValue]:
    """Return the default values of the hyperparameters that have one."""
    return {
        name: owner.model_fields[name].default
        for name, owner in OWNERS.items()
        if not owner.model_fields[name].is_required()
    }


def model_and_training(params: Mapping[str, ParameterValue]) -> tuple[ModelConfig, TrainingConfig]:
    """Return the configs of a trial's model and of its training."""
    model: dict[str, Any] = {k: v for k, v in params.items() if OWNERS[k] is ModelConfig}
    training: dict[str, Any] = {k: v for k, v in params.items() if OWNERS[k] is TrainingConfig}
    return ModelConfig(**model), TrainingConfig(**training)


def number_type(name: str) -> type | None:
    """Return the type of a hyperparameter that is a number, float or int; None for others."""
    annotation = OWNERS[name].model_fields[name].annotation
    members = (
        typing.get_args(annotation)
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
        else (annotation,)
    )
    return next((kind for kind in (float, int) if kind in members), None)
