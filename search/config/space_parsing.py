"""Validation of the search space and of the first trials; all problems are reported at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from celltune.models.class_weights import as_text, is_one_value
from celltune.models.config import ModelConfig
from celltune.search.config.problems import problem_text, shown
from celltune.search.config.space import (
    OWNERS,
    Choice,
    Dimension,
    Highest,
    Range,
    Space,
    model_and_training,
    number_type,
)
from celltune.search.types import ParameterValue, is_wide_only
from celltune.spelling import closest_match

_RANGE_KEYS = ("low", "high", "log", "step")
_MAX_PROBLEMS = 100
"""Number of problems after which the rest is not checked; each takes time."""


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
    for name, written in raw.items():
        if len(problems) >= _MAX_PROBLEMS:
            break
        value = _without_collections(name, written)
        own = list(islice(_problems(name, value), _MAX_PROBLEMS))
        problems += [_Problem(p.text, (str(name), *p.location)) for p in own]
        if own:
            continue
        if isinstance(value, Mapping):
            searched[name] = Range(**value, integer=number_type(name) is int)
        elif isinstance(value, (list, tuple)) and len(value) > 1:
            searched[name] = Choice(tuple(value))
        else:
            fixed[name] = value[0] if isinstance(value, (list, tuple)) else value
    if len(problems) < _MAX_PROBLEMS:
        problems += _problems_of_whole(raw, fixed)
    if problems:
        raise _validation_error(problems)
    return Space(fixed, searched)


def _without_collections(name: Any, value: Any) -> Any:
    """Return a value or a choice, with class weights as single values if they are valid."""
    if name == "class_weights" and isinstance(value, (list, tuple)) and not is_one_value(value):
        return [_single(name, member) for member in value]
    return _single(name, value)


def _single(name: Any, value: Any) -> Any:
    """Return a value of a hyperparameter, with class weights as text if they are valid."""
    if name == "class_weights" and is_one_value(value):
        with suppress(ValueError):
            return as_text(value)
    return value


def _problems_of_whole(
    raw: Mapping[Any, Any], fixed: Mapping[str, ParameterValue]
) -> Iterator[_Problem]:
    """Yield the problems that concern several hyperparameters of a space."""
    if "cell" not in raw and not is_wide_only(fixed):
        yield _Problem("is missing. It has no default value.", ("cell",))
    wide = raw.get("wide")
    if isinstance(wide, (list, tuple)) and len(wide) > 1 and "only" in wide:
        # One model without other hyperparameters: a sampler would propose it again and again.
        yield _Problem(
            "contains 'only', which is a single model, so there is nothing to search. Remove it "
            "from the choice and set first_trials to [{wide: only}].",
            ("wide",),
        )


def parse_first_trials(raw: Any, info: ValidationInfo) -> tuple[dict[str, ParameterValue], ...]:
    """Validate the first trials of a search in the form in which YAML contains them.

    Args:
        raw: a list of mappings from hyperparameters to values.
        info: contains the validated `space`, if it is valid.

    Raises:
        ValidationError: with one entry for each problem, located relative to the list.
    """
    if not isinstance(raw, (list, tuple)):
        # Pydantic reports a ValueError of a validator, but not a TypeError.
        raise ValueError(  # noqa: TRY004
            f"is {shown(raw)}. It must be a list of mappings of hyperparameters to values."
        )
    space = info.data.get("space")
    problems: list[_Problem] = []
    has_wide_only = False
    for index, entry in enumerate(raw):
        if len(problems) >= _MAX_PROBLEMS:
            break
        own = list(islice(_entry_problems(entry), _MAX_PROBLEMS))
        own = own or list(_combination_problems(entry, space))
        if not own and is_wide_only(entry):
            if has_wide_only:
                again = "is an earlier one again: {wide: only} is one model. Remove it."
                own.append(_Problem(again))
            has_wide_only = True
        problems += [_Problem(p.text, (str(index), *p.location)) for p in own]
    if problems:
        raise _validation_error(problems)
    return tuple({name: _typed(name, value) for name, value in entry.items()} for entry in raw)


def _typed(name: str, written: Any) -> ParameterValue:
    value: ParameterValue = _single(name, written)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and number_type(name) is float else value  # type: ignore[arg-type]


def _entry_problems(entry: Any) -> Iterator[_Problem]:
    """Yield the problems of the values of a first trial."""
    if not isinstance(entry, Mapping):
        yield _Problem(f"is {shown(entry)}. It must map hyperparameters to values.")
        return
    if not entry:
        yield _Problem("is empty. Give at least one value, or remove it.")
    for name, written in entry.items():
        value = _single(name, written)
        if name not in OWNERS:
            yield _Problem(_unknown(name), (str(name),))
        elif isinstance(value, (list, tuple, Mapping)) and name != "class_weights":
            yield _Problem("must be a single value.", (name,))
        else:
            yield from (_Problem(text, (name,)) for text in _value_problems(name, value))
        if name != "wide" and is_wide_only(entry):
            yield _Problem("has no effect, because wide is 'only'. Remove it.", (str(name),))


def _combination_problems(
    entry: Mapping[str, ParameterValue], space: Space | None
) -> Iterator[_Problem]:
    """Yield the problems of a first trial whose values are valid one by one."""
    if space is None:
        return
    params = space.suggest(Highest(), entry)
    if "cell" not in params and not is_wide_only(params):
        yield _Problem("is missing. The space has no cell, so a first trial needs one.", ("cell",))
        return
    try:
        model_and_training(params)
    except ValidationError as error:
        yield from (_Problem(problem_text(problem)) for problem in error.errors())


def _problems(name: str, value: Any) -> Iterator[_Problem]:
    if name not in OWNERS:
        yield _Problem(_unknown(name))
    elif name == "class_weights" and is_one_value(value):
        yield from (_Problem(text) for text in _value_problems(name, value))
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


def _unknown(name: Any) -> str:
    return f"is not a hyperparameter. {closest_match(str(name), OWNERS)}"


def _duplicates(values: Sequence[Any]) -> list[Any]:
    # By their texts, because 1 == True == 1.0, but they are different choices.
    counts = Counter(repr(value) for value in values)
    by_text = {repr(value): value for value in values}
    return [by_text[text] for text, count in counts.items() if count > 1]


def _range_problems(name: str, value: Mapping[str, Any]) -> Iterator[_Problem]:
    kind = number_type(name)
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
    owner = OWNERS[name]
    others = {"cell": "gru"} if owner is ModelConfig and value != "only" else {}
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
