"""The search space: from YAML to what is tried.

Every hyperparameter of `models.ModelConfig` and `models.TrainingConfig` has one line in a config's
`space`, in one of three forms; what isn't named keeps its default::

    space:
      cell: [gru, lstm]                                  # a choice
      hidden_size: {low: 16, high: 128, log: true}       # a range, of the parameter's own type
      embedding_size: 100                                # fixed
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.search.types import ParameterValue
from celltune.spelling import closest_match

_RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[ParameterValue, ...]


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both of which can be reached."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False


Dimension = Choice | Range


class Suggests(Protocol):
    """What a space asks for values; `optuna.Trial` is one."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Give one of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Give a whole number from low to high."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """Give a number from low to high."""


@dataclass(frozen=True)
class Space:
    """What is fixed and what is searched, by hyperparameter name."""

    fixed: Mapping[str, ParameterValue]
    searched: Mapping[str, Dimension]

    def suggest(self, source: Suggests) -> dict[str, ParameterValue]:
        """Ask `source` for every searched hyperparameter that is active, and add the fixed ones.

        `layer_dropout` is active only where there is more than one layer.
        """
        params: dict[str, ParameterValue] = {}
        for name in _OWNERS:
            if name == "layer_dropout" and not _has_layers(params, self.fixed):
                continue
            if name in self.searched:
                params[name] = _suggest(source, name, self.searched[name])
            elif name in self.fixed:
                params[name] = self.fixed[name]
        return params

    def to_yaml(self) -> dict[str, Any]:
        """Give the space in the form in which YAML holds it."""
        searched = {name: _dimension_to_yaml(value) for name, value in self.searched.items()}
        return {**self.fixed, **searched}


def _has_layers(params: Mapping[str, ParameterValue], fixed: Mapping[str, ParameterValue]) -> bool:
    layers = params.get("num_layers", fixed.get("num_layers", 1))
    return isinstance(layers, int) and layers > 1


def _suggest(source: Suggests, name: str, dimension: Dimension) -> ParameterValue:
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
    shown: dict[str, Any] = {"low": kind(dimension.low), "high": kind(dimension.high)}
    if dimension.log:
        shown["log"] = True
    if dimension.step is not None:
        shown["step"] = kind(dimension.step)
    return shown


# ---------------------------------------------------------------------------------------------
# Which hyperparameters there are, and what they accept: read off the two configs.


def _owners() -> dict[str, type[BaseModel]]:
    # num_layers comes before layer_dropout, whose activity depends on it.
    return {name: owner for owner in (ModelConfig, TrainingConfig) for name in owner.model_fields}


_OWNERS = _owners()


def hyperparameters() -> tuple[str, ...]:
    """Names that a space may hold."""
    return tuple(_OWNERS)


def defaults() -> dict[str, ParameterValue]:
    """Values of the hyperparameters that a trial doesn't name; those without a default are out."""
    return {
        name: owner.model_fields[name].default
        for name, owner in _OWNERS.items()
        if not owner.model_fields[name].is_required()
    }


def split(params: Mapping[str, ParameterValue]) -> tuple[ModelConfig, TrainingConfig]:
    """Give the configs of a trial's model and of its training."""
    chosen: list[dict[str, Any]] = [
        {name: value for name, value in params.items() if _OWNERS[name] is owner}
        for owner in (ModelConfig, TrainingConfig)
    ]
    return ModelConfig(**chosen[0]), TrainingConfig(**chosen[1])


def _number_type(name: str) -> type | None:
    annotation = _OWNERS[name].model_fields[name].annotation
    members = (
        typing.get_args(annotation)
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
        else (annotation,)
    )
    return next((kind for kind in (float, int) if kind in members), None)


# ---------------------------------------------------------------------------------------------
# Reading YAML's form, with every mistake found.


