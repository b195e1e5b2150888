"""Rules about several hyperparameters, for all trials that a config describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from celltune.models.class_weights import given_weights
from celltune.search.config.space import Choice, Space, defaults
from celltune.search.types import ParameterValue

Params = Mapping[str, ParameterValue]


def check_vector_size(space: Space, first_trials: Sequence[Params], length: int) -> None:
    """Check that embeddings have the size of the word vectors that initialize them.

    Args:
        space: the search space.
        first_trials: hyperparameters that the config gives to the first trials.
        length: number of dimensions of the word vectors.

    Raises:
        ValueError: they do not.
    """
    values = {"space": space.to_yaml(), **_by_location(first_trials)}
    for location, params in values.items():
        size = params.get("embedding_size", length)
        if size != length:
            searched = location == "space" and "embedding_size" in space.searched
            raise ValueError(
                f"{location}.embedding_size is {'searched' if searched else size}, but the word "
                f"vectors of data.vectors have {length} dimensions. Remove embedding_size, or set "
                f"it to {length}."
            )


def check_schedule(space: Space, first_trials: Sequence[Params]) -> None:
    """Check that the learning rate stops rising before it reaches 0.

    Raises:
        ValueError: it does not, in a trial that the config allows.
    """
    for location, params in {"space": {}, **_by_location(first_trials)}.items():
        decay = min(_numbers(space, params, "decay_epochs"), default=None)
        warmup = max(_numbers(space, params, "warmup_epochs"))
        if decay is not None and decay <= warmup:
            raise ValueError(
                f"{location} allows decay_epochs {decay:g} with warmup_epochs {warmup:g}, so that "
                "the learning rate would have to fall to 0 before it has risen. Set decay_epochs "
                "above warmup_epochs."
            )


def check_class_weights(
    space: Space, first_trials: Sequence[Params], classes: Sequence[str]
) -> None:
    """Check that class weights are those of the classes of the data.

    Args:
        space: the search space.
        first_trials: hyperparameters that the config gives to the first trials.
        classes: the names of the classes.

    Raises:
        ValueError: they are not.
    """
    weights = {"space": space.values("class_weights")}
    for location, params in _by_location(first_trials).items():
        weights[location] = (params.get("class_weights", "none"),)
    for location, values in weights.items():
        for value in values:
            try:
                given_weights(str(value), classes)
            except ValueError as error:
                raise ValueError(f"{location}.class_weights {error}") from error


def _numbers(space: Space, given: Params, name: str) -> Iterator[float]:
    """Yield the numbers of a hyperparameter, of a range only its bounds."""
    dimension = space.searched.get(name)
    if name in given:
        values: tuple[ParameterValue, ...] = (given[name],)
    elif dimension is None or isinstance(dimension, Choice):
        values = dimension.values if dimension else (space.fixed.get(name, defaults()[name]),)
    else:
        values = (dimension.low, dimension.high)
    yield from (value for value in values if isinstance(value, (int, float)))


def _by_location(first_trials: Sequence[Params]) -> dict[str, Params]:
    return {f"first_trials.{index}": trial for index, trial in enumerate(first_trials)}
