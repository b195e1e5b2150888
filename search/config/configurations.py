"""The configurations of a space: how many there are, and which one a trial has.

A configuration is what a sampler can choose: the values of the active searched hyperparameters.
Continuous ranges have more configurations than any search tries. They count as `GRID` values here,
so that every configuration has a number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celltune.search.config.space import CONDITIONS, Choice, Dimension, Space
from celltune.search.types import ParameterValue

GRID = 2**32
"""Number of values of a continuous range that can be drawn."""

_MOST_DECIDING = 1_000
"""Values of a hyperparameter on which others depend, such as num_layers, that are told apart."""

Configuration = tuple[tuple[str, ParameterValue], ...]
"""Identifies a configuration: the names of the active searched hyperparameters with the numbers of
their values, or the values themselves in continuous ranges."""


def configuration_of(space: Space, params: Mapping[str, ParameterValue]) -> Configuration | None:
    """Return the configuration of a trial.

    Args:
        space: the search space.
        params: all active hyperparameters of the trial.

    Returns:
        None if the trial is outside of the space.
    """
    if not space.contains(params):
        return None
    return tuple(
        (name, number_of(dimension, params[name]))
        for name, dimension in space.searched.items()
        if name in params
    )


class Configurations:
    """The numbered configurations of a space, or those of them that have given values."""

    def __init__(self, space: Space, given: Mapping[str, ParameterValue] | None = None) -> None:
        """Count the configurations.

        Args:
            space: the search space.
            given: values of hyperparameters that all counted configurations have. Those of inactive
                hyperparameters are ignored.
        """
        given = given or {}
        searched = {name: d for name, d in space.searched.items() if name not in given}
        self._space = replace(space, fixed={**space.fixed, **given}, searched=searched)
        self._groups = _groups(self._space)

    @property
    def total(self) -> int:
        """Number of configurations; a continuous range counts as `GRID` values."""
        return sum(group.size for group in self._groups)

    @property
    def finite(self) -> int | None:
        """Number of configurations; None if a hyperparameter has a continuous range."""
        return self.total if all(group.is_finite for group in self._groups) else None

    def at(self, number: int) -> dict[str, ParameterValue]:
        """Return all active hyperparameters of a configuration.

        Args:
            number: from 0 to `total - 1`.
        """
        for group in self._groups:
            if number < group.size:
                return self._space.suggest(_Numbered(group.numbers_at(number)))
            number -= group.size
        raise IndexError("The space has no configuration with this number.")


@dataclass(frozen=True)
class _Group:
    """Configurations that differ only in hyperparameters on which no others depend."""

    deciding: Mapping[str, int]
    """Numbers of the values of hyperparameters on which others depend."""
    others: Mapping[str, Dimension]
    """The other active searched hyperparameters."""
    is_finite: bool

    @property
    def size(self) -> int:
        """Number of configurations."""
        return math.prod(_size(dimension) for dimension in self.others.values())

    def numbers_at(self, number: int) -> dict[str, int]:
        """Return the numbers of all values of a configuration of the group."""
        numbers = dict(self.deciding)
        for name, dimension in self.others.items():
            number, numbers[name] = divmod(number, _size(dimension))
        return numbers


def _groups(space: Space) -> list[_Group]:
    """Return the groups of all configurations of a space, without repetitions."""
    depended = {condition.depends_on for condition in CONDITIONS.values()}
    deciding = {name: d for name, d in space.searched.items() if name in depended}
    all_counted = all(_size(dimension) <= _MOST_DECIDING for dimension in deciding.values())
    ranges = [range(min(_size(d), _MOST_DECIDING)) for d in deciding.values()]
    groups: dict[Any, _Group] = {}
    for combination in itertools.product(*ranges):
        numbers = dict(zip(deciding, combination, strict=True))
        active = space.suggest(_Numbered(numbers))
        chosen = {name: number for name, number in numbers.items() if name in active}
        others = {
            name: dimension
            for name, dimension in space.searched.items()
            if name in active and name not in deciding
        }
        is_finite = all_counted and not any(map(_is_continuous, others.values()))
        groups.setdefault(tuple(chosen.items()), _Group(chosen, others, is_finite))
    return list(groups.values())


def _is_continuous(dimension: Dimension) -> bool:
    return not isinstance(dimension, Choice) and not dimension.integer and dimension.step is None


def _size(dimension: Dimension) -> int:
    """Return the number of values of a hyperparameter."""
    if isinstance(dimension, Choice):
        return len(dimension.values)
    if _is_continuous(dimension):
        return GRID
    # The bounds are decimal numbers, so that a quotient can be slightly below a whole number.
    return math.floor((dimension.high - dimension.low) / (dimension.step or 1) + 1e-9) + 1


def number_of(dimension: Dimension, value: ParameterValue) -> ParameterValue:
    """Return the number of a value in its hyperparameter.

    Returns:
        The value itself if the range is continuous or the hyperparameter does not have the value.
    """
    if isinstance(dimension, Choice):
        # 1 == True == 1.0, but they are different choices.
        same = (type(value) is type(choice) and value == choice for choice in dimension.values)
        return next((index for index, found in enumerate(same) if found), value)
    if _is_continuous(dimension) or not isinstance(value, (int, float)):
        return value
    return round((value - dimension.low) / (dimension.step or 1))


@dataclass(frozen=True)
class _Numbered:
    """Provides the values with given numbers, by default the first ones (a `ValueSource`)."""

    numbers: Mapping[str, int]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self.numbers.get(name, 0)]

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:  # noqa: ARG002
        return low + step * self.numbers.get(name, 0)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        number = self.numbers.get(name, 0)
        if step is not None:
            return min(high, low + step * number)
        share = number / GRID
        value = low * (high / low) ** share if log else low + (high - low) * share
        return min(high, max(low, value))
