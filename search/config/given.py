"""Limits of the configs that users give: sizes, numbers and secrets.

A stored config has none of these limits, so that the experiments of every release stay readable.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celltune.printable import printable
from celltune.search.config.durations import format_duration
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Range, Space, number_type
from celltune.search.errors import ConfigError
from celltune.search.types import ParameterValue
from celltune.search.uris import secret_in

_YEARS = 100 * 365 * 86_400
_SIZES: Mapping[str, int] = {
    "hidden_size": 65_536,
    "embedding_size": 65_536,
    "num_layers": 1_000,
    "batch_size": 1_000_000,
    "batch_tokens": 1_000_000_000,
    "decay_epochs": 1_000_000,
    "warmup_epochs": 1_000_000,
}
"""Largest values of hyperparameters."""
_COUNTS: Mapping[str, int] = {
    "retries": 1_000_000,
    "budget.trials": 1_000_000,
    "budget.max_epochs": 1_000_000,
    "budget.patience": 1_000_000,
    "budget.epoch_patience": 1_000_000,
    "resources.cpus_per_trial": 100_000,
    "resources.gpus_per_trial": 10_000,
    "resources.memory_per_trial_gb": 1_000_000,
    "resources.concurrent_trials": 1_000_000,
    "resources.trials_per_worker": 10_000,
    "resources.data_memory_gb": 1_000_000,
    "data.seed": 2**63 - 1,
    "data.vocabulary_size": 100_000_000,
    "data.max_tokens": 10_000_000,
    "data.vectors.size": 10_000,
    "data.vectors.epochs": 100_000,
}
"""Largest values of other keys."""
_DURATIONS = ("budget.time", "trial_timeout")

_PENALTY = 1e12
"""Largest penalty of the wide part, and the inverse of the smallest one."""

SMALLEST, LARGEST = 1e-30, 1e30
_LARGEST_FLOAT = sys.float_info.max
"""The numbers that a training in float32 can compute with."""
MAX_CHOICES = 1_000
"""Largest number of values of a choice."""
MAX_STEPS = 1_000_000
"""Largest number of steps of a range."""
MAX_WEIGHTS = 10**9
"""Largest number of weights of the recurrent layers, counted for a cell with a single gate."""


def largest_allowed() -> dict[str, int]:
    """Return the largest values that users may give, by key."""
    return {**_COUNTS, **{f"space.{name}": limit for name, limit in _SIZES.items()}}


def check_given(config: SearchConfig, keys: Sequence[str] | None = None) -> None:
    """Check a config that a user gives, before anything is allocated or stored.

    Args:
        config: the config.
        keys: the keys that the user set, such as `data`; None for all.

    Raises:
        ConfigError: a value is too large, or an address contains a secret; the message lists all
            such values.
    """
    problems = [
        *_secret_problems(config),
        *_count_problems(config),
        *_space_problems(config),
        *_first_trial_problems(config),
        *_model_problems(config),
    ]
    if keys is not None:
        problems = [text for text in problems if text.startswith(tuple(keys))]
    if problems:
        count = "an error" if len(problems) == 1 else f"{len(problems)} errors"
        raise ConfigError(f"The config has {count}:", *problems)


def _secret_problems(config: SearchConfig) -> Iterator[str]:
    uri = config.tracking.mlflow
    if uri is not None and (secret := secret_in(uri)):
        yield (
            f"tracking.mlflow must not contain a user name or password, but it contains {secret}, "
            "and the config is stored in the experiment's folder. Set $MLFLOW_TRACKING_USERNAME "
            "and $MLFLOW_TRACKING_PASSWORD, or $MLFLOW_TRACKING_TOKEN, instead; for a database, "
            "use its own file or variable of passwords, such as ~/.pgpass or $PGPASSWORD."
        )


def _count_problems(config: SearchConfig) -> Iterator[str]:
    for key, limit in _COUNTS.items():
        value = _value_of(config, key)
        if value is not None and value > limit:
            yield f"{key} is {_shown(value)}. It must be at most {limit:,}."
    for key in _DURATIONS:
        value = _value_of(config, key)
        if value is not None and value > _YEARS:
            yield (
                f"{key} is {_shown(value)} seconds. It must be at most {format_duration(_YEARS)}; "
                "null: no limit."
            )

    penalties = config.data.wide.penalties if config.data.wide is not None else ()
    if any(not 1 / _PENALTY <= penalty <= _PENALTY for penalty in penalties):
        yield f"data.wide.penalties must be between {1 / _PENALTY:g} and {_PENALTY:g}."
    if len(penalties) > MAX_CHOICES:
        yield f"data.wide.penalties has {len(penalties):,} values. Give at most {MAX_CHOICES:,}."


def _value_of(config: SearchConfig, key: str) -> Any:
    """Return the value of a dotted key; None if a section is not set."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _space_problems(config: SearchConfig) -> Iterator[str]:
    space = config.space
    for name, value in space.fixed.items():
        yield from _number_problems(f"space.{name}", name, value)
    for name, dimension in space.searched.items():
        key = f"space.{name}"
        if isinstance(dimension, Choice):
            if len(dimension.values) > MAX_CHOICES:
                yield (
                    f"{key} is a choice of {len(dimension.values):,} values. Give at most "
                    f"{MAX_CHOICES:,}; for numbers, use a range such as {{low: 1, high: 100}}."
                )
                continue
            yield from _number_problems(key, name, _largest(space, {}, name))
        else:
            yield from _range_problems(key, name, dimension)


