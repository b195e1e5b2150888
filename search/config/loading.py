"""Read, override, validate and write configs as YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import BaseModel, ValidationError

from celltune.search.config.problems import problem_text, with_subject
from celltune.search.config.schema import SearchConfig
from celltune.search.config.settings import SELECTORS
from celltune.search.config.space import hyperparameters
from celltune.search.errors import ConfigError
from celltune.spelling import closest_match


class Readable(Protocol):
    """A file that can be read as text: a `pathlib.Path` or an object in an object store."""

    def read_text(self, encoding: str) -> str:
        """Return the file's text.

        Raises:
            OSError: the file cannot be read.
        """


class _Loader(yaml.SafeLoader):
    """A YAML 1.1 loader that reads 1e-3 as a number and rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' occurs twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_config(path: Readable, overrides: Sequence[str] = ()) -> SearchConfig:
    """Read and validate a config file.

    Args:
        path: a YAML file.
        overrides: Assignments of the form `key.path=value`, with the value written as in YAML.

    Raises:
        ConfigError: the config is invalid; the message lists every problem.
    """
    return parse_config(read_yaml(path), origin=f"The config {path}", overrides=overrides)


def parse_config(
    raw: Mapping[str, Any], *, origin: str = "The config", overrides: Sequence[str] = ()
) -> SearchConfig:
    """Validate a config given as plain values.

    Args:
        raw: the config as YAML contains it; it is not modified.
        origin: the config's name in messages.
        overrides: see `load_config`.

    Raises:
        ConfigError: the config is invalid; the message lists every problem.
    """
    content = _copy_mappings(raw)
    for override in overrides:
        _apply_override(content, override)
    try:
        return SearchConfig.model_validate(content)
    except ValidationError as error:
        problems = [_describe(entry, content) for entry in error.errors()]
        count = "an error" if len(problems) == 1 else f"{len(problems)} errors"
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"{origin} has {count}:\n{listed}") from error


def first_problem(error: ValidationError) -> str:
    """Return a description of the first problem in a validation error of a `SearchConfig`."""
    return _describe(error.errors()[0], {})


def read_yaml(path: Readable) -> Mapping[str, Any]:
    """Read a YAML file that contains a mapping.

    Raises:
        ConfigError: the file cannot be read, or does not contain a mapping.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The config {path} is not UTF-8 text: {error.reason}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The config {path} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"The config {path} is nested too deeply.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"The config {path} must map keys to values (name, data, space, ...), but it contains "
            f"{'nothing' if content is None else f'a {type(content).__name__}'}."
        )
    return content


def dump_config(config: SearchConfig) -> str:
    """Return a config as YAML, including all default values."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _copy_mappings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy_mappings(member) for key, member in value.items()}
    return value


def _apply_override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"`overrides` contains '{override}', which is not of the form key.path=value, such as "
            "budget.trials=40."
        )
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"`overrides` contains '{override}', whose value is not valid YAML: {error}"
        ) from error
    section = content
    for key in keys[:-1]:
        if not isinstance(section.get(key), dict):
            section[key] = {}
        section = section[key]
    section[keys[-1]] = value


def _describe(error: Any, content: Mapping[str, Any]) -> str:
    """Return a sentence about one entry of `ValidationError.errors()`."""
    location = [str(part) for part in error["loc"]]
    path = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"{path} is unknown. {closest_match(location[-1], _keys(location[:-1], content))}"
    return with_subject(path, problem_text(error))


def _keys(location: Sequence[str], content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that a section of a config may contain."""
    if list(location) == ["space"]:
        return hyperparameters()
    if len(location) == 1 and location[0] in SELECTORS:
        section = content.get(location[0])
        selected = SELECTORS[location[0]].settings_model(section or {})
        return tuple(selected.model_fields)
    model: Any = SearchConfig
    for key in location:
        annotation = model.model_fields[key].annotation
        members = (annotation, *getattr(annotation, "__args__", ()))
        model = next(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))
    return tuple(model.model_fields)


def resolve(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Validate a config in any of the forms that `launch` accepts, and make its paths absolute.

    Args:
        config: a config, its plain values, or the path of a YAML file.
        overrides: see `load_config`.
        name: the experiment's name, instead of the one in the config.

    Raises:
        ConfigError: the config is invalid; the message lists every problem.
    """
    if name is not None:
        overrides = [*overrides, f"name={name!r}"]
    if isinstance(config, SearchConfig):
        config = config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return anchored(parse_config(config, overrides=overrides))
    return anchored(load_config(Path(config), overrides))


def anchored(config: SearchConfig) -> SearchConfig:
    """Return a copy with absolute paths, so that a resume finds them from any directory."""
    return config.model_copy(
        update={"data": config.data.anchored(), "tracking": config.tracking.anchored()}
    )