def parse_space(raw: Any) -> Space:
    """Read a space in YAML's form.

    Raises:
        ValidationError: with one line for each mistake, located below the space.
    """
    if isinstance(raw, Space):
        return raw
    if not isinstance(raw, Mapping):
        # Pydantic takes a ValueError of a validator as a mistake of the input, a TypeError not.
        raise ValueError(f"must map hyperparameters to values, is {raw!r}")  # noqa: TRY004
    fixed: dict[str, ParameterValue] = {}
    searched: dict[str, Dimension] = {}
    mistakes: list[tuple[tuple[str, ...], str, Any]] = []
    for name, value in raw.items():
        found = list(_mistakes(name, value))
        mistakes += [((str(name), *where), text, bad) for where, text, bad in found]
        if not found and isinstance(value, Mapping):
            searched[name] = Range(**value, integer=_number_type(name) is int)
        elif not found and isinstance(value, (list, tuple)) and len(value) > 1:
            searched[name] = Choice(tuple(value))
        elif not found:
            fixed[name] = value[0] if isinstance(value, (list, tuple)) else value
    mistakes += [((name,), "is missing", None) for name in _required() if name not in raw]
    if mistakes:
        raise _validation_error(mistakes)
    return Space(fixed, searched)


def _required() -> list[str]:
    return [name for name, owner in _OWNERS.items() if owner.model_fields[name].is_required()]


_Mistakes = typing.Iterator[tuple[tuple[str, ...], str, Any]]


def _mistakes(name: str, value: Any) -> _Mistakes:
    if name not in _OWNERS:
        yield (), f"is not a hyperparameter. {closest_match(str(name), _OWNERS)}", value
    elif isinstance(value, Mapping):
        yield from _range_mistakes(name, value)
    elif isinstance(value, (list, tuple)):
        if not value:
            yield (), "is an empty choice; name at least one value", value
        if len({repr(member) for member in value}) < len(value):
            yield (), "names a value twice", value
        for index, member in enumerate(value):
            yield from (((str(index),), text, member) for text in _value_mistakes(name, member))
    else:
        yield from (((), text, value) for text in _value_mistakes(name, value))


def _range_mistakes(name: str, value: Mapping[str, Any]) -> _Mistakes:
    kind = _number_type(name)
    if kind is None:
        yield (), "can't be a range, it isn't a number; give a value or a list of values", value
        return
    for key in set(value) - set(_RANGE_KEYS):
        yield (str(key),), f"is unknown. {closest_match(str(key), _RANGE_KEYS)}", value[key]
    if not isinstance(value.get("log", False), bool):
        yield ("log",), "must be true or false", value["log"]
    for key in ("low", "high", "step"):
        if key not in value and key != "step":
            yield (key,), "is missing; a range has low and high", None
        elif key in value and not _is_number(value[key], kind):
            what = "a whole number" if kind is int else "a number"
            yield (key,), f"must be {what}", value[key]
        elif key in value and key != "step":
            yield from (((key,), text, value[key]) for text in _value_mistakes(name, value[key]))
    if all(_is_number(value.get(key), kind) for key in ("low", "high")):
        yield from (((), text, dict(value)) for text in _bound_mistakes(value))


def _bound_mistakes(value: Mapping[str, Any]) -> typing.Iterator[str]:
    low, high, step = value["low"], value["high"], value.get("step")
    if low > high:
        yield f"is inverted: low {low} is above high {high}"
    if low == high:
        yield f"is empty: low and high are both {low}; to fix the value write {low} alone"
    if value.get("log") is True and low <= 0:
        yield f"is logarithmic, so low must be above 0, not {low}"
    if value.get("log") is True and step is not None:
        yield "is logarithmic, so it can't have a step"
    if isinstance(step, (int, float)) and not 0 < step <= high - low:
        yield f"has the step {step}, which must be above 0 and at most high - low"


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)


def _value_mistakes(name: str, value: Any) -> list[str]:
    owner = _OWNERS[name]
    # Two layers, so that a readout of the last two is judged by itself.
    required = {"cell": "gru", "num_layers": 2} if owner is ModelConfig else {}
    try:
        owner.model_validate({**required, name: value}, strict=True)
    except ValidationError as error:
        return [line["msg"] for line in error.errors()]
    return []


def _validation_error(mistakes: list[tuple[tuple[str, ...], str, Any]]) -> ValidationError:
    details = [
        InitErrorDetails(
            type=PydanticCustomError("space", "{text}", {"text": text}), loc=where, input=value
        )
        for where, text, value in mistakes
    ]
    return ValidationError.from_exception_data("space", details)
