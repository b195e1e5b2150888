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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.search.config.problems import problem_text, shown
from celltune.search.types import ParameterValue
from celltune.spelling import closest_match

_RANGE_KEYS = ("low", "high", "log", "step")


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
    "layer_dropout": Condition("num_layers", lambda layers: layers > 1),
}
"""The conditional hyperparameters; all others are always active."""


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
            given: values of searched hyperparameters for which `source` is not asked.
        """
        given = given or {}
        params: dict[str, ParameterValue] = {}
        for name in _OWNERS:
            if not _is_active(name, params):
                continue
            if name in self.searched and name in given:
                params[name] = given[name]
            elif name in self.searched:
                params[name] = _suggest(source, name, self.searched[name])
            elif name in self.fixed:
                params[name] = self.fixed[name]
        return params

    def largest(self) -> Iterator[dict[str, ParameterValue]]:
        """Yield the hyperparameters of trials, one of which is the largest model of the space.

        They have the highest value of each number (none counts as the highest) and flag, with each
        combination of the other choices, such as cells.
        """
        names = {
            name: dimension.values
            for name, dimension in self.searched.items()
            if isinstance(dimension, Choice) and isinstance(dimension.values[0], str)
        }
        for values in itertools.product(*names.values()):
            yield self.suggest(_Highest(), dict(zip(names, values, strict=True)))

    def values(self, name: str) -> tuple[ParameterValue, ...]:
        """Return all values of a hyperparameter that is not a range."""
        dimension = self.searched.get(name)
        if isinstance(dimension, Choice):
            return dimension.values
        return (self.fixed.get(name, defaults().get(name)),)

    def to_yaml(self) -> dict[str, Any]:
        """Return the space in the form in which a YAML file contains it."""
        searched = {name: _dimension_to_yaml(value) for name, value in self.searched.items()}
        return {**self.fixed, **searched}


class _Highest:
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


def _is_active(name: str, params: Mapping[str, ParameterValue]) -> bool:
    condition = CONDITIONS.get(name)
    if condition is None:
        return True
    field = _OWNERS[condition.depends_on].model_fields[condition.depends_on]
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


# ---------------------------------------------------------------------------------------------
# The hyperparameters and their types: the fields of the two configs of `models`.


def _owners() -> dict[str, type[BaseModel]]:
    # The order matters: num_layers precedes layer_dropout, which depends on it.
    return {name: owner for owner in (ModelConfig, TrainingConfig) for name in owner.model_fields}


_OWNERS = _owners()


def hyperparameters() -> tuple[str, ...]:
    """Return the names of all hyperparameters."""
    return tuple(_OWNERS)


def defaults() -> dict[str, ParameterValue]:
    """Return the default values of the hyperparameters that have one."""
    return {
        name: owner.model_fields[name].default
        for name, owner in _OWNERS.items()
        if not owner.model_fields[name].is_required()
    }


def model_and_training(params: Mapping[str, ParameterValue]) -> tuple[ModelConfig, TrainingConfig]:
    """Return the configs of a trial's model and of its training."""
    model: dict[str, Any] = {k: v for k, v in params.items() if _OWNERS[k] is ModelConfig}
    training: dict[str, Any] = {k: v for k, v in params.items() if _OWNERS[k] is TrainingConfig}
    return ModelConfig(**model), TrainingConfig(**training)


def _number_type(name: str) -> type | None:
    annotation = _OWNERS[name].model_fields[name].annotation
    members = (
        typing.get_args(annotation)
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
        else (annotation,)
    )
    return next((kind for kind in (float, int) if kind in members), None)


# ---------------------------------------------------------------------------------------------
# Validation; all problems are reported at once.


@dataclass(frozen=True)
class _Problem:
    """One error in a space."""

    text: str
    """A predicate about the location, or a sentence (see `problems`)."""
    location: tuple[str, ...] = ()
    """Keys below the hyperparameter, or below the space."""