def _range_problems(key: str, name: str, dimension: Range) -> Iterator[str]:
    yield from _number_problems(f"{key}.high", name, dimension.high)
    if dimension.log and dimension.low < SMALLEST:
        yield f"{key}.low is {dimension.low:g}. With log, it must be at least {SMALLEST:g}."
    if dimension.step is not None and (dimension.high - dimension.low) / dimension.step > MAX_STEPS:
        yield (
            f"{key}.step is {dimension.step:g}, so that the range has more than {MAX_STEPS:,} "
            "values. Raise or remove it."
        )


def _first_trial_problems(config: SearchConfig) -> Iterator[str]:
    for index, trial in enumerate(config.first_trials):
        for name, value in trial.items():
            yield from _number_problems(f"first_trials.{index}.{name}", name, value)


def _shown(value: Any) -> str:
    """Return a number with six digits; an integer may be larger than any float."""
    return printable(value, 60) if abs(value) > _LARGEST_FLOAT else f"{value:g}"


def _number_problems(key: str, name: str, value: ParameterValue) -> Iterator[str]:
    if not _is_number(value):
        return
    limit = _SIZES.get(name, LARGEST if number_type(name) is float else None)
    if limit is not None and value > limit:  # type: ignore[operator]
        shown = f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
        yield f"{key} is {_shown(value)}. It must be at most {shown}."


def _model_problems(config: SearchConfig) -> Iterator[str]:
    for location, given in _by_location(config).items():
        sizes = {
            name: _largest(config.space, given, name)
            for name in ("hidden_size", "embedding_size", "num_layers")
        }
        hidden, embedding, layers = sizes.values()
        weights = hidden * (embedding + hidden + (layers - 1) * 2 * hidden)
        if weights > MAX_WEIGHTS and all(size <= _SIZES[name] for name, size in sizes.items()):
            shown = ", ".join(f"{name} {size:g}" for name, size in sizes.items())
            yield (
                f"{location} allows a model with more than {weights:.1e} recurrent weights "
                f"({shown}). At most {MAX_WEIGHTS:.0e} are possible. Lower hidden_size or "
                "num_layers."
            )


def _by_location(config: SearchConfig) -> dict[str, Mapping[str, ParameterValue]]:
    trials = {f"first_trials.{index}": trial for index, trial in enumerate(config.first_trials)}
    sized = {key: trial for key, trial in trials.items() if not _SIZES.keys().isdisjoint(trial)}
    return {"space": {}, **sized}


def _largest(space: Space, given: Mapping[str, ParameterValue], name: str) -> float:
    """Return the largest value of a number in the trials of a space with some given values."""
    dimension = space.searched.get(name)
    if name not in given and isinstance(dimension, Range):
        return dimension.high
    values = (given[name],) if name in given else space.values(name)
    return max((value for value in values if isinstance(value, (int, float))), default=0)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
