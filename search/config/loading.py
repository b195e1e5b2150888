"""Read, override, validate and write a search config as YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)

from celltune.search.config.schema import (
    SearchConfig,
)
from celltune.search.config.space import hyperparameters
from celltune.search.errors import ConfigError
from celltune.spelling import closest_match


class Readable(Protocol):
    """A file that can be read as text: a `pathlib.Path` or an object in an object store."""

    def read_text(self, encoding: str) -> str:
        """Return the file's text.

        Raises:
            OSError: the file can't be read.
        """


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number, and a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_config(path: Readable, overrides: Sequence[str] = ()) -> SearchConfig:
    """Read a config file.

    Args:
        path: a YAML file.
        overrides: `key.path=value` each, the value written as in YAML.

    Raises:
        ConfigError: with every mistake in it.
    """
    return parse_config(read_yaml(path), origin=str(path), overrides=overrides)


def parse_config(
    raw: Mapping[str, Any], *, origin: str = "The config", overrides: Sequence[str] = ()
) -> SearchConfig:
    """Read a config that was read from YAML or written as a dict (see `load_config`)."""
    content = _plain_copy(raw)
    for override in overrides:
        _apply_override(content, override)
    try:
        return SearchConfig.model_validate(content)
    except ValidationError as error:
        mistakes = [_describe(line) for line in error.errors()]
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        listed = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise ConfigError(f"{origin} has {count}:\n{listed}") from error


def first_mistake(error: ValidationError) -> str:
    """Say the first of an error's mistakes in words."""
    return _describe(error.errors()[0])


def read_yaml(path: Readable) -> Mapping[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: it can't be read or isn't a mapping.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"The config {path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The config {path} isn't UTF-8 text: {error.reason}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The config {path} isn't valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"The config {path} is nested too deeply to be read.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"The config {path} must map keys to values (name, data, space, ...); "
            f"it holds {'nothing' if content is None else type(content).__name__}."
        )
    return content


def dump_config(config: SearchConfig) -> str:
    """Write a config as YAML, with every default spelled out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _plain_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_copy(member) for key, member in value.items()}
    return value


def _apply_override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"The override '{override}' must have the form key.path=value, "
            "for example budget.trials=40."
        )
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"The override '{override}' has no valid YAML value: {error}") from error
    place = content
    for key in keys[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    place[keys[-1]] = value


def _describe(line: Any) -> str:
    where = [str(part) for part in line["loc"]]
    name = ".".join(where) or "the config"
    if line["type"] == "extra_forbidden":
        return f"{name}: is unknown. {closest_match(where[-1], _fields_at(where[:-1]))}"
    if line["type"] == "missing":
        return f"{name}: is missing."
    text = line["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    value = line["input"]
    hidden = isinstance(value, (Mapping, BaseModel)) or line["type"] == "password"
    shown = "" if hidden else f" (is {value!r})"
    return f"{name}: {text}{shown}"


def _fields_at(where: Sequence[str]) -> tuple[str, ...]:
    if list(where) == ["space"]:
        return hyperparameters()
    model: Any = SearchConfig
    for part in where:
        annotation = model.model_fields[part].annotation
        members = (annotation, *getattr(annotation, "__args__", ()))
        model = next(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))
    return tuple(model.model_fields)


def resolve(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Read and check a config in any of the forms that `launch` takes.

    Raises:
        ConfigError: with every mistake in it.
    """
    if name is not None:
        overrides = [*overrides, f"name={name!r}"]
    if isinstance(config, SearchConfig):
        config = config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return anchored(parse_config(config, overrides=overrides))
    return anchored(load_config(Path(config), overrides))


def anchored(config: SearchConfig) -> SearchConfig:
    """Make the config's paths absolute, so that a resume finds them from any folder."""
    return config.model_copy(
        update={"data": config.data.anchored(), "tracking": config.tracking.anchored()}
    )