def parse_space(raw: Any) -> Space:
    """Validate a space in the form in which YAML contains it.

    Raises:
        ValidationError: with one entry for each problem, located relative to the space.
    """
    if isinstance(raw, Space):
        return raw
    if not isinstance(raw, Mapping):
        # Pydantic reports a ValueError of a validator, but not a TypeError.
        raise ValueError(f"is {shown(raw)}. It must map hyperparameters to values.")  # noqa: TRY004
    fixed: dict[str, ParameterValue] = {}
    searched: dict[str, Dimension] = {}
    problems: list[_Problem] = []
    for name, value in raw.items():
        own = list(_problems(name, value))
        problems += [_Problem(p.text, (str(name), *p.location)) for p in own]
        if own:
            continue
        if isinstance(value, Mapping):
            searched[name] = Range(**value, integer=_number_type(name) is int)
        elif isinstance(value, (list, tuple)) and len(value) > 1:
            searched[name] = Choice(tuple(value))
        else:
            fixed[name] = value[0] if isinstance(value, (list, tuple)) else value
    missing = [name for name in _required(raw) if name not in raw]
    problems += [_Problem("is missing. It has no default value.", (name,)) for name in missing]
    if problems:
        raise _validation_error(problems)
    return Space(fixed, searched)


def _required(raw: Mapping[str, Any]) -> list[str]:
    """Return the hyperparameters that have to be given: a network needs a cell."""
    return [] if raw.get("wide") in ("only", ["only"]) else ["cell"]


def _problems(name: str, value: Any) -> Iterator[_Problem]:
    if name not in _OWNERS:
        yield _Problem(f"is not a hyperparameter. {closest_match(str(name), _OWNERS)}")
    elif isinstance(value, Mapping):
        yield from _range_problems(name, value)
    elif isinstance(value, (list, tuple)):
        if not value:
            yield _Problem("is an empty choice. Give at least one value.")
        for member in _duplicates(value):
            yield _Problem(f"contains {shown(member)} more than once. Give each value once.")
        for index, member in enumerate(value):
            for text in _value_problems(name, member):
                yield _Problem(text, (str(index),))
    else:
        yield from (_Problem(text) for text in _value_problems(name, value))


def _duplicates(values: Sequence[Any]) -> list[Any]:
    # By their texts, because 1 == True == 1.0, but they are different choices.
    counts = Counter(repr(value) for value in values)
    by_text = {repr(value): value for value in values}
    return [by_text[text] for text, count in counts.items() if count > 1]


def _range_problems(name: str, value: Mapping[str, Any]) -> Iterator[_Problem]:
    kind = _number_type(name)
    if kind is None:
        yield _Problem(
            "is not a number, so it cannot be a range. Give a value or a list of values."
        )
        return
    for key in set(value) - set(_RANGE_KEYS):
        hint = closest_match(str(key), _RANGE_KEYS)
        yield _Problem(f"is unknown. {hint}", (str(key),))
    if not isinstance(value.get("log", False), bool):
        yield _Problem(f"is {shown(value['log'])}. It must be true or false.", ("log",))
    for key in ("low", "high", "step"):
        if key not in value and key != "step":
            yield _Problem("is missing. A range needs low and high.", (key,))
        elif key in value and not _is_number(value[key], kind):
            expected = "a whole number" if kind is int else "a number"
            yield _Problem(f"is {shown(value[key])}. It must be {expected}.", (key,))
        elif key in value and key != "step":
            for text in _value_problems(name, value[key]):
                yield _Problem(text, (key,))
    if all(_is_number(value.get(key), kind) for key in ("low", "high")):
        yield from (_Problem(text) for text in _bound_problems(value))


def _bound_problems(value: Mapping[str, Any]) -> Iterator[str]:
    low, high, step = value["low"], value["high"], value.get("step")
    if low > high:
        yield f"is inverted: low {low} is above high {high}. Exchange them."
    if low == high:
        yield f"is empty: low and high are both {low}. To fix the value, write only {low}."
    if value.get("log") is True and low <= 0:
        yield f"is logarithmic, so low must be above 0, but it is {low}. Raise it, or remove log."
    if value.get("log") is True and step is not None:
        yield "is logarithmic, so it cannot have a step. Remove log or step."
    if isinstance(step, (int, float)) and not 0 < step <= high - low:
        yield f"has the step {step}. It must be above 0 and at most high - low, {high - low:g}."


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)


def _value_problems(name: str, value: Any) -> list[str]:
    owner = _OWNERS[name]
    others = {"cell": "gru"} if owner is ModelConfig else {}
    try:
        owner.model_validate({**others, name: value}, strict=True)
    except ValidationError as error:
        return [problem_text(entry) for entry in error.errors()]
    return []


def _validation_error(problems: list[_Problem]) -> ValidationError:
    details = [
        InitErrorDetails(
            type=PydanticCustomError("space", "{text}", {"text": problem.text}),
            loc=problem.location,
            input=None,
        )
        for problem in problems
    ]
    return ValidationError.from_exception_data("space", details)
